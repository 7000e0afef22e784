package engine

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/image"
	"strata/internal/oci"
)

// CachePrune says what a prune of the build cache removes.
type CachePrune struct {
	// All takes entries whose layers an image has, too.
	All bool
	// Filters: only what they all select.
	Filters []string
	// Keep, when Capped: no more than what brings the cache down to so many bytes, what was used longest ago first.
	Keep   int64
	Capped bool
	// MinFree: no more than what makes so many bytes of the disk free; what Reserved has room for stays all the same.
	MinFree, Reserved int64
	// DryRun tells what would go, and removes nothing.
	DryRun bool
}

// doomedItems are what a prune of the build cache takes, when what is in g is gone.
func (e *Engine) doomedItems(have *inventory, o CachePrune, g *gone) ([]*cacheItem, error) {
	f, err := parseCacheFilter(o.Filters, time.Now())
	if err != nil {
		return nil, err
	}
	owned := have.owned(g)
	items, err := have.cacheItems(owned)
	if err != nil {
		return nil, err
	}
	if o.Capped || o.MinFree > 0 {
		sizes, err := have.sizes()
		if err != nil {
			return nil, err
		}
		keep, err := have.keepFor(o, sizes)
		return overCap(items, f, keep, sizes, owned, have.live), err
	}
	var doomed []*cacheItem
	for i := range items {
		if it := &items[i]; f.match(it) && (o.All || !slices.ContainsFunc(it.layers, func(id oci.DiffID) bool { return owned[id] })) {
			doomed = append(doomed, it)
		}
	}
	return doomed, nil
}

// keepFor is how many bytes of the build cache a prune down to a size leaves.
func (v *inventory) keepFor(o CachePrune, sizes map[oci.DiffID]int64) (int64, error) {
	if o.MinFree == 0 {
		return o.Keep, nil
	}
	var st unix.Statfs_t
	if err := unix.Statfs(v.e.opts.Root, &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: v.e.opts.Root, Err: err}
	}
	u, _, err := v.cacheUsage(sizes)
	keep := u.Size - max(0, o.MinFree-int64(st.Bavail)*st.Bsize)
	if o.Capped {
		keep = min(keep, o.Keep)
	}
	return max(keep, o.Reserved), err
}

// unit is what frees space when it goes: a layer with all entries that are stacked on it, or one other thing.
type unit struct {
	size  int64
	used  time.Time // when anything of it was used last
	depth int
	items []*cacheItem
	fixed bool // something of it must stay
}

// overCap chooses what must go so that keep bytes are left. A layer frees its space when no entry has it any more, so the
// deepest of those that were used at one time goes first. What images, containers and running commands have stays.
func overCap(items []cacheItem, f cacheFilter, keep int64, sizes map[oci.DiffID]int64, owned map[oci.DiffID]bool, live map[string]bool) []*cacheItem {
	var total int64
	var units []*unit
	byLayer := map[oci.DiffID]*unit{}
	for i := range items {
		it := &items[i]
		if it.trash != nil {
			units = append(units, &unit{size: it.Size, used: it.LastUsed, items: []*cacheItem{it}, fixed: !f.match(it)})
			continue
		}
		for depth, id := range it.layers {
			if owned[id] {
				continue
			}
			u := byLayer[id]
			if u == nil {
				u = &unit{size: sizes[id], fixed: live[image.LayerName(id)]}
				byLayer[id] = u
				units = append(units, u)
			}
			u.items = append(u.items, it)
			u.fixed = u.fixed || !f.match(it)
			u.depth = max(u.depth, depth)
			if it.LastUsed.After(u.used) {
				u.used = it.LastUsed
			}
		}
	}
	for _, u := range units {
		total += u.size
	}
	slices.SortStableFunc(units, func(a, b *unit) int {
		return cmp.Or(a.used.Compare(b.used), cmp.Compare(b.depth, a.depth))
	})
	gone := map[*cacheItem]bool{}
	var doomed []*cacheItem
	for _, u := range units {
		if total <= keep {
			break
		}
		if u.fixed {
			continue
		}
		total -= u.size
		for _, it := range u.items {
			if !gone[it] {
				gone[it] = true
				doomed = append(doomed, it)
			}
		}
	}
	return doomed
}

// removeItems removes what can be removed: what is in use just now stays.
func (e *Engine) removeItems(ctx context.Context, items []*cacheItem) (n int, freed int64, err error) {
	if len(items) == 0 {
		return 0, 0, nil
	}
	cache, err := e.cache()
	if err != nil {
		return 0, 0, err
	}
	trash := filepath.Join(e.opts.Root, "trash")
	if err := os.MkdirAll(trash, 0o700); err != nil {
		return 0, 0, err
	}
	for _, it := range items {
		if err := ctx.Err(); err != nil {
			return n, freed, err
		}
		if it.trash == nil {
			err = cache.Remove(it.key)
		} else if err = it.trash(trash); err == nil {
			freed += it.Size
		}
		if errors.Is(err, errdef.ErrConflict) {
			continue
		}
		if err != nil {
			return n, freed, err
		}
		n++
	}
	return n, freed, cache.Tidy()
}
