package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"strata/internal/cli/render"
	"strata/internal/container"
	"strata/internal/engine"
	"strata/internal/image"
)

// prune is what all prunes have in common: they ask first, or only tell.
type prune struct {
	a          *app
	force, dry bool
}

// flags adds those that every prune has.
func (p *prune) flags(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVarP(&p.force, "force", "f", false, "do not ask")
	cmd.Flags().BoolVar(&p.dry, "dry-run", false, "print what would be removed and the space it takes, and remove nothing")
	return cmd
}

// run asks, and does it. what says what is removed.
func (p *prune) run(cmd *cobra.Command, what string, do func(e *engine.Engine) error) error {
	if !p.dry {
		if err := p.a.confirm(cmd.Context(), p.force, what); err != nil {
			return err
		}
	}
	return p.a.with(cmd.Context(), do)
}

// list prints what went, or would, under a heading.
func (p *prune) list(kind string, names []string) {
	if len(names) > 0 {
		fmt.Fprintf(p.a.out, "%s %s:\n%s\n", p.verb(), kind, strings.Join(names, "\n"))
	}
}

func (p *prune) verb() string {
	if p.dry {
		return "Would delete"
	}
	return "Deleted"
}

// images prints what was done to images.
func (p *prune) images(done []image.Deleted) {
	if len(done) > 0 {
		fmt.Fprintf(p.a.out, "%s Images:\n", p.verb())
	}
	p.a.printDeleted(done)
}

func (p *prune) total(bytes int64) {
	if p.dry {
		fmt.Fprintf(p.a.out, "Reclaimable space: %s (%d bytes)\n", render.HumanSize(bytes), bytes)
		return
	}
	fmt.Fprintf(p.a.out, "Total reclaimed space: %s\n", render.HumanSize(bytes))
}

func (a *app) systemPrune() *cobra.Command {
	p := prune{a: a}
	var o engine.PruneOptions
	cmd := &cobra.Command{
		Use:   "prune [OPTIONS]",
		Short: "Remove what is not in use: stopped containers, networks, untagged images, build cache",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			what := "This removes all containers that do not run, all networks that no running container is in, all untagged images, and build cache that no image shares."
			if o.All {
				what = "This removes all containers that do not run, all networks that no running container is in, all images without a container, and the whole build cache."
			}
			if len(o.Filters) > 0 {
				what += " Only what these filters hold for: " + strings.Join(o.Filters, ", ") + "."
			}
			o.DryRun = p.dry
			return p.run(cmd, what, func(e *engine.Engine) error {
				report, err := e.Prune(cmd.Context(), o)
				p.report(report)
				return err
			})
		},
	}
	cmd.Flags().BoolVarP(&o.All, "all", "a", false, "remove all images without a container, and all build cache")
	cmd.Flags().BoolVar(&o.Volumes, "volumes", false, "remove volumes that no container has, too")
	filterVar(cmd, &o.Filters, "", "only those for which it holds: until= label= label!=")
	return p.flags(cmd)
}

// report prints what a prune of everything removed, with an empty line after each kind.
func (p *prune) report(r engine.PruneReport) {
	apart := func(n int) {
		if n > 0 {
			fmt.Fprintln(p.a.out)
		}
	}
	p.list("Containers", r.Containers)
	apart(len(r.Containers))
	p.list("Networks", r.Networks)
	apart(len(r.Networks))
	p.list("Volumes", r.Volumes)
	apart(len(r.Volumes))
	p.images(r.Images)
	apart(len(r.Images))
	if r.Cache > 0 {
		fmt.Fprintf(p.a.out, "%s build cache entries: %d\n\n", p.verb(), r.Cache)
	}
	p.total(r.Freed)
}

func (a *app) imagePrune() *cobra.Command {
	p := prune{a: a}
	var o engine.ImagePrune
	var most sizeFlag
	cmd := &cobra.Command{
		Use:   "prune [OPTIONS]",
		Short: "Remove untagged images",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			what := "This removes all untagged images."
			if o.All {
				what = "This removes all images without a container."
			}
			o.Limits.Max = int64(most)
			if o.Limits.Max < 0 || o.Limits.Keep < 0 || o.Limits.UnusedFor < 0 {
				return usagef("a limit cannot be negative")
			}
			if o.Limits != (engine.ImageLimits{}) {
				if o.All {
					return usagef("--all takes all images, limits only those beyond them: give the one or the others")
				}
				what = "This removes all images without a container that are beyond the limits, also such with names."
			}
			o.DryRun = p.dry
			return p.run(cmd, what, func(e *engine.Engine) error {
				done, freed, err := e.PruneImages(cmd.Context(), o)
				p.images(done)
				fmt.Fprintln(a.out)
				p.total(freed)
				return err
			})
		},
	}
	cmd.Flags().BoolVarP(&o.All, "all", "a", false, "remove all images that no container uses")
	filterVar(cmd, &o.Filters, "", "only those for which it holds: until= label=")
	cmd.Flags().Var(&most, "max-used-space", "remove what was used longest ago until all images take at most so much")
	cmd.Flags().IntVar(&o.Limits.Keep, "keep", 0, "remove all but so many images of each repository")
	cmd.Flags().DurationVar(&o.Limits.UnusedFor, "unused-for", 0, "remove images that were not used for so long")
	return p.flags(cmd)
}

