package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"strata/internal/atomicfile"
	"strata/internal/disk"
	"strata/internal/graph"
	"strata/internal/image"
)

// Sweep frees what no image, container, cache entry or living process refers to, and gives the bytes freed. Records are read before
// the guard is taken, things renamed into the trash under it, and deleted, which may take long, after it.
func (e *Engine) Sweep(ctx context.Context) (int64, error) {
	trash := filepath.Join(e.opts.Root, "trash")
	if err := os.MkdirAll(trash, 0o700); err != nil {
		return 0, err
	}
	// Whatever was removed before: how large the cache is must be measured again.
	if err := os.Remove(filepath.Join(e.cacheDir(), "estimate")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, err
	}
	if err := e.settle(); err != nil {
		return 0, err
	}
	var found map[string]waste
	var freed int64
	err := e.leases.Sweep(ctx, func() (names []string, err error) {
		if found, err = e.findWaste(ctx); err != nil {
			return nil, fmt.Errorf("sweep: %w", err)
		}
		return slices.Collect(maps.Keys(found)), nil
	}, func(free []string) error {
		for _, name := range free {
			if err := ignoreMissing(found[name].discard(trash)); err != nil {
				return err
			}
			freed += found[name].size
		}
		return nil
	})
	partial, perr := e.partial.Sweep(partialAge, partialKeep)
	return freed + partial, errors.Join(err, perr, emptyDir(trash), e.clearTemps(), e.clearDead(ctx), e.stacks.Tidy())
}

// waste is a thing that nothing refers to.
type waste struct {
	size    int64
	discard func(trash string) error
}

// findWaste finds, by the names of the sweep, what nothing refers to.
func (e *Engine) findWaste(ctx context.Context) (map[string]waste, error) {
	have, err := e.inventory(ctx)
	if err != nil {
		return nil, err
	}
	found, err := have.waste()
	if err == nil && len(found) > 0 {
		// Who took a reference away may not have come to flushing that, and a power cut would bring it back.
		err = e.settleAll()
	}
	return found, err
}

// What has arrived of layers whose pull was cut off is kept that long, and at most so many bytes of it.
const (
	partialAge  = 24 * time.Hour
	partialKeep = 4 << 30
)

// clearTemps removes what processes that were killed while they wrote a record left beside it.
func (e *Engine) clearTemps() error {
	var errs []error
	for _, dir := range []string{".", "images", "refs", "bases", "containers", "containers/names", "blobs/sha256", "cache", "cache/entries", "cache/slots", "cache/aliases", "cache/context"} {
		dir = filepath.Join(e.opts.Root, dir)
		entries, err := os.ReadDir(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		errs = append(errs, err)
		for _, entry := range entries {
			if atomicfile.IsTemp(entry.Name()) && !entry.IsDir() && !young(entry) {
				errs = append(errs, ignoreGone(os.Remove(filepath.Join(dir, entry.Name()))))
			}
		}
	}
	return errors.Join(errs...)
}

func ignoreGone(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// waste is what nothing needs.
func (v *inventory) waste() (map[string]waste, error) {
	layers, blobs, err := v.garbage(newGone())
	if err != nil {
		return nil, err
	}
	found := make(map[string]waste, len(layers)+len(blobs))
	for _, m := range layers {
		n, err := v.size(m)
		if err != nil {
			return nil, err
		}
		found[image.LayerName(m.DiffID)] = waste{n, func(trash string) error { return v.e.layers.Trash(m.DiffID, trash) }}
	}
	for _, b := range blobs {
		found[image.BlobName(b.Digest)] = waste{b.Disk, func(trash string) error { return v.e.content.Trash(b.Digest, trash) }}
	}
	return found, nil
}

// emptyDir deletes what is in the trash, read-only directories of images included.
func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range entries {
		errs = append(errs, disk.RemoveAll(filepath.Join(dir, entry.Name())))
	}
	return errors.Join(errs...)
}

// cache opens the build cache for whoever lists or removes entries; nothing is looked up in it to be used.
func (e *Engine) cache() (*graph.Cache, error) {
	return graph.Open(e.cacheDir(), func(context.Context, json.RawMessage) (bool, error) { return false, nil })
}

func (e *Engine) cacheDir() string { return filepath.Join(e.opts.Root, "cache") }
