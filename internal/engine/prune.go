package engine

import (
	"context"
	"errors"
	"fmt"
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
	// DryRun tells what would go, and removes nothing.
	DryRun bool
}

// PruneReport is what a prune removed.
type PruneReport struct {
	Containers, Volumes []string
	Images              []image.Deleted
	Cache               int
	Freed               int64
}

// Prune removes what is not in use: containers first, since they keep images.
func (e *Engine) Prune(ctx context.Context, o PruneOptions) (PruneReport, error) {
	if o.DryRun {
		return e.wouldPrune(ctx, o)
	}
	var r PruneReport
	var err error
	if r.Containers, r.Freed, err = e.PruneContainers(ctx, ContainerPrune{}); err != nil {
		return r, err
	}
	if o.Volumes {
		removed, freed, err := e.PruneVolumes(ctx, VolumePrune{})
		r.Volumes, r.Freed = removed, r.Freed+freed
		if err != nil {
			return r, err
		}
	}
	// The cache goes by what images share with it, so it is asked after the images.
	images, freed, err := e.PruneImages(ctx, ImagePrune{All: o.All})
	r.Images, r.Freed = images, r.Freed+freed
	if err != nil {
		return r, err
	}
	r.Cache, freed, err = e.PruneBuilder(ctx, CachePrune{All: o.All})
	r.Freed += freed
	return r, err
}

// wouldPrune is Prune as it would go.
func (e *Engine) wouldPrune(ctx context.Context, o PruneOptions) (PruneReport, error) {
	var r PruneReport
	have, err := e.inventory(ctx)
	if err != nil {
		return r, err
	}
	g := newGone()
	if r.Containers, err = e.doomContainers(ctx, ContainerPrune{}, g); err != nil {
		return r, err
	}
	if o.Volumes {
		if r.Volumes, err = e.doomVolumes(ctx, VolumePrune{}, g); err != nil {
			return r, err
		}
	}
	if r.Images, err = e.doomImages(ctx, have, ImagePrune{All: o.All}, g); err != nil {
		return r, err
	}
	if r.Cache, err = e.doomCache(have, CachePrune{All: o.All}, g); err != nil {
		return r, err
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
		if rec.State.Alive() || rec.State.Status == container.Created && time.Since(rec.Created) < justCreated || !matches(rec) {
			continue
		}
		idle = append(idle, rec)
	}
	return idle, nil
}

// containerFilter reads docker's filters of `container prune`. Labels must all be there, or all be missing.
func containerFilter(exprs []string, now time.Time) (func(container.Record) bool, error) {
	var tests []func(container.Record) bool
	for _, expr := range exprs {
		key, value, ok := strings.Cut(expr, "=")
		name, want, exact := strings.Cut(value, "=")
		has := func(rec container.Record) bool {
			got, there := rec.Config.Labels[name]
			return there && (!exact || got == want)
		}
		switch {
		case ok && key == "until":
			limit, err := image.ParseTime(value, now)
			if err != nil {
				return nil, fmt.Errorf("filter %.100q: %w", expr, err)
			}
			tests = append(tests, func(rec container.Record) bool { return rec.Created.Before(limit) })
		case ok && key == "label":
			tests = append(tests, has)
		case ok && key == "label!":
			tests = append(tests, func(rec container.Record) bool { return !has(rec) })
		default:
			return nil, fmt.Errorf("filter %.100q: want until=, label= or label!=: %w", expr, errdef.ErrInvalid)
		}
	}
	return func(rec container.Record) bool {
		for _, test := range tests {
			if !test(rec) {
				return false
			}
		}
		return true
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
