package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"strata/internal/container"
	"strata/internal/errdef"
	"strata/internal/event"
	"strata/internal/image"
)

// PruneOptions say how much a prune of everything takes.
type PruneOptions struct {
	// All takes every image without a container and the whole build cache, not only untagged images and what no image shares.
	All bool
	// Volumes takes anonymous volumes that no container has.
	Volumes bool
	// Filters: until=, label=, label!=, as docker has them. Each kind of thing goes by those that it has: a volume by labels alone, the build
	// cache, which has no labels, by until.
	Filters []string
	// DryRun tells what would go, and removes nothing.
	DryRun bool
}

// PruneReport is what a prune removed.
type PruneReport struct {
	Containers, Networks, Volumes []string
	Images                        []image.Deleted
	Cache                         int
	Freed                         int64
}

// prunes are what a prune of everything consists of.
type prunes struct {
	containers ContainerPrune
	networks   NetworkFilter
	volumes    *VolumePrune // nil: they stay
	images     ImagePrune
	cache      *CachePrune // nil: it stays
}

// split gives each kind of thing its filters.
func (o PruneOptions) split() (p prunes, err error) {
	p = prunes{containers: ContainerPrune{Filters: o.Filters}, images: ImagePrune{All: o.All, Filters: o.Filters}, cache: &CachePrune{All: o.All}}
	var labels []string
	for _, f := range o.Filters {
		switch key, _, _ := strings.Cut(f, "="); key {
		case "until":
			p.cache.Filters = append(p.cache.Filters, f)
		case "label", "label!":
			labels = append(labels, f)
		}
	}
	if o.Volumes {
		if len(labels) < len(o.Filters) {
			return p, fmt.Errorf(`the "until" filter is not supported with "--volumes": %w`, errdef.ErrInvalid)
		}
		matches, err := labelFilter(labels)
		if err != nil {
			return p, err
		}
		p.volumes = &VolumePrune{Keep: func(v container.VolumeUsage) bool { return !matches(v.Labels) }}
	}
	if slices.ContainsFunc(labels, func(f string) bool { return strings.HasPrefix(f, "label=") }) {
		p.cache = nil
	}
	if p.networks, err = ParseNetworkFilter(o.Filters); err != nil {
		return p, err
	}
	_, err = containerFilter(o.Filters, time.Now()) // before anything goes
	return p, err
}

// Prune removes what is not in use: containers first, since they keep images.
func (e *Engine) Prune(ctx context.Context, o PruneOptions) (PruneReport, error) {
	if o.DryRun {
		return e.wouldPrune(ctx, o)
	}
	var r PruneReport
	p, err := o.split()
	if err != nil {
		return r, err
	}
	if r.Containers, r.Freed, err = e.PruneContainers(ctx, p.containers); err != nil {
		return r, err
	}
	if r.Networks, err = e.PruneNetworks(ctx, p.networks, false); err != nil {
		return r, err
	}
	if p.volumes != nil {
		removed, freed, err := e.PruneVolumes(ctx, *p.volumes)
		r.Volumes, r.Freed = removed, r.Freed+freed
		if err != nil {
			return r, err
		}
	}
	// The cache goes by what images share with it, so it is asked after the images.
	images, freed, err := e.PruneImages(ctx, p.images)
	r.Images, r.Freed = images, r.Freed+freed
	if err != nil || p.cache == nil {
		return r, err
	}
	r.Cache, freed, err = e.PruneBuilder(ctx, *p.cache)
	r.Freed += freed
	return r, err
}

