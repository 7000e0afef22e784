package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"strata/internal/atomicfile"
	"strata/internal/graph"
)

// Sweep frees what no image, container, cache entry or living process refers to, and gives the bytes freed.
// Marking and renaming into the trash happen under the exclusive guard; deletion, which may take long, after it.
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
	var freed int64
	err := e.guard.Exclusive(ctx, func() error {
		have, err := e.inventory(ctx)
		if err != nil {
			return fmt.Errorf("sweep: %w", err)
		}
		freed, err = have.discard(trash)
		return err
	})
	partial, perr := e.partial.Sweep(partialAge, partialKeep)
	return freed + partial, errors.Join(err, perr, emptyDir(trash), e.clearTemps(), e.clearDead(ctx), e.stacks.Tidy())
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

// discard moves what nothing needs into the trash, and gives what it takes on the disk.
func (v *inventory) discard(trash string) (freed int64, err error) {
	layers, blobs, err := v.garbage(newGone())
	if err != nil {
		return 0, err
	}
	for _, m := range layers {
		n, err := v.size(m)
		if err == nil {
			err = ignoreMissing(v.e.layers.Trash(m.DiffID, trash))
		}
		if err != nil {
			return freed, err
		}
		freed += n
	}
	for _, b := range blobs {
		if err := ignoreMissing(v.e.content.Trash(b.Digest, trash)); err != nil {
			return freed, err
		}
		freed += b.Disk
	}
	return freed, nil
}

// emptyDir deletes what is in the trash, read-only directories of images included.
func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range entries {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, entry.Name())))
	}
	return errors.Join(errs...)
}

// cache opens the build cache for whoever lists or removes entries; nothing is looked up in it to be used.
func (e *Engine) cache() (*graph.Cache, error) {
	return graph.Open(e.cacheDir(), func(context.Context, json.RawMessage) (bool, error) { return false, nil })
}

func (e *Engine) cacheDir() string { return filepath.Join(e.opts.Root, "cache") }
