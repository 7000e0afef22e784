package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"strata/internal/cli/render"
	"strata/internal/container"
	"strata/internal/engine"
	"strata/internal/errdef"
	"strata/internal/image"
	"strata/internal/reference"
)

func (a *app) inspect() *cobra.Command { return a.inspectKind("") }

// kinds are those of the things that inspect finds by name, in the order in which docker looks for them.
var kinds = []string{"container", "image", "network", "volume"}

// inspectKind inspects things of one of the kinds, or with "" whatever has the name.
func (a *app) inspectKind(kind string) *cobra.Command {
	var format string
	var size bool
	noun := kind + "s"
	if kind == "" {
		noun = "containers, images, networks or volumes"
	}
	cmd := &cobra.Command{
		Use:   "inspect [OPTIONS] NAME [NAME...]",
		Short: "Show all that is known of " + noun,
		Args:  atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if kind != "" && !slices.Contains(kinds, kind) {
				return fmt.Errorf("unknown type: %q: must be one of %q", kind, kinds)
			}
			return a.inspectEach(cmd.Context(), args, format, func(e *engine.Engine, name string) (any, error) {
				if kind != "" {
					return inspectOne(cmd.Context(), e, kind, name, size)
				}
				return inspectAny(cmd.Context(), e, name, size)
			})
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "print with a template, or json")
	cmd.Flags().StringVar(&kind, "type", kind, strings.Join(kinds, ", "))
	cmd.Flags().BoolVarP(&size, "size", "s", false, "show what a container wrote")
	return cmd
}

// inspectEach prints the documents of all that are found, and then says what was not.
func (a *app) inspectEach(ctx context.Context, names []string, format string, document func(*engine.Engine, string) (any, error)) error {
	return a.with(ctx, func(e *engine.Engine) error {
		var docs []any
		var errs []error
		for _, name := range names {
			doc, err := document(e, name)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			docs = append(docs, doc)
		}
		return errors.Join(append([]error{render.Inspect(a.out, format, docs)}, errs...)...)
	})
}

func inspectAny(ctx context.Context, e *engine.Engine, name string, size bool) (any, error) {
	for _, kind := range kinds {
		// What is no name of one kind may be one of another.
		if doc, err := inspectOne(ctx, e, kind, name, size); !errors.Is(err, errdef.ErrNotFound) && (kind == "container" || !errors.Is(err, errdef.ErrInvalid)) {
			return doc, err
		}
	}
	return nil, noSuchObject(name)
}

// noSuchObject has docker's exact words, which scripts look for.
type noSuchObject string

func (name noSuchObject) Error() string { return "No such object: " + string(name) }
func (noSuchObject) Unwrap() error      { return errdef.ErrNotFound }

func inspectOne(ctx context.Context, e *engine.Engine, kind, name string, size bool) (any, error) {
	switch kind {
	case "image":
		img, err := e.Images().Inspect(ctx, name)
		if err != nil {
			return nil, err
		}
		return imageDocument(e, img)
	case "network":
		return networkDocument(ctx, e, name)
	}
	s, err := e.Containers()
	if err != nil {
		return nil, err
	}
	if kind == "volume" {
		return volumeDocument(ctx, s, name)
	}
	rec, err := s.Lookup(ctx, name)
	if err != nil {
		return nil, err
	}
	return containerDocument(ctx, e, s, rec, size)
}

func imageDocument(e *engine.Engine, img image.Image) (render.ImageInspect, error) {
	size, err := e.Images().Size(img)
	doc := render.ImageInspect{
		ID: img.ID.String(), RepoTags: []string{}, RepoDigests: append([]string{}, img.RepoDigests...), Parent: img.Parent.String(),
		Author: img.Config.Author, Config: render.NewImageConfig(img.Config.Config), Architecture: img.Config.Architecture,
		Variant: img.Config.Variant, Os: img.Config.OS, OsVersion: img.Config.OSVersion, Size: size,
		GraphDriver: render.GraphDriver{Name: "strata", Data: map[string]string{}},
		RootFS:      render.ImageRootFS{Type: "layers", Layers: img.DiffIDs()},
		Created:     render.Time(created(img)),
		Metadata:    render.ImageMetadata{LastTagTime: render.Time(img.LastTagged)},
	}
	if n := len(img.Config.History); n > 0 {
		doc.Comment = img.Config.History[n-1].Comment
	}
	for _, tag := range img.Tags {
		doc.RepoTags = append(doc.RepoTags, reference.Familiarize(tag))
	}
	if err == nil {
		doc.Origins, err = imageOrigins(e, img)
	}
	return doc, err
}

