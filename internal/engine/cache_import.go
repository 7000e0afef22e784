package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"strata/internal/build"
	"strata/internal/errdef"
	"strata/internal/graph"
	"strata/internal/image"
	"strata/internal/layer"
	"strata/internal/oci"
	"strata/internal/progress"
	"strata/internal/reference"
)

// CacheImport is one --cache-from.
type CacheImport struct {
	// Ref of a cache in a registry. Short: it was given as docker's short form, which names an image.
	Ref   string
	Short bool
	// Dir of a cache in a directory, and which one of those in it: by Digest, else by Tag, else "latest".
	Dir, Tag, Digest string
}

func (c CacheImport) name() string {
	if c.Dir != "" {
		return c.Dir
	}
	return c.Ref
}

// importedCache is the caches of one build. Nothing is read before the first step misses the build cache.
type importedCache struct {
	e     *Engine
	from  []CacheImport
	cache func() *build.ImportedCache

	mu    sync.Mutex
	notes []string
	blobs map[oci.DiffID][]cacheBlob
}

// cacheBlob is a layer in one of the caches.
type cacheBlob struct {
	desc   ocispec.Descriptor
	source string // the repository, "" for a directory
	open   func(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
}

// importCaches gives the caches of a build, nil without any.
func (e *Engine) importCaches(ctx context.Context, from []CacheImport) *importedCache {
	if len(from) == 0 {
		return nil
	}
	c := &importedCache{e: e, from: from, blobs: map[oci.DiffID][]cacheBlob{}}
	c.cache = sync.OnceValue(func() *build.ImportedCache { return build.NewImportedCache(c.load(ctx), importedLayers{c}) })
	return c
}

// Find is graph.Remote's, as are Alias and Fetch.
func (c *importedCache) Find(key graph.Key) (graph.Exported, bool) { return c.cache().Find(key) }

// Alias is graph.Remote's.
func (c *importedCache) Alias(full graph.Key) graph.Key { return c.cache().Alias(full) }

func (c *importedCache) note(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notes = append(c.notes, fmt.Sprintf(format, args...))
}

// load reads what the caches have. One that cannot be read is noted and left out: a cache only saves work.
func (c *importedCache) load(ctx context.Context) []*build.CacheConfig {
	var all []*build.CacheConfig
	for _, from := range c.from {
		name := "importing cache manifest from " + from.name()
		task := progress.Begin(c.e.opts.Sink, name, name)
		doc, err := c.one(ctx, from)
		if err != nil {
			c.note("cache from %s: nothing is taken of it: %v", from.name(), err)
		} else {
			all = append(all, doc)
		}
		task.End(ctx, false, ctx.Err()) // that there is none is no failure of the build
	}
	return all
}

func (c *importedCache) one(ctx context.Context, from CacheImport) (*build.CacheConfig, error) {
	if from.Dir != "" {
		return c.directory(ctx, from)
	}
	ref, err := reference.Parse(from.Ref)
	if err != nil {
		return nil, err
	}
	if from.Short {
		if img, err := c.e.images.Pin(ctx, from.Ref); err == nil {
			return nil, fmt.Errorf("image %s is in this store, and the steps of what was built here are in its build cache", shortDigest(img.ID))
		}
	}
	client := c.e.registries()
	doc, err := client.Manifest(ctx, ref)
	if err != nil {
		return nil, err
	}
	if oci.IsIndex(doc.Descriptor.MediaType) {
		return nil, noCache()
	}
	open := func(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
		return client.Blob(ctx, ref, desc)
	}
	return c.read(ctx, from, doc.Raw, cacheBlob{source: ref.Name(), open: open})
}

func noCache() error {
	return fmt.Errorf("it carries no build cache of strata (write one with --cache-to): %w", errdef.ErrUnsupported)
}

// read reads the config that a manifest names, and notes where its layers are.
func (c *importedCache) read(ctx context.Context, from CacheImport, raw []byte, at cacheBlob) (*build.CacheConfig, error) {
	m, err := oci.ParseManifest(raw)
	if err != nil {
		return nil, err
	}
	if !build.IsCacheManifest(m) {
		return nil, noCache()
	}
	if m.Config.MediaType != build.CacheConfigType {
		return nil, fmt.Errorf("its format is %.100q: %w", m.Config.MediaType, errdef.ErrUnsupported)
	}
	if m.Config.Size > graph.MaxExport {
		return nil, fmt.Errorf("config of %d bytes (at most %d): %w", m.Config.Size, graph.MaxExport, errdef.ErrLimit)
	}
	config, err := readBlob(ctx, m.Config, at.open)
	if err != nil {
		return nil, err
	}
	doc, dropped, err := build.ParseCacheConfig(config, len(m.Layers))
	if err != nil {
		return nil, err
	}
	if dropped > 0 {
		c.note("cache from %s: %d entries that do not prove their keys were left out", from.name(), dropped)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, id := range doc.Layers {
		at.desc = m.Layers[i]
		c.blobs[id] = append(c.blobs[id], at)
	}
	return doc, nil
}

// readBlob reads a small blob whole and verifies it.
func readBlob(ctx context.Context, desc ocispec.Descriptor, open func(context.Context, ocispec.Descriptor) (io.ReadCloser, error)) ([]byte, error) {
	r, err := open(ctx, desc)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	raw, err := io.ReadAll(io.LimitReader(r, desc.Size+1))
	if err != nil {
		return nil, err
	}
	if got := digest.FromBytes(raw); got != desc.Digest {
		return nil, fmt.Errorf("blob %s has digest %s: %w", desc.Digest, got, errdef.ErrCorrupt)
	}
	return raw, nil
}

// directory reads a cache from an OCI layout.
func (c *importedCache) directory(ctx context.Context, from CacheImport) (*build.CacheConfig, error) {
	dir, err := filepath.Abs(from.Dir)
	if err != nil {
		return nil, err
	}
	index, err := readLayoutIndex(dir)
	if err != nil {
		return nil, err
	}
	desc, err := pickCache(index.Manifests, from)
	if err != nil {
		return nil, err
	}
	if desc.Size > oci.MaxManifest {
		return nil, fmt.Errorf("manifest of %d bytes (at most %d): %w", desc.Size, oci.MaxManifest, errdef.ErrLimit)
	}
	open := func(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
		return openLayoutBlob(dir, desc)
	}
	raw, err := readBlob(ctx, desc, open)
	if err != nil {
		return nil, err
	}
	return c.read(ctx, from, raw, cacheBlob{open: open})
}

func pickCache(all []ocispec.Descriptor, from CacheImport) (ocispec.Descriptor, error) {
	tag := from.Tag
	if tag == "" {
		tag = defaultCacheTag
	}
	for _, d := range all {
		if from.Digest == d.Digest.String() || from.Digest == "" && d.Annotations[ocispec.AnnotationRefName] == tag {
			return d, nil
		}
	}
	if len(all) == 1 && from.Digest == "" && from.Tag == "" {
		return all[0], nil
	}
	if from.Digest != "" {
		tag = from.Digest
	}
	return ocispec.Descriptor{}, fmt.Errorf("its index has no %q: %w", tag, errdef.ErrNotFound)
}

const layoutIndex = "index.json"

// readLayoutIndex reads the index of an OCI layout.
func readLayoutIndex(dir string) (*ocispec.Index, error) {
	f, err := openRegular(filepath.Join(dir, layoutIndex))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, oci.MaxManifest+1))
	if err != nil {
		return nil, err
	}
	return oci.ParseIndex(raw)
}

