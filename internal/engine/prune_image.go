package engine

import (
	"context"
	"errors"
	"time"

	"github.com/opencontainers/go-digest"

	"strata/internal/errdef"
	"strata/internal/event"
	"strata/internal/image"
	"strata/internal/reference"
)

// ImagePrune says which images a prune takes that no container uses.
type ImagePrune struct {
	// All takes those with a name, too.
	All bool
	// Filters: those of [image.Store.ParseFilter].
	Filters []string
	// Limits, when there are any: those beyond them, named or not, and no others.
	Limits ImageLimits
	DryRun bool
}

// PruneImages removes untagged images, or with All those that no container uses, that pass the filters, and what is left of
// pulls that were cut off; or those beyond the limits. It gives the bytes of the disk that this and the sweep after it freed.
func (e *Engine) PruneImages(ctx context.Context, o ImagePrune) ([]image.Deleted, int64, error) {
	have, err := e.inventory(ctx)
	if err != nil {
		return nil, 0, err
	}
	if o.DryRun {
		g := newGone()
		done, err := e.doomImages(ctx, have, o, g)
		if err != nil {
			return nil, 0, err
		}
		freed, err := have.frees(g)
		return done, freed, err
	}
	used, err := e.usedBy(ctx, nil)
	if err != nil {
		return nil, 0, err
	}
	idle, err := have.idleImages(ctx, used, o)
	if err != nil {
		return nil, 0, err
	}
	var done []image.Deleted
	for _, img := range idle {
		d, err := e.removeImage(ctx, img.ID.String(), image.RemoveOptions{Force: true, UsedBy: used, Busy: e.busy, Untagged: len(img.Tags) == 0})
		done = append(done, d...)
		if err != nil && !errors.Is(err, errdef.ErrNotFound) && !errors.Is(err, errdef.ErrConflict) {
			return done, 0, err
		}
	}
	if len(done) == 0 && o.Limits != (ImageLimits{}) {
		return nil, 0, nil
	}
	partial, err := e.sweepPulls(o)
	freed, serr := e.Sweep(ctx)
	freed += partial
	e.emitPrune(event.Image, freed)
	return done, freed, errors.Join(err, serr)
}

// sweepPulls removes what is left of pulls; where only images beyond limits go, those of which a pull may go on stay.
func (e *Engine) sweepPulls(o ImagePrune) (int64, error) {
	if o.Limits != (ImageLimits{}) {
		return 0, nil
	}
	return e.partial.Sweep(0, 0)
}

// idleImages are those that a prune takes.
func (v *inventory) idleImages(ctx context.Context, used func(digest.Digest) ([]image.Use, error), o ImagePrune) ([]image.Image, error) {
	filter, err := v.e.images.ParseFilter(ctx, o.Filters)
	if err != nil {
		return nil, err
	}
	limited := o.Limits != (ImageLimits{})
	var idle []image.Image
	for _, img := range v.images.Images {
		uses, err := used(img.ID)
		if err != nil {
			return nil, err
		}
		if limited && v.live[image.ImageName(img.ID)] { // somebody works with it just now
			continue
		}
		if len(uses) == 0 && (len(img.Tags) == 0 || o.All || limited) && filter.Match(img) {
			idle = append(idle, img)
		}
	}
	if limited {
		return v.beyond(idle, o.Limits, time.Now())
	}
	return idle, nil
}

// doomImages adds to g what PruneImages would remove when the containers of g are gone.
func (e *Engine) doomImages(ctx context.Context, have *inventory, o ImagePrune, g *gone) ([]image.Deleted, error) {
	used, err := e.usedBy(ctx, g.containers)
	if err != nil {
		return nil, err
	}
	idle, err := have.idleImages(ctx, used, o)
	if err != nil {
		return nil, err
	}
	var done []image.Deleted
	for _, img := range idle {
		if busy := have.live[image.ImageName(img.ID)]; busy && len(img.Tags) == 0 || g.images[img.ID] {
			continue
		}
		for parent, ok := img, true; ok; parent, ok = have.orphan(parent, used, g) {
			g.images[parent.ID] = true
			done = append(done, deletions(parent)...)
		}
	}
	age, keep := time.Duration(0), int64(0)
	if o.Limits != (ImageLimits{}) {
		age, keep = partialAge, partialKeep // the sweep takes these
	}
	partial, err := e.partial.Idle(age, keep)
	g.bytes += partial
	return done, err
}

// deletions are what the removal of an image reports.
func deletions(img image.Image) []image.Deleted {
	var done []image.Deleted
	for _, tag := range append(img.Tags[:len(img.Tags):len(img.Tags)], img.RepoDigests...) {
		done = append(done, image.Deleted{Untagged: reference.Familiarize(tag)})
	}
	return append(done, image.Deleted{Deleted: img.ID.String()})
}

// orphan is the parent of an image that is gone, if nobody has a name for it and nothing else was made of it: it goes with
// its child.
func (v *inventory) orphan(child image.Image, used func(digest.Digest) ([]image.Use, error), g *gone) (image.Image, bool) {
	var parent image.Image
	if child.Parent == "" {
		return parent, false
	}
	for i := range v.images.Images {
		img := &v.images.Images[i]
		if img.Parent == child.Parent && !g.images[img.ID] {
			return parent, false
		}
		if img.ID == child.Parent {
			parent = *img
		}
	}
	if parent.ID == "" || len(parent.Tags)+len(parent.RepoDigests) > 0 || g.images[parent.ID] || v.live[image.ImageName(parent.ID)] {
		return parent, false
	}
	uses, err := used(parent.ID)
	return parent, err == nil && len(uses) == 0
}
