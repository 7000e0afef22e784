package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"strata/internal/cli/render"
	"strata/internal/config"
	"strata/internal/container"
	"strata/internal/engine"
)

func (a *app) volumeGroup() *cobra.Command {
	return a.group("volume", "Work with volumes", a.volumeCreate(), a.volumeExport(), a.volumeImport(), a.volumeInspect(), a.volumeLs(), a.volumePrune(), a.volumeRm())
}

func (a *app) volumeCreate() *cobra.Command {
	var name, driver string
	var labels, options []string
	cmd := &cobra.Command{
		Use:   "create [OPTIONS] [VOLUME]",
		Short: "Make a volume",
		Args:  between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && name != "" {
				return errors.New("conflicting options: cannot specify a volume-name through both --name and as a positional arg")
			}
			if len(args) == 1 {
				name = args[0]
			}
			if driver != "local" {
				return container.NoDriver(driver)
			}
			var o container.VolumeOptions
			var err error
			if o.Labels, err = keyValues("label", labels); err != nil {
				return err
			}
			if o.Options, err = keyValues("opt", options); err != nil {
				return err
			}
			return a.withContainers(cmd.Context(), func(s *container.Store) error {
				name, err := s.CreateVolume(cmd.Context(), name, o)
				if err == nil {
					fmt.Fprintln(a.out, name)
				}
				return err
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&name, "name", "", "name of the volume")
	_ = fl.MarkHidden("name") // fails only for a flag that is not there
	fl.StringVarP(&driver, "driver", "d", "local", "driver of the volume: local")
	fl.StringArrayVar(&labels, "label", nil, "set a label on the volume")
	fl.StringArrayVarP(&options, "opt", "o", nil, "option of the driver: type=, device=, o=, as mount has them")
	return cmd
}

func (a *app) volumeLs() *cobra.Command {
	var quiet bool
	var format string
	var filters []string
	cmd := &cobra.Command{
		Use:     "ls [OPTIONS]",
		Aliases: []string{"list"},
		Short:   "List volumes",
		Args:    exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := parseVolumeFilters(filters)
			if err != nil {
				return err
			}
			if format, err = a.format(format, quiet, func(d config.Docker) string { return d.VolumesFormat }); err != nil {
				return err
			}
			return a.withContainers(cmd.Context(), func(s *container.Store) error {
				all, err := s.ListVolumes(cmd.Context())
				if err != nil {
					return err
				}
				var rows []render.VolumeRow
				for _, v := range all {
					if f.match(v) {
						rows = append(rows, render.VolumeRow{
							Driver: "local", Name: v.Name, Scope: "local", Mountpoint: s.VolumePath(v.Name), Labels: render.Labels(v.Labels), LabelValues: v.Labels,
							Links: "N/A", Size: "N/A",
						})
					}
				}
				return render.Rows(a.out, render.List{Format: format, Columns: render.VolumeColumns(), Quiet: quiet, Key: "Name"}, rows)
			})
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&quiet, "quiet", "q", false, "show names only")
	fl.StringVar(&format, "format", "", "print with a template, or json")
	filterVar(cmd, &filters, "f", "show only volumes for which it holds: name= label= label!= driver= dangling=")
	return cmd
}

// volumeFilter holds docker's filters of volumes: values of one key are alternatives, labels must all be there.
type volumeFilter map[string][]string

func parseVolumeFilters(exprs []string) (volumeFilter, error) {
	f := volumeFilter{}
	for _, expr := range exprs {
		key, value, _ := strings.Cut(expr, "=")
		switch {
		case key == "dangling" && value != "true" && value != "false" && value != "1" && value != "0":
			return nil, fmt.Errorf("invalid filter 'dangling=%s': want true or false", value)
		case key != "name" && key != "label" && key != "label!" && key != "driver" && key != "dangling" && key != "all":
			return nil, fmt.Errorf("--filter %q: no such filter: name, label, label!, driver or dangling", key)
		}
		f[key] = append(f[key], value)
	}
	return f, nil
}

func (f volumeFilter) match(v container.VolumeUsage) bool {
	for key, values := range f {
		some := false
		for _, value := range values {
			name, want, exact := strings.Cut(value, "=")
			got, there := v.Labels[name]
			has := there && (!exact || got == want)
			switch key {
			case "name":
				some = some || engine.NameMatches(value, v.Name)
			case "driver":
				some = some || value == "local"
			case "dangling":
				some = some || (v.Links == 0) == (value == "true" || value == "1")
			case "label", "label!":
				if has != (key == "label") {
					return false
				}
				some = true
			case "all":
				some = true
			}
		}
		if !some {
			return false
		}
	}
	return true
}

func (a *app) volumeInspect() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "inspect [OPTIONS] VOLUME [VOLUME...]",
		Short: "Show all that is known of volumes",
		Args:  atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.inspectEach(cmd.Context(), args, format, func(e *engine.Engine, name string) (any, error) {
				return inspectOne(cmd.Context(), e, "volume", name, false)
			})
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "print with a template, or json")
	return cmd
}

func volumeDocument(ctx context.Context, s *container.Store, name string) (render.VolumeInspect, error) {
	v, err := s.Volume(ctx, name)
	return render.VolumeInspect{
		CreatedAt: v.Created.UTC().Format(time.RFC3339), Driver: "local", Labels: v.Labels, Mountpoint: s.VolumePath(name), Name: name, Options: v.Options, Scope: "local",
	}, err
}

func (a *app) volumeRm() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:     "rm [OPTIONS] VOLUME [VOLUME...]",
		Aliases: []string{"remove"},
		Short:   "Remove volumes that no container has",
		Args:    atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withContainers(cmd.Context(), func(s *container.Store) error {
				var errs []error
				for _, name := range args {
					err := s.RemoveVolume(cmd.Context(), name)
					if _, gone := s.Volume(cmd.Context(), name); force && err != nil && gone != nil {
						err = nil
					}
					if err != nil {
						errs = append(errs, err)
						continue
					}
					fmt.Fprintln(a.out, name)
				}
				return errors.Join(errs...)
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "do not complain of one that is not there")
	return cmd
}

func (a *app) volumeExport() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "export [OPTIONS] VOLUME",
		Short: "Write what a volume has as a tar archive",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withContainers(cmd.Context(), func(s *container.Store) error {
				w := a.out
				if output != "" && output != "-" {
					f, err := os.Create(output)
					if err != nil {
						return err
					}
					defer f.Close()
					w = f
				}
				return s.ExportVolume(cmd.Context(), args[0], w)
			})
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write instead of standard output")
	return cmd
}

func (a *app) volumeImport() *cobra.Command {
	return &cobra.Command{
		Use:   "import VOLUME [FILE|-]",
		Short: "Fill a volume from a tar archive, making it if it is not there",
		Args:  between(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withContainers(cmd.Context(), func(s *container.Store) error {
				var r io.Reader = a.in
				if len(args) == 2 && args[1] != "-" {
					f, err := os.Open(args[1])
					if err != nil {
						return err
					}
					defer f.Close()
					r = f
				}
				if err := s.ImportVolume(cmd.Context(), args[0], r); err != nil {
					return err
				}
				fmt.Fprintln(a.out, args[0])
				return nil
			})
		},
	}
}
