package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"strata/internal/cli/render"
	"strata/internal/config"
	"strata/internal/container"
	"strata/internal/engine"
	"strata/internal/errdef"
	"strata/internal/network"
)

func (a *app) ps() *cobra.Command {
	var all, noTrunc, quiet, size, latest bool
	var last int
	var format string
	var filters []string
	cmd := &cobra.Command{
		Use:   "ps [OPTIONS]",
		Short: "List containers",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := parseContainerFilters(filters)
			if err != nil {
				return err
			}
			if latest {
				last = 1
			}
			if format, err = a.format(format, quiet, func(d config.Docker) string { return d.PsFormat }); err != nil {
				return err
			}
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				s, err := e.Containers()
				if err != nil {
					return err
				}
				records, err := s.List(cmd.Context())
				if err != nil {
					return err
				}
				if err := filter.resolve(cmd.Context(), e, records); err != nil {
					return err
				}
				measured := size || strings.Contains(format, ".Size")
				var rows []render.ContainerRow
				for _, rec := range records {
					if last > 0 && len(rows) == last {
						break
					}
					if !filter.match(rec) || !all && last <= 0 && !filter.state && !rec.State.Supervised() {
						continue
					}
					row := containerRow(rec, noTrunc)
					if measured {
						if row.Size, err = containerSize(cmd.Context(), e, s, rec); err != nil {
							return err
						}
					}
					rows = append(rows, row)
				}
				list := render.List{Format: format, Columns: render.ContainerColumns(size), Quiet: quiet}
				if quiet {
					list.Format = ""
				}
				return render.Rows(a.out, list, rows)
			})
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&all, "all", "a", false, "show those that do not run too")
	fl.BoolVar(&noTrunc, "no-trunc", false, "show whole ids and commands")
	fl.BoolVarP(&quiet, "quiet", "q", false, "show ids only")
	fl.BoolVarP(&size, "size", "s", false, "show what each container wrote")
	fl.BoolVarP(&latest, "latest", "l", false, "show the newest container")
	fl.IntVarP(&last, "last", "n", -1, "show the newest n containers")
	fl.StringVar(&format, "format", "", "print with a template, or json")
	filterVar(cmd, &filters, "f", "show only containers for which it holds: name= id= status= label= ancestor= exited= health= volume= network= before= since= is-task= publish= expose=")
	return cmd
}

func containerRow(rec container.Record, noTrunc bool) render.ContainerRow {
	now := time.Now()
	state := render.ContainerState{
		Status: string(rec.State.Status), ExitCode: rec.State.ExitCode, Started: rec.State.StartedAt, Finished: rec.State.FinishedAt,
		Health: healthOf(rec),
	}
	path, args := commandLine(rec)
	row := render.ContainerRow{
		ID: render.ID(rec.ID, noTrunc), Image: rec.ImageName, Command: render.Command(path, args, noTrunc),
		CreatedAt: render.Stamp(rec.Created), RunningFor: render.Ago(rec.Created, now), State: string(rec.State.Status),
		Status: state.Text(now), Names: rec.Name, Labels: render.Labels(rec.Config.Labels), LabelValues: rec.Config.Labels,
		Mounts: strings.Join(mountSources(rec), ","), Networks: strings.Join(networkNames(rec), ","), LocalVolumes: fmt.Sprint(len(rec.Volumes)),
	}
	if rec.State.Alive() {
		row.Ports = network.Summary(rec.Exposed(), rec.State.Ports)
	}
	return row
}

// healthOf is "" for a container without a check, and for one that does not run.
func healthOf(rec container.Record) string {
	if rec.State.Health == nil || !rec.State.Alive() {
		return ""
	}
	return rec.State.Health.Status
}

// containerSize is what the container wrote, and that with its image.
func containerSize(ctx context.Context, e *engine.Engine, s *container.Store, rec container.Record) (string, error) {
	n, err := s.Written(rec)
	if err != nil {
		return "", err
	}
	return render.ContainerSize(n, n+imageSize(ctx, e, rec)), nil
}

// imageSize is the size of the container's image, 0 when that is gone.
func imageSize(ctx context.Context, e *engine.Engine, rec container.Record) int64 {
	img, err := e.Images().Inspect(ctx, rec.Image.String())
	if err != nil {
		return 0
	}
	size, err := e.Images().Size(img)
	if err != nil {
		return 0
	}
	return size
}

// commandLine splits what the container runs the way docker does: the first word, and the rest.
func commandLine(rec container.Record) (path string, args []string) {
	words := append(slices.Clone(rec.Config.Entrypoint), rec.Config.Cmd...)
	if len(words) == 0 {
		return "", nil
	}
	return words[0], words[1:]
}

func mountSources(rec container.Record) []string {
	var sources []string
	for _, b := range rec.Host.Binds {
		sources = append(sources, b.Source)
	}
	for _, v := range rec.Volumes {
		sources = append(sources, v.Name)
	}
	return sources
}