func imageOrigins(e *engine.Engine, img image.Image) ([]render.ImageOrigin, error) {
	origins := []render.ImageOrigin{}
	all, err := e.Images().Origins(img)
	for _, o := range all {
		origin := render.ImageOrigin{Name: o.Name, Digest: o.Digest.String(), By: o.Cause, Official: o.Official}
		if !o.Time.IsZero() {
			origin.Time = render.Time(o.Time)
		}
		origins = append(origins, origin)
	}
	return origins, err
}

func splitTag(tag string) (repository, name string) {
	ref, err := reference.Parse(tag)
	if err != nil {
		return tag, ""
	}
	return ref.FamiliarName(), ref.Tag
}

func containerDocument(ctx context.Context, e *engine.Engine, s *container.Store, rec container.Record, size bool) (render.ContainerInspect, error) {
	path, args := commandLine(rec)
	c := rec.Config
	doc := render.ContainerInspect{
		ID: rec.ID, Created: render.Time(rec.Created), Path: path, Args: append([]string{}, args...),
		State: render.ContainerInspectState{
			Status: string(rec.State.Status), Running: rec.State.Supervised(), Restarting: rec.State.Status == container.Restarting, Paused: rec.State.Status == container.Paused,
			OOMKilled: rec.State.OOMKilled, Dead: rec.State.Status == container.Dead, Pid: rec.State.Pid, ExitCode: rec.State.ExitCode,
			Error: rec.State.Error, StartedAt: render.Time(rec.State.StartedAt), FinishedAt: render.Time(rec.State.FinishedAt),
		},
		Image: rec.Image.String(), Name: "/" + rec.Name, LogPath: s.LogPath(rec), Driver: "strata", Platform: "linux",
		HostConfig: hostConfigDocument(rec), RestartCount: rec.State.RestartCount,
		GraphDriver: render.GraphDriver{Name: "strata", Data: map[string]string{"Dir": s.Dir(rec.ID)}},
		Mounts:      mountPoints(s, rec),
		Config: render.ContainerConfig{
			Hostname: c.Hostname, Domainname: c.Domainname, MacAddress: c.MacAddress, User: c.User, AttachStdin: c.AttachStdin, AttachStdout: c.AttachStdout, AttachStderr: c.AttachStderr,
			ExposedPorts: c.ExposedPorts, Tty: c.Tty, OpenStdin: c.OpenStdin, StdinOnce: c.StdinOnce, Env: c.Env, Cmd: c.Cmd,
			Healthcheck: c.Healthcheck, Image: c.Image, Volumes: c.Volumes, WorkingDir: c.WorkingDir, Entrypoint: c.Entrypoint,
			OnBuild: c.OnBuild, Labels: maps.Collect(maps.All(c.Labels)), StopSignal: c.StopSignal, StopTimeout: c.StopTimeout, Shell: c.Shell,
		},
	}
	var err error
	if doc.NetworkSettings, err = networkSettings(e, s, rec); err != nil {
		return doc, err
	}
	doc.State.Health = healthDocument(rec.State.Health)
	if size {
		n, err := s.Written(rec)
		if err != nil {
			return doc, err
		}
		whole := n + imageSize(ctx, e, rec)
		doc.SizeRw, doc.SizeRootFs = &n, &whole
	}
	return doc, nil
}

// mountMode is the mode of a mount as -v takes it behind the path: more is its second word, where given.
func mountMode(readOnly bool, more string, given bool) string {
	var words []string
	if readOnly {
		words = append(words, "ro")
	}
	if given {
		words = append(words, more)
	}
	return strings.Join(words, ",")
}

func bindMode(b container.Bind) string { return mountMode(b.ReadOnly, "idmap", b.Idmap) }

func volumeMode(v container.Volume) string { return mountMode(v.ReadOnly, "nocopy", v.NoCopy) }

func mountPoints(s *container.Store, rec container.Record) []render.MountPoint {
	mounts := []render.MountPoint{}
	for _, b := range rec.Host.Binds {
		mounts = append(mounts, render.MountPoint{
			Type: "bind", Source: b.Source, Destination: b.Destination, Mode: bindMode(b), RW: !b.ReadOnly, Propagation: cmp.Or(b.Propagation, "rprivate"),
		})
	}
	for _, v := range rec.Volumes {
		mounts = append(mounts, render.MountPoint{
			Type: "volume", Name: v.Name, Source: s.VolumePath(v.Name), Destination: v.Destination, Driver: "local", Mode: volumeMode(v), RW: !v.ReadOnly,
		})
	}
	for _, m := range rec.Host.Images {
		mounts = append(mounts, render.MountPoint{Type: "image", Name: m.Image, Destination: m.Destination})
	}
	return mounts
}
