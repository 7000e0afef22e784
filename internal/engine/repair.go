package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/base"
	"strata/internal/errdef"
	"strata/internal/image"
	"strata/internal/layer"
	"strata/internal/oci"
	"strata/internal/reference"
)

// mendLayer makes a layer whole: from its own tar, from a compressed form in the store, from a registry. One that nobody
// but the build cache needs is dropped. It says what it did.
func (c *checker) mendLayer(ctx context.Context, id oci.DiffID) (string, error) {
	if _, err := c.layers.Stat(id); err == nil && c.layers.Check(ctx, id, c.depth) == nil {
		return "whole again", nil // an earlier repair was of the same layer
	}
	if alive := c.owners[aliveName(id)]; len(alive) > 0 {
		return "", errdef.WithHint(fmt.Errorf("it is mounted by the running container %s: %w", strings.Join(alive, ", "), errdef.ErrConflict),
			"stop it and check again")
	}
	owners := c.owners[image.LayerName(id)]
	if len(owners) == 0 && len(c.cached[id]) == 0 {
		return "dropped: nothing refers to it", c.dropLayer(ctx, id)
	}
	failed := c.layers.Remake(ctx, id)
	if failed == nil {
		return "made anew from its own tar", nil
	}
	sources := c.layerSources(id)
	for _, s := range sources {
		from, err := c.refill(ctx, id, s)
		if err == nil {
			return "fetched again from " + from, nil
		}
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		failed = err
	}
	if len(owners) == 0 {
		return c.dropCached(ctx, id)
	}
	if done, err := c.remakeBaseLayer(ctx, id); err == nil {
		return done, nil
	}
	if len(sources) == 0 {
		failed = errNoHome
	}
	return "", errdef.WithHint(failed, "build, load or pull "+owners[0]+" again; until then strata rmi -f removes it")
}

// layerSources lists where a compressed form of the layer may be had, blobs of the store first.
func (c *checker) layerSources(id oci.DiffID) []source {
	var all []source
	seen := map[string]bool{}
	add := func(s source) {
		if key := s.ref.Name() + string(s.desc.Digest); !seen[key] {
			seen[key] = true
			all = append(all, s)
		}
	}
	meta, _ := c.layers.Stat(id) // one that cannot be read names no source, its images do
	for _, b := range meta.Blobs {
		if _, err := c.content.Stat(b.Digest); err == nil {
			add(source{desc: describe(b)})
		}
	}
	for _, b := range meta.Blobs {
		if ref, err := reference.Parse(b.Source); b.Source != "" && err == nil {
			add(source{ref, describe(b)})
		}
	}
	for _, s := range c.blobs[id] {
		add(s)
	}
	return all
}

// refill puts the layer in its place anew from one source, and says which.
func (c *checker) refill(ctx context.Context, id oci.DiffID, s source) (string, error) {
	var r io.ReadCloser
	var err error
	from := "the store's blob " + shortDigest(s.desc.Digest)
	if s.ref.Path == "" {
		r, _, err = c.content.Open(s.desc.Digest)
	} else {
		from = s.ref.FamiliarName()
		r, err = c.registries().Blob(ctx, s.ref.Repository(), s.desc)
	}
	if err != nil {
		return "", err
	}
	defer r.Close()
	blob := layer.Blob{Digest: s.desc.Digest, MediaType: s.desc.MediaType, Size: s.desc.Size}
	if s.ref.Path != "" {
		blob.Source = s.ref.Name()
	}
	_, err = layer.IngestBlob(ctx, replacer{c.layers}, r, blob, id)
	return from, err
}

// replacer ingests a layer in the place of what has its name.
type replacer struct{ *layer.Store }

// Ingest is Replace.
func (r replacer) Ingest(ctx context.Context, tar io.Reader, want oci.DiffID) (layer.Meta, error) {
	return r.Replace(ctx, tar, want)
}