// containerFilter holds docker's filters of ps: values of one key are alternatives, keys must all hold.
type containerFilter struct {
	values map[string][]string
	// before and since are the times that a container was made before, or after, to pass; zero without such a filter.
	before, since time.Time
	state         bool // a filter on the state shows stopped containers without -a
}

func parseContainerFilters(exprs []string) (containerFilter, error) {
	f := containerFilter{values: map[string][]string{}}
	for _, expr := range exprs {
		key, value, _ := strings.Cut(expr, "=")
		switch key {
		case "name", "id", "label", "ancestor", "volume", "network", "before", "since":
		case "is-task":
			if value != "true" && value != "false" {
				return f, fmt.Errorf("invalid filter 'is-task=%s': want true or false", value)
			}
		case "status":
			if !slices.Contains(containerStates(), value) {
				return f, errdef.WithHint(fmt.Errorf("invalid filter 'status=%s': %w", value, errdef.ErrInvalid), "the states are "+strings.Join(containerStates(), ", "))
			}
			f.state = true
		case "health":
			if !slices.Contains([]string{"starting", "healthy", "unhealthy", "none"}, value) {
				return f, fmt.Errorf("invalid filter 'health=%s': want starting, healthy, unhealthy or none", value)
			}
		case "exited":
			if _, err := strconv.Atoi(value); err != nil {
				return f, fmt.Errorf("--filter exited=%s: want an exit code", value)
			}
			f.state = true
		case "publish", "expose":
			if _, err := network.ParsePorts(value); err != nil {
				return f, fmt.Errorf("error while looking up for %s %s: %w", key, value, err)
			}
		default:
			return f, fmt.Errorf("--filter %q: no such filter: name, id, status, label, ancestor, exited, health, volume, network, before, since, is-task, publish or expose", key)
		}
		f.values[key] = append(f.values[key], value)
	}
	return f, nil
}

// containerStates are docker's words for a container's state.
func containerStates() []string {
	return []string{"created", "restarting", "running", "removing", "paused", "exited", "dead"}
}

// resolve finds the containers that before and since name among all, the names of networks that are given by id, and the ids of images.
func (f *containerFilter) resolve(ctx context.Context, e *engine.Engine, all []container.Record) error {
	for key, into := range map[string]*time.Time{"before": &f.before, "since": &f.since} {
		for _, ref := range f.values[key] {
			i := slices.IndexFunc(all, func(rec container.Record) bool { return rec.Name == strings.TrimPrefix(ref, "/") })
			if i < 0 {
				i = slices.IndexFunc(all, func(rec container.Record) bool { return strings.HasPrefix(rec.ID, ref) })
			}
			if i < 0 {
				return fmt.Errorf("no such container: %s: %w", ref, errdef.ErrNotFound)
			}
			*into = all[i].Created
		}
		delete(f.values, key)
	}
	for i, ref := range f.values["network"] {
		if n, err := e.Networks().Lookup(ref); err == nil {
			f.values["network"][i] = n.Name
		}
	}
	for i, ref := range f.values["ancestor"] {
		if img, err := e.Images().Resolve(ctx, ref); err == nil {
			f.values["ancestor"][i] = img.ID.Encoded()
		}
	}
	return nil
}

func (f containerFilter) match(rec container.Record) bool {
	if !f.before.IsZero() && !rec.Created.Before(f.before) || !f.since.IsZero() && !rec.Created.After(f.since) {
		return false
	}
	for key, values := range f.values {
		holds := func(v string) bool { return matchOne(rec, key, v) }
		if key == "label" { // docker: all labels must be there
			if slices.ContainsFunc(values, func(v string) bool { return !holds(v) }) {
				return false
			}
		} else if !slices.ContainsFunc(values, holds) {
			return false
		}
	}
	return true
}

func matchOne(rec container.Record, key, value string) bool {
	switch key {
	case "name":
		return engine.NameMatches(value, rec.Name) || engine.NameMatches(value, "/"+rec.Name) // the name that docker has inside
	case "id":
		return strings.HasPrefix(rec.ID, value)
	case "status":
		return string(rec.State.Status) == value
	case "health":
		return cmp.Or(healthOf(rec), "none") == value
	case "publish", "expose":
		return hasPort(rec, key, value)
	case "volume":
		return hasMount(rec, value)
	case "network":
		return slices.Contains(networkNames(rec), value)
	case "is-task":
		return value == "false" // tasks are a cluster's
	case "exited":
		return rec.State.Status == container.Exited && fmt.Sprint(rec.State.ExitCode) == value
	case "ancestor":
		return rec.ImageName == value || rec.ImageName == value+":latest" || strings.HasPrefix(rec.Image.Encoded(), value)
	case "label":
		name, want, exact := strings.Cut(value, "=")
		got, ok := rec.Config.Labels[name]
		return ok && (!exact || got == want)
	}
	return false
}

// hasMount reports whether the container has the volume, or the host's directory, or anything at that place.
func hasMount(rec container.Record, value string) bool {
	for _, v := range rec.Volumes {
		if v.Name == value || v.Destination == value {
			return true
		}
	}
	return slices.ContainsFunc(rec.Host.Binds, func(b container.Bind) bool { return b.Source == value || b.Destination == value })
}
