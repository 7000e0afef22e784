package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"strata/internal/base"
	"strata/internal/content"
	"strata/internal/errdef"
	"strata/internal/image"
	"strata/internal/layer"
	"strata/internal/oci"
	"strata/internal/progress"
	"strata/internal/reference"
	"strata/internal/remote"
)

// PullOptions are those of pull.
type PullOptions struct {
	// Platform to take of an image for several; the zero Platform is this machine's.
	Platform oci.Platform
	// All takes every tag of the repository.
	All bool
	// Unnamed leaves the tag as it is: the image is known by its digest only.
	Unnamed bool
}

// Pulled is one name that was pulled.
type Pulled struct {
	// Name in full, with tag or digest.
	Name string
	// Digest of what the registry has under the name: an image's manifest, or an index.
	Digest digest.Digest
	Image  image.Image
	// Fresh: it was not here before.
	Fresh bool
}

// Pull fetches an image from its registry into the store and names it. Nothing is named unless all of it is whole.
func (e *Engine) Pull(ctx context.Context, name string, o PullOptions) ([]Pulled, error) {
	ref, err := reference.Parse(name)
	if image.IsID(name) {
		return nil, fmt.Errorf("pull %s: it is an image's id, which no registry knows; NAME@sha256:… names what a registry has: %w", name, errdef.ErrInvalid)
	}
	if err != nil {
		return nil, err
	}
	if ref.Domain == base.Domain {
		return nil, notPulled(name, ref)
	}
	if o.Platform.OS == "" {
		o.Platform = oci.Host()
	}
	if !o.All {
		p, err := e.pull(ctx, ref.Latest(), o)
		return []Pulled{p}, err
	}
	if ref.Tag != "" || ref.Digest != "" {
		return nil, fmt.Errorf("name %q: all tags are asked for, and one is named: %w", name, errdef.ErrInvalid)
	}
	tags, err := e.registries().Tags(ctx, ref, 0)
	if err != nil {
		return nil, err
	}
	var all []Pulled
	for _, tag := range tags {
		tagged, err := ref.WithTag(tag)
		if err != nil {
			return all, fmt.Errorf("repository %s: %w", ref.FamiliarName(), err)
		}
		p, err := e.pull(ctx, tagged, o)
		if err != nil {
			return all, err
		}
		all = append(all, p)
	}
	return all, nil
}

// notPulled is why a base that is built in, or seems to be, does not come from a registry.
func notPulled(name string, ref reference.Ref) error {
	if base.Is(ref.Name()) {
		return errdef.WithHint(fmt.Errorf("pull %s: it is built in: %w", name, errdef.ErrInvalid), "nothing needs to be pulled: run it, or build FROM it")
	}
	return errdef.WithHint(fmt.Errorf("pull %s: there is no such base built in: %w", name, errdef.ErrNotFound), "there are "+strings.Join(base.Names(), " and "))
}

// pull fetches one tag or digest.
func (e *Engine) pull(ctx context.Context, ref reference.Ref, o PullOptions) (Pulled, error) {
	p := puller{e: e, client: e.registries(), ref: ref, platform: o.Platform, unnamed: o.Unnamed}
	if ref.Digest != "" {
		p.ref = ref.WithDigest(ref.Digest) // a tag beside a digest says nothing
	}
	res, err := p.pull(ctx)
	if err == nil {
		e.emitImage("pull", p.ref.Familiar(), p.ref.FamiliarName(), labels(res.Image))
		return res, e.capBlobs(ctx)
	}
	if errors.Is(err, errdef.ErrNotFound) && !p.resolved {
		err = notThere(ctx, p.client, p.ref, err, func(name string) string { return "pull " + name })
	}
	return res, fmt.Errorf("pull %s: %w", ref.Familiar(), err)
}

// puller fetches one image.
type puller struct {
	e        *Engine
	client   *remote.Client
	ref      reference.Ref
	platform oci.Platform
	resolved bool // the registry knows the name
	unnamed  bool // the tag is left to what it points to
}

func (p *puller) pull(ctx context.Context) (Pulled, error) {
	res := Pulled{Name: p.ref.String()}
	top, err := p.resolve(ctx)
	if err != nil {
		return res, err
	}
	res.Digest = top.Digest
	if img, ok, err := p.here(ctx, top.Digest); ok || err != nil {
		res.Image = img
		return res, err
	}
	res.Fresh = true
	doc, err := p.manifest(ctx, top, 0)
	if err != nil {
		return res, err
	}
	res.Image, err = p.fetch(ctx, top.Digest, doc)
	return res, err
}

// resolve asks what the name stands for now.
func (p *puller) resolve(ctx context.Context) (ocispec.Descriptor, error) {
	task := progress.Begin(p.e.opts.Sink, "resolve "+p.ref.String(), "resolve "+p.ref.Familiar())
	desc, err := p.client.Head(ctx, p.ref)
	task.End(ctx, false, err)
	p.resolved = err == nil
	return desc, err
}