// remakeBase makes the built-in base anew that has a document.
func (c *checker) remakeBase(ctx context.Context, d digest.Digest) (string, error) {
	built, src, err := c.builtIn(image.BlobName(d))
	if err == nil {
		_, err = c.makeBase(ctx, src, built)
	}
	if err == nil {
		err = c.checkBlobWhole(ctx, d)
	}
	return "made anew with the built-in base " + built, err
}

// remakeBaseLayer makes the layer of a built-in base anew.
func (c *checker) remakeBaseLayer(ctx context.Context, id oci.DiffID) (string, error) {
	built, src, err := c.builtIn(image.LayerName(id))
	if err != nil {
		return "", err
	}
	for _, part := range base.Layers(built) {
		if _, err = c.baseLayer(ctx, src, part, func(tar io.Reader) (layer.Meta, error) { return c.layers.Replace(ctx, tar, id) }); err == nil {
			break
		}
	}
	return "made anew with the built-in base " + built, err
}

// builtIn finds the built-in base that has a thing.
func (c *checker) builtIn(name string) (string, base.Source, error) {
	for _, owner := range c.owners[name] {
		for built := range strings.SplitSeq(owner, " and ") {
			if base.Is(built) {
				src, err := base.Find()
				return built, src, err
			}
		}
	}
	return "", base.Source{}, errdef.ErrNotFound
}

func (c *checker) trash() (string, error) {
	dir := filepath.Join(c.opts.Root, "trash")
	return dir, os.MkdirAll(dir, 0o700)
}

// dropLayer has the sweep take a layer to which nothing was found to refer. Somebody may have come to need it since, or work with it.
func (c *checker) dropLayer(ctx context.Context, id oci.DiffID) error {
	if _, err := c.Sweep(ctx); err != nil {
		return err
	}
	if _, err := c.layers.Stat(id); !errors.Is(err, errdef.ErrNotFound) {
		return errdef.WithHint(conflictf("a command that runs has need of it"), "let it end and check again")
	}
	return nil
}