// wouldPrune is Prune as it would go.
func (e *Engine) wouldPrune(ctx context.Context, o PruneOptions) (PruneReport, error) {
	var r PruneReport
	p, err := o.split()
	if err != nil {
		return r, err
	}
	have, err := e.inventory(ctx)
	if err != nil {
		return r, err
	}
	g := newGone()
	if r.Containers, err = e.doomContainers(ctx, p.containers, g); err != nil {
		return r, err
	}
	if r.Networks, err = e.PruneNetworks(ctx, p.networks, true); err != nil {
		return r, err
	}
	if p.volumes != nil {
		if r.Volumes, err = e.doomVolumes(ctx, *p.volumes, g); err != nil {
			return r, err
		}
	}
	if r.Images, err = e.doomImages(ctx, have, p.images, g); err != nil {
		return r, err
	}
	if p.cache != nil {
		if r.Cache, err = e.doomCache(have, *p.cache, g); err != nil {
			return r, err
		}
	}
	r.Freed, err = have.frees(g)
	return r, err
}

// ContainerPrune says which containers a prune takes that do not run.
type ContainerPrune struct {
	// Filters: until=, label=, label!=, as docker has them. Different ones must all hold.
	Filters []string
	DryRun  bool
}

// justCreated is how long a container that never ran is left alone by a prune: some `run` may be about to start it.
const justCreated = time.Minute

// PruneContainers removes every container that does not run, and gives their ids and what they took on the disk.
func (e *Engine) PruneContainers(ctx context.Context, o ContainerPrune) (removed []string, freed int64, err error) {
	if o.DryRun {
		g := newGone()
		removed, err = e.doomContainers(ctx, o, g)
		return removed, g.bytes, err
	}
	s, err := e.Containers()
	if err != nil {
		return nil, 0, err
	}
	idle, err := e.idleContainers(ctx, o)
	if err != nil {
		return nil, 0, err
	}
	var errs []error
	for _, rec := range idle {
		size, err := s.DiskUsage(rec)
		if err == nil {
			err = s.Remove(ctx, rec, container.RemoveOptions{})
		}
		switch {
		case errors.Is(err, errdef.ErrNotFound), errors.Is(err, errdef.ErrConflict): // gone, or started meanwhile
		case err != nil:
			errs = append(errs, err)
		default:
			removed, freed = append(removed, rec.ID), freed+size
		}
	}
	e.emitPrune(event.Container, freed)
	return removed, freed, errors.Join(errs...)
}

// idleContainers are those that a prune takes.
func (e *Engine) idleContainers(ctx context.Context, o ContainerPrune) ([]container.Record, error) {
	matches, err := containerFilter(o.Filters, time.Now())
	if err != nil {
		return nil, err
	}
	s, err := e.Containers()
	if err != nil {
		return nil, err
	}
	all, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	var idle []container.Record
	for _, rec := range all {
		if rec.State.Supervised() || rec.State.Status == container.Created && time.Since(rec.Created) < justCreated || !matches(rec) {
			continue
		}
		idle = append(idle, rec)
	}
	return idle, nil
}

// containerFilter reads docker's filters of `container prune`. Labels must all be there, or all be missing.
func containerFilter(exprs []string, now time.Time) (func(container.Record) bool, error) {
	var labels []string
	var limits []time.Time
	for _, expr := range exprs {
		key, value, ok := strings.Cut(expr, "=")
		if !ok || key != "until" {
			labels = append(labels, expr)
			continue
		}
		limit, err := image.ParseTime(value, now)
		if err != nil {
			return nil, fmt.Errorf("filter %.100q: %w", expr, err)
		}
		limits = append(limits, limit)
	}
	matches, err := labelFilter(labels)
	return func(rec container.Record) bool {
		young := func(limit time.Time) bool { return !rec.Created.Before(limit) }
		return matches(rec.Config.Labels) && !slices.ContainsFunc(limits, young)
	}, err
}

