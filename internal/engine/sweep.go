package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"

	"strata/internal/atomicfile"
	"strata/internal/build"
	"strata/internal/errdef"
	"strata/internal/graph"
	"strata/internal/image"
	"strata/internal/layer"
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
		roots, cached, err := e.roots(ctx)
		if err != nil {
			return fmt.Errorf("sweep: %w", err)
		}
		freed, err = e.discard(roots, cached, trash)
		return err
	})
	partial, perr := e.partial.Sweep(partialAge, partialKeep)
	return freed + partial, errors.Join(err, perr, emptyDir(trash), e.clearTemps(), e.clearDead(ctx))
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

// roots names all that must stay, and what must stay for the build cache alone.
func (e *Engine) roots(ctx context.Context) (roots, cached map[string]bool, err error) {
	// Leases before records: who publishes a record and ends meanwhile is found in one of the two.
	live, err := e.leases.Live()
	if err != nil {
		return nil, nil, err
	}
	roots, err = e.images.Roots(ctx)
	if err != nil {
		return nil, nil, err
	}
	for name := range live {
		roots[name] = true
	}
	s, err := e.Containers()
	if err != nil {
		return nil, nil, err
	}
	records, err := s.Records().All()
	if err != nil {
		return nil, nil, err
	}
	for _, rec := range records {
		for _, id := range rec.Layers {
			roots[image.LayerName(id)] = true
		}
		for _, m := range rec.Host.Images {
			for _, id := range m.Layers {
				roots[image.LayerName(id)] = true
			}
		}
	}
	cached = map[string]bool{}
	cache, err := e.cache()
	if err != nil {
		return nil, nil, err
	}
	err = cache.Walk(func(entry graph.Entry) error {
		for _, id := range build.ResultLayers(entry.Result) {
			cached[image.LayerName(id)] = true
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return roots, cached, nil
}

// discard moves what is no root into the trash. A layer that was not flushed before the machine went down stays for images and
// containers only: a check may yet find that all of it is there.
func (e *Engine) discard(roots, cached map[string]bool, trash string) (freed int64, err error) {
	err = e.layers.Walk(func(m layer.Meta) error {
		name := image.LayerName(m.DiffID)
		if roots[name] {
			return nil
		}
		if cached[name] {
			if _, err := e.layers.Stat(m.DiffID); !errors.Is(err, errdef.ErrNotFound) {
				return nil
			}
		}
		freed += m.Disk
		return e.layers.Trash(m.DiffID, trash)
	})
	if err != nil {
		return freed, err
	}
	return freed, e.content.Walk(func(d digest.Digest, size int64) error {
		if roots[image.BlobName(d)] {
			return nil
		}
		freed += size
		return e.content.Trash(d, trash)
	})
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
