package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"strata/internal/build"
	"strata/internal/errdef"
	"strata/internal/graph"
	"strata/internal/image"
	"strata/internal/layer"
	"strata/internal/oci"
	"strata/internal/progress"
	"strata/internal/reference"
)

// CacheExport is one --cache-to.
type CacheExport struct {
	// Ref of a cache in a registry; or Dir, an OCI layout in which it is called Tag ("latest").
	Ref, Dir, Tag string
	// Max takes the layers of all steps, not only those of the result.
	Max bool
	// Compression of layers that must be compressed: gzip (""), zstd or none. Force compresses those anew that are known in
	// another form.
	Compression string
	Level       int
	Force       bool
	// IgnoreError makes a note of a failure.
	IgnoreError bool
}

const defaultCacheTag = "latest"

// cachePlace is where an exported cache goes.
type cachePlace interface {
	// has reports whether the place has the blob, or could take it from its neighbour.
	has(ctx context.Context, b layer.Blob) (bool, error)
	// stream stores what write writes.
	stream(ctx context.Context, write func(io.Writer) error) (digest.Digest, int64, error)
	// put stores a small blob.
	put(ctx context.Context, desc ocispec.Descriptor, raw []byte) error
	// publish stores the manifest and names it.
	publish(ctx context.Context, raw []byte) error
	// source is what layer.Blob.Source says of the place.
	source() string
}

// builtCache is what a build leaves to be exported.
type builtCache struct {
	links []graph.Link
	base  map[oci.DiffID]bool // layers that are not exported
	// image are the layers of the result.
	image    []oci.DiffID
	imported *importedCache
	grown    growth
	mounts   bool // a step that it needs has a cache mount
}

func (e *Engine) newBuiltCache(ctx context.Context, o BuildOptions) *builtCache {
	return &builtCache{base: map[oci.DiffID]bool{}, imported: e.importCaches(ctx, o.CacheFrom)}
}

// plan notes what is to be built; of several platforms one after the other.
func (b *builtCache) plan(p *build.Plan) {
	maps.Copy(b.base, p.BaseLayers())
	b.mounts = b.mounts || p.HasCacheMounts()
}

func (b *builtCache) visit(l graph.Link) {
	b.links = append(b.links, l)
	b.grown.add(l)
}

// notes are what came of the imported caches.
func (b *builtCache) notes() []string {
	if b.imported == nil {
		return nil
	}
	b.imported.mu.Lock()
	defer b.imported.mu.Unlock()
	return b.imported.notes
}

// exportCaches writes what a build left to each of the places, and gives notes.
func (e *Engine) exportCaches(ctx context.Context, to []CacheExport, b *builtCache) (notes []string, err error) {
	if len(to) == 0 {
		return nil, nil
	}
	cache, err := e.cache()
	if err != nil {
		return nil, err
	}
	doc, err := cache.Export(b.links)
	if err != nil {
		return nil, err
	}
	for _, o := range to {
		err := e.exportCache(ctx, o, doc, b)
		switch {
		case err == nil:
		case o.IgnoreError && ctx.Err() == nil:
			notes = append(notes, fmt.Sprintf("the build cache was not exported: %v", err))
		default:
			return notes, fmt.Errorf("export of the build cache: %w", err)
		}
	}
	return notes, nil
}

