package engine

import (
	"context"
	"errors"
	"fmt"
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
	var r PruneReport
	var err error
	if r.Containers, r.Freed, err = e.PruneContainers(ctx); err != nil {
		return r, err
	}
	if o.Volumes {
		s, err := e.Containers()
		if err != nil {
			return r, err
		}
		removed, freed, err := s.RemoveUnusedVolumes(ctx, false, nil)
		r.Volumes, r.Freed = removed, r.Freed+freed
		if err != nil {
			return r, err
		}
		e.emitPrune(event.Volume, freed)
	}
	// The cache goes by what images share with it, so it is asked after the images.
	images, freed, err := e.PruneImages(ctx, o.All, nil)
	r.Images, r.Freed = images, r.Freed+freed
	if err != nil {
		return r, err
	}
	r.Cache, freed, err = e.PruneBuilder(ctx, CachePrune{All: o.All})
	r.Freed += freed
	if err != nil {
		return r, err
	}
	freed, err = e.partial.Sweep(0, 0)
	r.Freed += freed
	return r, err
}

// PruneBuilder removes entries of the build cache as [Engine.PruneCache] does, and gives their number and the bytes that the
// mounts had and that the sweep after it freed.
func (e *Engine) PruneBuilder(ctx context.Context, o CachePrune) (removed int, freed int64, err error) {
	removed, mounts, err := e.PruneCache(ctx, o)
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

// justCreated is how long a container that never ran is left alone by a prune: some `run` may be about to start it.
const justCreated = time.Minute

// PruneContainers removes every container that does not run, and gives their ids and the bytes they had written.
func (e *Engine) PruneContainers(ctx context.Context) (removed []string, freed int64, err error) {
	s, err := e.Containers()
	if err != nil {
		return nil, 0, err
	}
	all, err := s.List(ctx)
	if err != nil {
		return nil, 0, err
	}
	var errs []error
	for _, rec := range all {
		if rec.State.Alive() || rec.State.Status == container.Created && time.Since(rec.Created) < justCreated {
			continue
		}
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

func conflictf(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errdef.ErrConflict)...)
}