// here finds the image that this name stood for when it was last pulled, if the registry still says the same.
func (p *puller) here(ctx context.Context, top digest.Digest) (image.Image, bool, error) {
	img, err := p.known(ctx, p.ref.WithDigest(top).String())
	if errors.Is(err, errdef.ErrNotFound) || errors.Is(err, errdef.ErrCorrupt) {
		return image.Image{}, false, nil
	}
	if err == nil && !oci.Runs(p.platform, img.Config) {
		var ok bool
		if img, ok, err = p.e.sibling(ctx, "", img, p.platform); !ok {
			return image.Image{}, false, err
		}
	}
	if err != nil {
		return image.Image{}, false, err
	}
	return img, true, p.name(ctx, img)
}

// known finds the image that the registry has as name@digest: mostly the one that the tag points to, else by a look at all.
func (p *puller) known(ctx context.Context, full string) (image.Image, error) {
	if p.ref.Tag != "" {
		img, err := p.e.images.Pin(ctx, p.ref.String())
		if err == nil && slices.Contains(img.RepoDigests, full) {
			return img, nil
		}
	}
	return p.e.images.Pin(ctx, full)
}

// name points the tag that was asked for to the image. Where it does so already nothing is written.
func (p *puller) name(ctx context.Context, img image.Image) error {
	if p.ref.Tag == "" || p.unnamed {
		return nil
	}
	if t, err := p.e.images.TagNamed(p.ref.String()); err == nil && t.Image == img.ID && t.Index == "" {
		return nil
	}
	if x, ok, err := p.e.images.IndexOf(p.ref.String()); err == nil && ok && slices.ContainsFunc(x.Members, func(m image.Image) bool { return m.ID == img.ID }) {
		return nil // the name stands for that image and those of other platforms
	}
	_, err := p.e.images.Tag(ctx, p.ref.String(), img.ID, "pull")
	return err
}

// manifest fetches the manifest that desc is, or the one for the platform in the index that it is.
func (p *puller) manifest(ctx context.Context, desc ocispec.Descriptor, depth int) (remote.Document, error) {
	doc, err := p.client.Manifest(ctx, p.ref.WithDigest(desc.Digest))
	if err != nil || !oci.IsIndex(doc.Descriptor.MediaType) {
		return doc, err
	}
	if depth == maxNesting {
		return doc, fmt.Errorf("index %s: more than %d indexes within each other: %w", desc.Digest, maxNesting, errdef.ErrLimit)
	}
	index, err := oci.ParseIndex(doc.Raw)
	if err != nil {
		return doc, err
	}
	chosen, err := oci.Choose(index.Manifests, p.platform)
	if err != nil {
		return doc, errdef.WithHint(err, "another platform's image is fetched by: strata pull --platform OS/ARCH "+p.ref.Familiar())
	}
	return p.manifest(ctx, chosen, depth+1)
}

// fetch stores the image of a manifest and names it.
func (p *puller) fetch(ctx context.Context, top digest.Digest, doc remote.Document) (image.Image, error) {
	m, err := oci.ParseManifest(doc.Raw)
	if err != nil {
		return image.Image{}, err
	}
	if err := fetchable(m); err != nil {
		return image.Image{}, err
	}
	rawConfig, err := p.document(ctx, m.Config)
	if err != nil {
		return image.Image{}, err
	}
	cfg, err := oci.ParseImage(rawConfig)
	if err != nil {
		return image.Image{}, err
	}
	if len(m.Layers) != len(cfg.RootFS.DiffIDs) {
		return image.Image{}, fmt.Errorf("manifest: %d layers, but its config lists %d: %w", len(m.Layers), len(cfg.RootFS.DiffIDs), errdef.ErrInvalid)
	}
	if err := p.layers(ctx, m.Layers, cfg.RootFS.DiffIDs); err != nil {
		return image.Image{}, err
	}
	if err := p.e.layers.Sync(ctx); err != nil {
		return image.Image{}, err
	}
	img, err := p.e.images.Put(ctx, cfg, image.PutOptions{
		RawConfig: rawConfig, RawManifest: doc.Raw, RepoDigests: []string{p.ref.WithDigest(top).String()},
	})
	if err != nil {
		return img, err
	}
	return img, p.name(ctx, img)
}

// fetchable says whether a manifest is of an image whose layers registries give out.
func fetchable(m *ocispec.Manifest) error {
	if err := oci.CheckConfigType(m.Config.MediaType); err != nil {
		return err
	}
	if m.Config.Size > oci.MaxConfig {
		return fmt.Errorf("image config of %d bytes (at most %d): %w", m.Config.Size, oci.MaxConfig, errdef.ErrLimit)
	}
	for _, l := range m.Layers {
		for _, word := range []string{"foreign", "nondistributable", "encrypted"} {
			if strings.Contains(l.MediaType, word) {
				return fmt.Errorf("layer %s is of type %.100q: %w", l.Digest, l.MediaType, errdef.ErrUnsupported)
			}
		}
	}
	return nil
}