// labelFilter reads filters by labels.
func labelFilter(exprs []string) (func(labels map[string]string) bool, error) {
	var tests []func(labels map[string]string) bool
	for _, expr := range exprs {
		key, value, ok := strings.Cut(expr, "=")
		name, want, exact := strings.Cut(value, "=")
		if !ok || key != "label" && key != "label!" {
			return nil, fmt.Errorf("filter %.100q: want until=, label= or label!=: %w", expr, errdef.ErrInvalid)
		}
		tests = append(tests, func(labels map[string]string) bool {
			got, there := labels[name]
			return (there && (!exact || got == want)) == (key == "label")
		})
	}
	return func(labels map[string]string) bool {
		return !slices.ContainsFunc(tests, func(test func(map[string]string) bool) bool { return !test(labels) })
	}, nil
}

// doomContainers adds to g what PruneContainers would remove.
func (e *Engine) doomContainers(ctx context.Context, o ContainerPrune, g *gone) ([]string, error) {
	idle, err := e.idleContainers(ctx, o)
	if err != nil {
		return nil, err
	}
	s, err := e.Containers()
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, rec := range idle {
		size, err := s.DiskUsage(rec)
		if err != nil {
			return nil, err
		}
		ids, g.bytes = append(ids, rec.ID), g.bytes+size
		g.containers[rec.ID] = true
	}
	return ids, nil
}

// VolumePrune says which volumes a prune takes that no container has.
type VolumePrune struct {
	// All takes those with names, too.
	All bool
	// Keep spares some; nil spares none.
	Keep   func(container.VolumeUsage) bool
	DryRun bool
}

// PruneVolumes removes volumes that no container has, and gives their names and what they took on the disk.
func (e *Engine) PruneVolumes(ctx context.Context, o VolumePrune) (removed []string, freed int64, err error) {
	if o.DryRun {
		g := newGone()
		removed, err = e.doomVolumes(ctx, o, g)
		return removed, g.bytes, err
	}
	s, err := e.Containers()
	if err != nil {
		return nil, 0, err
	}
	removed, freed, err = s.RemoveUnusedVolumes(ctx, o.All, o.Keep)
	if err == nil {
		e.emitPrune(event.Volume, freed)
	}
	return removed, freed, err
}

// doomVolumes adds to g what PruneVolumes would remove when the containers of g are gone.
func (e *Engine) doomVolumes(ctx context.Context, o VolumePrune, g *gone) ([]string, error) {
	s, err := e.Containers()
	if err != nil {
		return nil, err
	}
	unused, err := s.UnusedVolumes(ctx, o.All, o.Keep, g.containers)
	var names []string
	for _, v := range unused {
		names, g.bytes = append(names, v.Name), g.bytes+v.Size
	}
	return names, err
}

// PruneBuilder removes entries of the build cache that nobody uses just now, and gives their number and the bytes of the disk
// that this and the sweep after it freed.
func (e *Engine) PruneBuilder(ctx context.Context, o CachePrune) (removed int, freed int64, err error) {
	have, err := e.inventory(ctx)
	if err != nil {
		return 0, 0, err
	}
	g := newGone()
	if o.DryRun {
		if removed, err = e.doomCache(have, o, g); err != nil {
			return 0, 0, err
		}
		partial, err := e.partial.Idle(partialAge, partialKeep) // the sweep takes these
		if err != nil {
			return 0, 0, err
		}
		freed, err = have.frees(g)
		return removed, freed + partial, err
	}
	doomed, err := e.doomedItems(have, o, g)
	if err != nil {
		return 0, 0, err
	}
	removed, mounts, err := e.removeItems(ctx, doomed)
	if err != nil {
		return removed, mounts, err
	}
	freed, err = e.Sweep(ctx)
	freed += mounts
	if err == nil {
		e.emitPrune(event.Builder, freed)
	}
	return removed, freed, err
}

// doomCache adds to g what PruneBuilder would remove.
func (e *Engine) doomCache(have *inventory, o CachePrune, g *gone) (int, error) {
	doomed, err := e.doomedItems(have, o, g)
	for _, it := range doomed {
		if it.trash != nil {
			g.bytes += it.Size
		} else {
			g.entries[it.key] = true
		}
	}
	return len(doomed), err
}

func conflictf(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errdef.ErrConflict)...)
}