func (e *Engine) exportCache(ctx context.Context, o CacheExport, doc graph.Export, b *builtCache) error {
	place, name, err := e.cachePlace(ctx, o)
	if err != nil {
		return err
	}
	ids := b.image
	if o.Max {
		ids = build.ExportLayers(doc.Entries, nil)
	}
	x := &cacheExporter{e: e, o: o, place: place, imported: b.imported}
	task := progress.Begin(e.opts.Sink, "export cache "+name, "exporting cache to "+name)
	err = x.export(ctx, doc, ids, b.base)
	task.End(ctx, false, err)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (e *Engine) cachePlace(ctx context.Context, o CacheExport) (cachePlace, string, error) {
	if o.Dir != "" {
		place, err := openLayout(ctx, o.Dir, o.Tag)
		return place, o.Dir, err
	}
	ref, err := reference.Parse(o.Ref)
	if err != nil {
		return nil, "", err
	}
	if ref.Digest != "" {
		return nil, "", fmt.Errorf("name %q: a cache is named by a tag, not by a digest: %w", o.Ref, errdef.ErrInvalid)
	}
	ref = ref.Latest()
	return registryCache{pusher{e: e, client: e.registries(), ref: ref}}, ref.Familiar(), owned(ref)
}

// cacheExporter writes one cache to one place.
type cacheExporter struct {
	e        *Engine
	o        CacheExport
	place    cachePlace
	imported *importedCache
}

func (x *cacheExporter) export(ctx context.Context, doc graph.Export, all []oci.DiffID, less map[oci.DiffID]bool) error {
	config := &build.CacheConfig{Export: doc}
	descs, err := x.layers(ctx, all, less, config)
	if err != nil {
		return err
	}
	raw, err := config.Encode()
	if err != nil {
		return err
	}
	desc := ocispec.Descriptor{MediaType: build.CacheConfigType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if err := x.place.put(ctx, desc, raw); err != nil {
		return err
	}
	manifest, err := build.CacheManifest(desc, descs)
	if err != nil {
		return err
	}
	return x.place.publish(ctx, manifest)
}

// layers stores the layers that there are, and lists them in config and as descriptors.
func (x *cacheExporter) layers(ctx context.Context, all []oci.DiffID, less map[oci.DiffID]bool, config *build.CacheConfig) ([]ocispec.Descriptor, error) {
	seen := map[oci.DiffID]bool{}
	var ids []oci.DiffID
	for _, id := range all {
		if !seen[id] && !less[id] {
			seen[id], ids = true, append(ids, id)
		}
	}
	found := make([]*ocispec.Descriptor, len(ids))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(layer.AtOnce(x.o.Compression, x.o.Level))
	for i, id := range ids {
		group.Go(func() (err error) {
			found[i], err = x.layer(ctx, id)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var descs []ocispec.Descriptor
	for i, desc := range found {
		if desc != nil {
			config.Layers, descs = append(config.Layers, ids[i]), append(descs, *desc)
		}
	}
	return descs, nil
}

// layer sees that the place has a layer. It gives nil for one that is neither here nor in an imported cache: that of a step
// whose entry was imported from a cache without it.
func (x *cacheExporter) layer(ctx context.Context, id oci.DiffID) (*ocispec.Descriptor, error) {
	if err := x.e.hold(ctx, image.LayerName(id)); err != nil {
		return nil, err
	}
	meta, err := x.e.layers.Stat(id)
	if errors.Is(err, errdef.ErrNotFound) {
		if desc, err := x.passed(ctx, id); desc != nil || err != nil {
			return desc, err
		}
		meta, err = x.e.layers.Stat(id)
	}
	if errors.Is(err, errdef.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, b := range meta.Blobs {
		if x.o.Force && b.MediaType != x.mediaType() {
			continue
		}
		if ok, err := x.place.has(ctx, b); err != nil {
			return nil, err
		} else if ok {
			desc := describe(b)
			return &desc, nil
		}
	}
	return x.store(ctx, id, meta.Size)
}

// passed is a layer of an imported cache that nobody needed here: the place has it already, or it is fetched.
func (x *cacheExporter) passed(ctx context.Context, id oci.DiffID) (*ocispec.Descriptor, error) {
	if x.imported == nil {
		return nil, nil
	}
	for _, b := range x.imported.where(id) {
		form := layer.Blob{Digest: b.desc.Digest, MediaType: b.desc.MediaType, Size: b.desc.Size, Source: b.source}
		if ok, err := x.place.has(ctx, form); err != nil {
			return nil, err
		} else if ok {
			return &b.desc, nil
		}
	}
	if len(x.imported.where(id)) == 0 {
		return nil, nil
	}
	err := importedLayers{x.imported}.Fetch(ctx, id)
	if ctx.Err() != nil {
		return nil, err
	}
	return nil, nil // a broken one has its note
}

func (x *cacheExporter) mediaType() string {
	return ocispec.MediaTypeImageLayer + layer.MediaSuffix(x.compression())
}

func (x *cacheExporter) compression() string {
	if x.o.Compression == "" {
		return layer.Gzip
	}
	return x.o.Compression
}

// store compresses a layer into the place and notes the form.
func (x *cacheExporter) store(ctx context.Context, id oci.DiffID, size int64) (*ocispec.Descriptor, error) {
	task := progress.Begin(x.e.opts.Sink, "cache layer "+string(id), "layer "+id.Hex()[:12])
	task.Note, task.Total = "sending", size
	d, n, err := x.place.stream(ctx, func(w io.Writer) error { return x.e.writeLayer(ctx, w, id, x.compression(), x.o.Level, task) })
	task.End(ctx, false, err)
	if err != nil {
		return nil, err
	}
	b := layer.Blob{Digest: d, MediaType: x.mediaType(), Size: n, Source: x.place.source(), Made: madeAs(x.compression(), x.o.Level)}
	desc := describe(b)
	if x.compression() == layer.None {
		return &desc, nil
	}
	return &desc, x.e.layers.AddBlob(ctx, id, b)
}

// writeLayer writes a layer's tar, verified and compressed, and counts it, from nothing each time.
func (e *Engine) writeLayer(ctx context.Context, w io.Writer, id oci.DiffID, compression string, level int, task *progress.Task) error {
	task.Restart()
	tar, err := e.layers.Tar(ctx, id)
	if err != nil {
		return err
	}
	defer tar.Close()
	defer e.compressing.Add(-1)
	z, err := layer.Compress(w, compression, level, int(e.compressing.Add(1)))
	if err != nil {
		return err
	}
	if _, err := io.Copy(z, io.TeeReader(layer.Verified(ctx, tar, id), task)); err != nil {
		z.Close()
		return err
	}
	return z.Close()
}

// registryCache is a cache under a tag of a registry.
type registryCache struct{ pusher }

func (r registryCache) has(ctx context.Context, b layer.Blob) (bool, error) {
	if ok, err := r.client.HasBlob(ctx, r.ref, b.Digest); ok || err != nil {
		return ok, err
	}
	return r.mount(ctx, b)
}

func (r registryCache) stream(ctx context.Context, write func(io.Writer) error) (digest.Digest, int64, error) {
	return r.client.StreamBlob(ctx, r.ref, write)
}

func (r registryCache) put(ctx context.Context, desc ocispec.Descriptor, raw []byte) error {
	if ok, err := r.client.HasBlob(ctx, r.ref, desc.Digest); ok || err != nil {
		return err
	}
	return r.client.PutBlob(ctx, r.ref, desc, func() (io.ReadCloser, error) { return readCloser(raw), nil })
}

func (r registryCache) publish(ctx context.Context, raw []byte) error {
	_, err := r.client.PutManifest(ctx, r.ref, ocispec.MediaTypeImageManifest, raw)
	return err
}

func (r registryCache) source() string { return r.ref.Name() }
