package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"strata/internal/errdef"
	"strata/internal/image"
	"strata/internal/layer"
	"strata/internal/oci"
	"strata/internal/progress"
	"strata/internal/ship"
)

// fromStore finds an image here: the index that the name stands for, unless one platform is asked for.
func (e *Engine) fromStore(ctx context.Context, name string, p oci.Platform) (built, error) {
	if p.OS != "" {
		img, err := e.ResolveFor(ctx, name, p, PullNever)
		return built{main: img}, err
	}
	img, err := e.Resolve(ctx, name, PullNever)
	if err != nil {
		return built{}, err
	}
	return e.withIndex(ctx, name, img)
}

// copyWithin gives an image of the store a further name.
func (e *Engine) copyWithin(ctx context.Context, from, to Place, o ImageCopyOptions) (Copied, error) {
	b, err := e.fromStore(ctx, from.Name, o.Platform)
	if err != nil {
		return Copied{}, err
	}
	return Copied{Digest: b.digest()}, e.taggedBuilt(ctx, to.Name, b, "copy")
}

// digest of the image's manifest, or of the index.
func (b built) digest() digest.Digest {
	if b.index != nil {
		return b.index.Descriptor.Digest
	}
	return b.main.Record.Manifest.Digest
}

// copyOut pushes an image under a name that it need not have here.
func (e *Engine) copyOut(ctx context.Context, from, to Place, o ImageCopyOptions) (Copied, error) {
	if err := owned(to.ref); err != nil {
		return Copied{}, err
	}
	b, err := e.fromStore(ctx, from.Name, o.Platform)
	if err != nil {
		return Copied{}, err
	}
	pushed, err := e.pushBuilt(ctx, to.ref, b, PushForm{})
	if err == nil {
		err = ship.Same(to.ref.Digest, pushed.Digest)
	}
	return Copied{Digest: pushed.Digest}, err
}

// copyIn pulls an image and gives it the name of the destination; its own name here stays what it was.
func (e *Engine) copyIn(ctx context.Context, from, to Place, o ImageCopyOptions) (Copied, error) {
	full, err := fullName(to.Name)
	if err != nil {
		return Copied{}, err
	}
	pulled, err := e.Pull(ctx, from.Name, PullOptions{Platform: o.Platform, Unnamed: true})
	if err != nil {
		return Copied{}, err
	}
	return Copied{Digest: pulled[0].Digest}, e.tagged(ctx, full, pulled[0].Image, "copy")
}

// take stores one image of a place that is no registry.
func (e *Engine) take(ctx context.Context, src ship.Source, to Place, o ImageCopyOptions) (Copied, error) {
	full, err := fullName(to.Name)
	if err != nil {
		return Copied{}, err
	}
	p := o.Platform
	if p.OS == "" {
		p = oci.Host()
	}
	doc, err := ship.Choose(ctx, src, p, o.Platform.OS != "")
	if err != nil {
		return Copied{}, err
	}
	t := taker{e: e, src: src}
	img, err := t.image(ctx, doc)
	if err != nil {
		return Copied{}, err
	}
	if err := e.tagged(ctx, full, img, "copy"); err != nil {
		return Copied{}, err
	}
	return Copied{Digest: doc.Descriptor.Digest, Sent: t.sent, Bytes: t.bytes}, e.capBlobs(ctx)
}

// taker stores an image that a source gives.
type taker struct {
	e     *Engine
	src   ship.Source
	sent  int
	bytes int64
}