// dropCached drops a layer that only the build cache needs, with the entries that need it: their steps run again.
func (c *checker) dropCached(ctx context.Context, id oci.DiffID) (string, error) {
	cache, err := c.cache()
	if err != nil {
		return "", err
	}
	for _, key := range c.cached[id] {
		if err := cache.Remove(key); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("dropped with %d entries of the build cache", len(c.cached[id])), c.dropLayer(ctx, id)
}

// mendBlob fetches a document again, and drops what can be made or fetched when it is needed.
func (c *checker) mendBlob(ctx context.Context, d digest.Digest) (string, error) {
	if c.checkBlob(ctx, d) == nil {
		return "whole again", nil
	}
	homes, needed := c.homes[d], c.isDocument(d)
	for _, s := range homes {
		if err := c.refetch(ctx, d, s); err == nil {
			return "fetched again from " + s.ref.FamiliarName(), nil
		}
	}
	if needed {
		if rec, ok := c.recordWith(d); ok && c.images.RestoreManifest(rec) == nil {
			return "made anew from the image's config", nil
		} else if ok {
			if from, err := c.adopt(ctx, rec); err == nil {
				return "the image has the manifest now that " + from + " has of it", nil
			}
		}
		owner := c.owners[image.BlobName(d)][0]
		if done, err := c.remakeBase(ctx, d); err == nil {
			return done, nil
		}
		return "", errdef.WithHint(errNoHome, "build, load or pull "+owner+" again; until then strata rmi -f removes it")
	}
	trash, err := c.trash()
	if err == nil {
		err = c.content.Trash(d, trash)
	}
	if len(c.owners[image.BlobName(d)]) > 0 {
		return "dropped: it is a compressed form of a layer, made or fetched again when it is needed", err
	}
	return "dropped: nothing refers to it", err
}

// adopt gives an image the manifest that a registry has of it, where its own is lost.
func (c *checker) adopt(ctx context.Context, rec image.Record) (string, error) {
	err := errNoHome
	for _, s := range c.homes[rec.ID] {
		if s.ref.Digest == "" {
			continue
		}
		p := puller{e: c.Engine, client: c.registries(), ref: s.ref, platform: oci.Host()}
		doc, merr := p.manifest(ctx, ocispec.Descriptor{Digest: s.ref.Digest}, 0)
		if err = merr; err != nil {
			continue
		}
		m, merr := oci.ParseManifest(doc.Raw)
		if err = merr; err != nil || m.Config.Digest != rec.ID {
			continue
		}
		if _, err = c.content.Put(doc.Raw); err == nil {
			c.packed[rec.Manifest.Digest] = true // nobody needs it any more
			err = c.images.Images.Update(ctx, rec.ID.Encoded(), func(now *image.Record, exists bool) error {
				if !exists {
					return fmt.Errorf("image %s: %w", shortDigest(rec.ID), errdef.ErrNotFound)
				}
				now.Manifest, now.Foreign = doc.Descriptor, true
				return nil
			})
		}
		return s.ref.FamiliarName(), err
	}
	return "", err
}

// isDocument reports whether the blob is a config, a manifest or an index of something that is in the store: what belongs to
// somebody and is no compressed layer.
func (c *checker) isDocument(d digest.Digest) bool {
	return len(c.owners[image.BlobName(d)]) > 0 && !c.packed[d]
}

// recordWith finds the image that the manifest d describes.
func (c *checker) recordWith(d digest.Digest) (image.Record, bool) {
	all, err := c.images.Images.Keys()
	if err != nil {
		return image.Record{}, false
	}
	for _, key := range all {
		if rec, err := c.images.Images.Get(key); err == nil && rec.Manifest.Digest == d {
			return rec, true
		}
	}
	return image.Record{}, false
}

// refetch stores a document that a registry has.
func (c *checker) refetch(ctx context.Context, d digest.Digest, s source) error {
	doc, err := c.registries().Manifest(ctx, s.ref.WithDigest(d))
	raw := doc.Raw
	if err != nil { // a config
		if raw, err = c.fetchConfig(ctx, d, s.ref); err != nil {
			return err
		}
	}
	_, _, err = c.content.Ingest(ctx, bytes.NewReader(raw), d, int64(len(raw)))
	return err
}

// fetchConfig finds a config's size, which its record does not have, in a manifest of the repository that names it: the one
// that the repository is known to have, or the image's own.
func (c *checker) fetchConfig(ctx context.Context, d digest.Digest, ref reference.Ref) ([]byte, error) {
	rec, err := c.images.Images.Get(d.Encoded())
	if err != nil {
		return nil, err
	}
	p := puller{e: c.Engine, client: c.registries(), ref: ref, platform: oci.Host()}
	for _, manifest := range []digest.Digest{ref.Digest, rec.Manifest.Digest} {
		if manifest == "" {
			continue
		}
		var raw []byte
		if raw, err = p.configOf(ctx, manifest, d); err == nil {
			return raw, nil
		}
	}
	return nil, err
}

// configOf fetches the config d that a manifest names.
func (p *puller) configOf(ctx context.Context, manifest, d digest.Digest) ([]byte, error) {
	doc, err := p.manifest(ctx, ocispec.Descriptor{Digest: manifest}, 0)
	if err != nil {
		return nil, err
	}
	m, err := oci.ParseManifest(doc.Raw)
	if err != nil {
		return nil, err
	}
	if m.Config.Digest != d || m.Config.Size > oci.MaxConfig {
		return nil, fmt.Errorf("manifest %s does not name config %s: %w", manifest, d, errdef.ErrCorrupt)
	}
	return p.document(ctx, ocispec.Descriptor{MediaType: m.Config.MediaType, Digest: d, Size: m.Config.Size})
}