func blobFile(dir string, d digest.Digest) string {
	return filepath.Join(dir, "blobs", "sha256", d.Encoded())
}

func openLayoutBlob(dir string, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if _, err := oci.ParseDigest(string(desc.Digest)); err != nil {
		return nil, err
	}
	f, err := openRegular(blobFile(dir, desc.Digest))
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || st.Size() != desc.Size {
		f.Close()
		return nil, errors.Join(err, fmt.Errorf("blob %s: its size is not the %d bytes that are said of it: %w", desc.Digest, desc.Size, errdef.ErrCorrupt))
	}
	return f, nil
}

// openRegular opens a file of a foreign directory, which might be a pipe that nobody writes to.
func openRegular(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		f.Close()
		return nil, errors.Join(err, fmt.Errorf("%s is no regular file: %w", name, errdef.ErrInvalid))
	}
	return f, nil
}

// Fetch is graph.Remote's.
func (c *importedCache) Fetch(ctx context.Context, result json.RawMessage) (bool, error) {
	return c.cache().Fetch(ctx, result)
}

// importedLayers is what build.ImportedCache asks for layers.
type importedLayers struct{ c *importedCache }

// Has reports whether the layer is here or in one of the caches.
func (l importedLayers) Has(id oci.DiffID) bool {
	if _, err := l.c.e.layers.Stat(id); err == nil {
		return true
	}
	return len(l.c.where(id)) > 0
}

func (c *importedCache) where(id oci.DiffID) []cacheBlob {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.blobs[id])
}

// Fetch stores the layer unless it is there. Its bytes must have both digests, that of the blob and the diffID.
func (l importedLayers) Fetch(ctx context.Context, id oci.DiffID) error {
	c := l.c
	if err := c.e.hold(ctx, image.LayerName(id)); err != nil {
		return err
	}
	_, err := c.e.layers.Stat(id)
	if !errors.Is(err, errdef.ErrNotFound) {
		return err
	}
	for _, b := range c.where(id) {
		if err = c.fetch(ctx, id, b); err == nil || ctx.Err() != nil {
			return err
		}
		c.note("cached layer %s cannot be used: %v", shortDigest(digest.Digest(id)), err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.blobs, id) // none of them is any good: not to be tried again
	return err
}

func (c *importedCache) fetch(ctx context.Context, id oci.DiffID, b cacheBlob) error {
	task := progress.Begin(c.e.opts.Sink, string(id), "cached layer "+shortDigest(b.desc.Digest))
	task.Note, task.Total = "fetching", b.desc.Size
	r, err := b.open(ctx, b.desc)
	if err == nil {
		blob := layer.Blob{Digest: b.desc.Digest, MediaType: b.desc.MediaType, Size: b.desc.Size, Source: b.source}
		_, err = layer.IngestBlob(ctx, c.e.layers, io.TeeReader(r, task), blob, id)
		r.Close()
	}
	task.End(ctx, false, err)
	return err
}