func (t *taker) image(ctx context.Context, doc oci.Document) (image.Image, error) {
	m, err := oci.ParseManifest(doc.Raw)
	if err != nil {
		return image.Image{}, err
	}
	if err := fetchable(m); err != nil {
		return image.Image{}, err
	}
	raw, err := ship.ReadBlob(ctx, t.src, m.Config, oci.MaxConfig)
	if err != nil {
		return image.Image{}, err
	}
	cfg, err := oci.ParseImage(raw)
	if err != nil {
		return image.Image{}, err
	}
	ids := cfg.RootFS.DiffIDs
	if len(m.Layers) != len(ids) {
		return image.Image{}, fmt.Errorf("manifest: %d layers, but its config lists %d: %w", len(m.Layers), len(ids), errdef.ErrInvalid)
	}
	atOnce, err := t.e.layersAtOnce()
	if err != nil {
		return image.Image{}, err
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	seen := map[oci.DiffID]bool{}
	for i, id := range ids {
		if seen[id] {
			continue
		}
		seen[id] = true
		if _, err := t.e.layers.Stat(id); errors.Is(err, errdef.ErrNotFound) {
			t.sent, t.bytes = t.sent+1, t.bytes+m.Layers[i].Size
		}
		group.Go(func() error { return t.layer(gctx, m.Layers[i], id) })
	}
	if err := group.Wait(); err != nil {
		return image.Image{}, err
	}
	if err := t.e.layers.Sync(ctx); err != nil {
		return image.Image{}, err
	}
	return t.e.images.Put(ctx, cfg, image.PutOptions{RawConfig: raw, RawManifest: doc.Raw})
}

func (t *taker) layer(ctx context.Context, desc ocispec.Descriptor, id oci.DiffID) (err error) {
	task := progress.Begin(t.e.opts.Sink, string(id), "layer "+shortDigest(desc.Digest))
	task.Note, task.Total = "copying", desc.Size
	cached := false
	defer func() { task.End(ctx, cached, err) }()
	if err := t.e.hold(ctx, image.LayerName(id)); err != nil {
		return err
	}
	if _, err := t.e.layers.Stat(id); err == nil {
		cached = true
		return nil
	} else if !errors.Is(err, errdef.ErrNotFound) {
		return err
	}
	r, err := t.src.Blob(ctx, desc)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = layer.IngestBlob(ctx, t.e.keeping(), io.TeeReader(r, task), layer.Blob{Digest: desc.Digest, MediaType: desc.MediaType, Size: desc.Size}, id)
	return err
}

// storeSource is an image of the store as other places see it: its layers are plain, its manifests say so.
func (e *Engine) storeSource(ctx context.Context, name string, p oci.Platform) (ship.Source, error) {
	b, err := e.fromStore(ctx, name, p)
	if err != nil {
		return nil, err
	}
	s := &storeSource{e: e, docs: map[digest.Digest]oci.Document{}, blobs: map[digest.Digest][]byte{}}
	if b.index == nil {
		s.root, err = s.add(b.main)
		return s, err
	}
	var descs []ocispec.Descriptor
	for _, m := range b.index.Members {
		desc, err := s.add(m)
		if err != nil {
			return nil, err
		}
		descs = append(descs, desc)
	}
	raw, err := b.index.WithManifests(descs)
	s.root = ocispec.Descriptor{MediaType: b.index.Descriptor.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	s.docs[s.root.Digest] = oci.Document{Descriptor: s.root, Raw: raw}
	return s, err
}

type storeSource struct {
	e     *Engine
	root  ocispec.Descriptor
	docs  map[digest.Digest]oci.Document
	blobs map[digest.Digest][]byte
}

func (s *storeSource) add(img image.Image) (ocispec.Descriptor, error) {
	var layers []ocispec.Descriptor
	for _, id := range img.DiffIDs() {
		meta, err := s.e.layers.Stat(id)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		layers = append(layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.Digest(id), Size: meta.Size})
	}
	raw, mediaType, err := img.WithLayers(layers)
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	s.docs[desc.Digest] = oci.Document{Descriptor: desc, Raw: raw}
	s.blobs[img.ID] = img.RawConfig
	return desc, err
}

// Document is one of those that were made for the copy.
func (s *storeSource) Document(_ context.Context, desc ocispec.Descriptor) (oci.Document, error) {
	if desc.Digest == "" {
		desc = s.root
	}
	doc, ok := s.docs[desc.Digest]
	if !ok {
		return doc, fmt.Errorf("manifest %s: %w", desc.Digest, errdef.ErrNotFound)
	}
	return doc, nil
}

// Blob is a config, or a layer's tar.
func (s *storeSource) Blob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if raw, ok := s.blobs[desc.Digest]; ok {
		return io.NopCloser(bytes.NewReader(raw)), nil
	}
	return s.e.layers.Tar(ctx, oci.DiffID(desc.Digest))
}

// Referrers of an image in the store there are none.
func (s *storeSource) Referrers(context.Context, digest.Digest) ([]ocispec.Descriptor, error) {
	return nil, nil
}