// capImages brings the images within the limits of strata.toml. That it fails is no failure of the verb.
func (a *app) capImages(ctx context.Context, e *engine.Engine) {
	if err := e.CapImages(ctx); err != nil {
		a.notes([]string{"the images could not be brought within their limits: " + err.Error()})
	}
}

func (a *app) containerPrune() *cobra.Command {
	p := prune{a: a}
	var o engine.ContainerPrune
	cmd := &cobra.Command{
		Use:   "prune [OPTIONS]",
		Short: "Remove all containers that do not run",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.DryRun = p.dry
			return p.run(cmd, "This removes all containers that do not run.", func(e *engine.Engine) error {
				removed, freed, err := e.PruneContainers(cmd.Context(), o)
				p.list("Containers", removed)
				fmt.Fprintln(a.out)
				p.total(freed)
				return err
			})
		},
	}
	filterVar(cmd, &o.Filters, "", "only those for which it holds: until= label= label!=")
	return p.flags(cmd)
}

func (a *app) volumePrune() *cobra.Command {
	p := prune{a: a}
	var o engine.VolumePrune
	var filters []string
	cmd := &cobra.Command{
		Use:   "prune [OPTIONS]",
		Short: "Remove the anonymous volumes that no container has",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := parseVolumeFilters(filters)
			if err != nil {
				return err
			}
			o.Keep = func(v container.VolumeUsage) bool { return !f.match(v) }
			what := "This removes the anonymous volumes that no container has."
			if o.All = o.All || len(f["all"]) > 0; o.All {
				what = "This removes all volumes that no container has."
			}
			o.DryRun = p.dry
			return p.run(cmd, what, func(e *engine.Engine) error {
				removed, freed, err := e.PruneVolumes(cmd.Context(), o)
				p.list("Volumes", removed)
				if len(removed) > 0 {
					fmt.Fprintln(a.out)
				}
				p.total(freed)
				return err
			})
		},
	}
	cmd.Flags().BoolVarP(&o.All, "all", "a", false, "those with names, too")
	filterVar(cmd, &filters, "", "only those for which it holds: label= label!=")
	return p.flags(cmd)
}

func (a *app) networkPrune() *cobra.Command {
	p := prune{a: a}
	var filters []string
	cmd := &cobra.Command{
		Use:   "prune [OPTIONS]",
		Short: "Remove the networks that no running container is in",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := engine.ParseNetworkFilter(filters)
			if err != nil {
				return err
			}
			return p.run(cmd, "This removes all networks that no running container is in.", func(e *engine.Engine) error {
				removed, err := e.PruneNetworks(cmd.Context(), filter, p.dry)
				p.list("Networks", removed)
				return err
			})
		},
	}
	filterVar(cmd, &filters, "", "only those for which it holds: until= label=")
	return p.flags(cmd)
}

func (a *app) builderPrune() *cobra.Command {
	p := prune{a: a}
	var o engine.CachePrune
	var reserved, maxUsed, free sizeFlag
	cmd := &cobra.Command{
		Use:   "prune [OPTIONS]",
		Short: "Remove build cache",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if reserved < 0 || maxUsed < 0 || free < 0 {
				return usagef("a size cannot be negative")
			}
			o.Capped = cmd.Flags().Changed("reserved-space") || cmd.Flags().Changed("max-used-space") || cmd.Flags().Changed("keep-storage")
			o.Keep, o.MinFree, o.Reserved = int64(max(reserved, maxUsed)), int64(free), int64(reserved)
			if free > 0 && !cmd.Flags().Changed("max-used-space") {
				o.Capped = false
			}
			o.DryRun = p.dry
			return p.run(cmd, "This removes build cache.", func(e *engine.Engine) error {
				n, freed, err := e.PruneBuilder(cmd.Context(), o)
				if err != nil {
					return err
				}
				fmt.Fprintf(a.out, "%s build cache entries: %d\n", p.verb(), n)
				p.total(freed)
				return nil
			})
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&o.All, "all", "a", false, "remove entries whose layers an image has, too")
	filterVar(cmd, &o.Filters, "", "only those for which it holds: until=24h, type=, id=, description~=, shared=")
	fl.Var(&reserved, "reserved-space", "keep so much of what was used last")
	fl.Var(&reserved, "keep-storage", "the older name of --reserved-space")
	fl.Var(&maxUsed, "max-used-space", "keep at most so much, or --reserved-space if that is more")
	fl.Var(&free, "min-free-space", "remove no more than what makes so much of the disk free")
	return p.flags(cmd)
}
