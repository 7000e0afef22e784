package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"strata/internal/build"
	"strata/internal/errdef"
	"strata/internal/layer"
	"strata/internal/userns"
)

// CacheMountUsage is one directory of RUN --mount=type=cache.
type CacheMountUsage struct {
	// ID as Dockerfiles have it; Tree names the directory, of which an id may have several.
	ID, Tree string
	Size     int64
	LastUsed time.Time
}

// CacheMounts lists the directories of RUN --mount=type=cache.
func (e *Engine) CacheMounts() ([]CacheMountUsage, error) {
	items, err := e.mountItems()
	if err != nil {
		return nil, err
	}
	var all []CacheMountUsage
	for _, it := range items {
		all = append(all, CacheMountUsage{ID: it.mount, Tree: it.ID, Size: it.Size, LastUsed: it.LastUsed})
	}
	return all, nil
}

// ExportCacheMount writes a cache mount's directory as a tar. It waits for the steps that use it.
func (e *Engine) ExportCacheMount(ctx context.Context, name string, w io.Writer) error {
	return e.cacheMounts().Export(ctx, name, w)
}

// ImportCacheMount makes what is in a tar, compressed or not, the content of a cache mount, and makes the mount if need be.
// It waits for the steps that use it.
func (e *Engine) ImportCacheMount(ctx context.Context, name string, r io.Reader, o build.CacheOwner) error {
	temp, err := e.tempDir()
	if err != nil {
		return err
	}
	dir := filepath.Join(temp, "cachemount")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // whatever the umask
		return err
	}
	if err := unpackInto(ctx, r, dir); err != nil {
		return fmt.Errorf("cache mount %q: %w", name, err)
	}
	trash, err := e.trash()
	if err != nil {
		return err
	}
	if err := e.cacheMounts().Import(ctx, name, dir, trash, o); err != nil {
		return err
	}
	return emptyDir(trash)
}

func unpackInto(ctx context.Context, r io.Reader, dir string) error {
	tar, _, err := layer.Decompress(r)
	if err != nil {
		return err
	}
	defer tar.Close()
	root, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return layer.ExtractTree(ctx, tar, root, "/", layer.ExtractOptions{IgnoreOwner: userns.OneOwner()})
}

// RemoveCacheMount removes all directories of a cache mount, or the one that is named.
func (e *Engine) RemoveCacheMount(_ context.Context, name string) error {
	caches := e.cacheMounts()
	found, err := caches.Find(name)
	if err != nil {
		return err
	}
	trash, err := e.trash()
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range found {
		err := caches.Trash(m, trash)
		if errors.Is(err, errdef.ErrConflict) {
			err = fmt.Errorf("cache mount %q: a step uses it: %w", name, errdef.ErrConflict)
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, emptyDir(trash))...)
}

// trash is where things are renamed to be deleted.
func (e *Engine) trash() (string, error) {
	dir := filepath.Join(e.opts.Root, "trash")
	return dir, os.MkdirAll(dir, 0o700)
}
