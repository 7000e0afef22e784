package engine

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"strata/internal/errdef"
	"strata/internal/image"
	"strata/internal/reference"
)

// ImageLimits choose images that go though they have a name. What is zero is no limit.
type ImageLimits struct {
	// UnusedFor: those that nothing was made of for so long.
	UnusedFor time.Duration
	// Keep: of each repository all but so many that came last. An image with names in several goes when it is too many in all.
	Keep int
	// Max: those that were used longest ago, until all images together take at most so many bytes of the disk.
	Max int64
}

// imageLimits are those that strata.toml sets.
func (e *Engine) imageLimits() (ImageLimits, error) {
	c, err := e.Config()
	if err != nil {
		return ImageLimits{}, err
	}
	l := ImageLimits{Keep: c.Store.ImageKeep}
	if l.Keep < 0 {
		return l, c.Fault("store.image-keep", fmt.Errorf("%d: want a number of images: %w", l.Keep, errdef.ErrInvalid))
	}
	if l.UnusedFor, err = parseAge(c.Store.ImageMaxAge); err != nil {
		return l, c.Fault("store.image-max-age", err)
	}
	if c.Store.ImageMax == "" {
		return l, nil
	}
	limit, err := ParseCap(c.Store.ImageMax)
	if err == nil {
		l.Max, err = limit.bytes(e.opts.Root, 0, 0)
	}
	return l, c.Fault("store.image-max", err)
}

// parseAge reads how long something may be unused: "720h"; "" is for ever, 0.
func parseAge(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	age, err := time.ParseDuration(s)
	if err != nil || age <= 0 {
		return 0, fmt.Errorf("%q: want a duration such as 720h: %w", s, errdef.ErrInvalid)
	}
	return age, nil
}

// CapImages removes the images that are beyond the limits of strata.toml. It is called when a verb is over that made images or
// brought them; what the engine itself holds stays.
func (e *Engine) CapImages(ctx context.Context) error {
	limits, err := e.imageLimits()
	if err != nil || limits == (ImageLimits{}) {
		return err
	}
	_, _, err = e.PruneImages(ctx, ImagePrune{Limits: limits})
	return err
}

// beyond are those of the candidates, newest first, that exceed the limits.
func (v *inventory) beyond(candidates []image.Image, l ImageLimits, now time.Time) ([]image.Image, error) {
	used := make(map[digest.Digest]time.Time, len(candidates))
	for _, img := range candidates {
		used[img.ID] = v.e.images.Used(img)
	}
	doomed := map[digest.Digest]bool{}
	surplus := v.surplus(l.Keep)
	for _, img := range candidates {
		doomed[img.ID] = l.UnusedFor > 0 && now.Sub(used[img.ID]) > l.UnusedFor || surplus[img.ID]
	}
	if l.Max > 0 {
		if err := v.overMax(candidates, used, l.Max, doomed); err != nil {
			return nil, err
		}
	}
	return slices.DeleteFunc(slices.Clone(candidates), func(img image.Image) bool { return !doomed[img.ID] }), nil
}

// surplus are the images that have names, in none of whose repositories they are among the keep that were named last.
func (v *inventory) surplus(keep int) map[digest.Digest]bool {
	surplus := map[digest.Digest]bool{}
	if keep == 0 {
		return surplus
	}
	repositories := map[string]map[digest.Digest]time.Time{} // when each image got its last name there
	for _, img := range v.images.Images {
		for _, tag := range img.Tags {
			ref, err := reference.Parse(tag)
			if err != nil {
				continue
			}
			if repositories[ref.Name()] == nil {
				repositories[ref.Name()] = map[digest.Digest]time.Time{}
			}
			if at := v.images.Tagged(tag); !at.Before(repositories[ref.Name()][img.ID]) {
				repositories[ref.Name()][img.ID] = at
			}
			surplus[img.ID] = true
		}
	}
	for _, named := range repositories {
		ids := slices.SortedFunc(maps.Keys(named), func(a, b digest.Digest) int { return cmp.Or(named[b].Compare(named[a]), cmp.Compare(a, b)) })
		for _, id := range ids[:min(keep, len(ids))] {
			surplus[id] = false
		}
	}
	return surplus
}

// overMax dooms what was used longest ago until the images that are left reach at most limit bytes.
func (v *inventory) overMax(candidates []image.Image, used map[digest.Digest]time.Time, limit int64, doomed map[digest.Digest]bool) error {
	sizes, err := v.named()
	if err != nil {
		return err
	}
	owners := map[string]int{}
	var total int64
	for _, img := range v.images.Images {
		names, err := v.images.Reach(img)
		if err != nil {
			return err
		}
		for _, name := range names {
			if owners[name]++; owners[name] == 1 {
				total += sizes[name]
			}
		}
	}
	drop := func(img image.Image) error {
		names, err := v.images.Reach(img)
		for _, name := range names {
			if owners[name]--; owners[name] == 0 {
				total -= sizes[name]
			}
		}
		return err
	}
	for _, img := range candidates {
		if doomed[img.ID] {
			if err := drop(img); err != nil {
				return err
			}
		}
	}
	oldest := slices.Clone(candidates)
	slices.SortStableFunc(oldest, func(a, b image.Image) int {
		return cmp.Or(used[a.ID].Compare(used[b.ID]), a.Created.Compare(b.Created))
	})
	for _, img := range oldest {
		if total <= limit {
			return nil
		}
		if doomed[img.ID] {
			continue
		}
		doomed[img.ID] = true
		if err := drop(img); err != nil {
			return err
		}
	}
	return nil
}
