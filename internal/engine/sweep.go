package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"strata/internal/build"
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
	var freed int64
	err := e.guard.Exclusive(ctx, func() error {
		roots, err := e.roots(ctx)
		if err != nil {
			return fmt.Errorf("sweep: %w", err)
		}
		freed, err = e.discard(roots, trash)
		return err
	})
	return freed, errors.Join(err, emptyDir(trash), e.clearDead(ctx))
}

// roots names all that must stay.
func (e *Engine) roots(ctx context.Context) (map[string]bool, error) {
	roots, err := e.images.Roots(ctx)
	if err != nil {
		return nil, err
	}
	s, err := e.Containers()
	if err != nil {
		return nil, err
	}
	records, err := s.Records().All()
	if err != nil {
		return nil, err
	}
	for _, rec := range records {
		for _, id := range rec.Layers {
			roots[image.LayerName(id)] = true
		}
	}
	cache, err := e.cache()
	if err != nil {
		return nil, err
	}
	err = cache.Walk(func(entry graph.Entry) error {
		for _, id := range build.ResultLayers(entry.Result) {
			roots[image.LayerName(id)] = true
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	live, err := e.leases.Live()
	if err != nil {
		return nil, err
	}
	for name := range live {
		roots[name] = true
	}
	return roots, nil
}

// discard moves what is no root into the trash.
func (e *Engine) discard(roots map[string]bool, trash string) (freed int64, err error) {
	err = e.layers.Walk(func(m layer.Meta) error {
		if roots[image.LayerName(m.DiffID)] {
			return nil
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