// document fetches a small blob whole.
func (p *puller) document(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	r, err := p.client.Blob(ctx, p.ref, desc)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(io.LimitReader(r, desc.Size)); err != nil {
		return nil, err
	}
	if got := digest.FromBytes(b.Bytes()); got != desc.Digest {
		return nil, fmt.Errorf("blob %s has digest %s: %w", desc.Digest, got, errdef.ErrCorrupt)
	}
	return b.Bytes(), nil
}

// layers stores every layer once, several at a time: one is decompressed while another arrives.
func (p *puller) layers(ctx context.Context, blobs []ocispec.Descriptor, ids []oci.DiffID) error {
	if _, err := p.e.partial.Sweep(partialAge, partialKeep); err != nil {
		return err
	}
	atOnce, err := p.e.layersAtOnce()
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	seen := map[oci.DiffID]bool{}
	for i, id := range ids {
		if seen[id] {
			continue
		}
		seen[id] = true
		group.Go(func() error {
			task := progress.Begin(p.e.opts.Sink, string(id), "layer "+shortDigest(blobs[i].Digest))
			task.Note, task.Total = "fetching", blobs[i].Size
			cached, err := p.layer(ctx, blobs[i], id, task)
			task.End(ctx, cached, err)
			return err
		})
	}
	return group.Wait()
}

// layer stores one layer, in one pass over its blob, unless it is here.
func (p *puller) layer(ctx context.Context, desc ocispec.Descriptor, id oci.DiffID, task *progress.Task) (cached bool, err error) {
	if err := p.e.hold(ctx, image.LayerName(id)); err != nil {
		return false, err
	}
	blob := layer.Blob{Digest: desc.Digest, MediaType: desc.MediaType, Size: desc.Size, Source: p.ref.Name()}
	_, err = p.e.layers.Stat(id)
	if err == nil {
		return true, p.e.layers.AddBlob(ctx, id, blob)
	}
	if !errors.Is(err, errdef.ErrNotFound) {
		return false, err
	}
	return p.fetchLayer(ctx, blob, id, task)
}

// smallBlob is the size up to which a blob is fetched by one request, with nothing of it kept on the disk.
const smallBlob = 4 << 20

// fetchLayer stores a layer that is not here, unless another process does it meanwhile: then it waits for that one.
func (p *puller) fetchLayer(ctx context.Context, blob layer.Blob, id oci.DiffID, task *progress.Task) (cached bool, err error) {
	part, err := p.e.partial.Take(ctx, blob.Digest, blob.Size, func() { task.Say("another process is fetching it") })
	if err != nil {
		return false, err
	}
	if _, err := p.e.layers.Stat(id); err == nil {
		return true, errors.Join(part.Remove(), p.e.layers.AddBlob(ctx, id, blob))
	}
	resumed := part.Resumed() > 0
	err = p.ingest(ctx, part, blob, id, task)
	if resumed && errors.Is(err, errdef.ErrCorrupt) { // what lay there may be wrong: without it
		if err = part.Reset(); err == nil {
			err = p.ingest(ctx, part, blob, id, task)
		}
	}
	if err != nil && (ctx.Err() != nil || errors.Is(err, errdef.ErrUnavailable)) {
		return false, errors.Join(err, part.Close()) // the next one goes on from here
	}
	if err == nil && blob.Size > smallBlob {
		return false, p.e.adopt(ctx, part, id, blob)
	}
	return false, errors.Join(err, part.Remove())
}

// ingest makes the layer of its blob in one pass.
func (p *puller) ingest(ctx context.Context, part *content.Partial, blob layer.Blob, id oci.DiffID, task *progress.Task) error {
	task.Restart()
	task.Say("fetching")
	desc := ocispec.Descriptor{MediaType: blob.MediaType, Digest: blob.Digest, Size: blob.Size}
	var r io.ReadCloser
	var err error
	var to layer.BlobTaker = p.e.layers // what comes through a file becomes a blob as it lies there
	if blob.Size <= smallBlob {
		to = p.e.keeping()
		if r, err = p.client.Blob(ctx, p.ref, desc); err == nil {
			r = counted{io.TeeReader(r, task), r}
		}
	} else {
		task.Add(int(part.Resumed()))
		r, err = p.client.Spooled(ctx, p.ref, desc, part, task.Add)
	}
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = layer.IngestBlob(ctx, to, r, blob, id)
	return err
}

// counted reads one thing and closes another.
type counted struct {
	io.Reader
	io.Closer
}

// shortDigest is a digest as docker shows it.
func shortDigest(d digest.Digest) string { return d.Encoded()[:12] }
