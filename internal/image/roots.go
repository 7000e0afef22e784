package image

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"strata/internal/errdef"
	"strata/internal/oci"
	"strata/internal/reference"
)

// ImageName is how leases and the sweep call an image record: "image:<hex>".
func ImageName(id digest.Digest) string { return "image:" + id.Encoded() }

// BlobName is how leases and the sweep call a blob: "blob:<hex>".
func BlobName(d digest.Digest) string { return "blob:" + d.Encoded() }

// LayerName is how leases and the sweep call a layer: "layer:<hex>".
func LayerName(id oci.DiffID) string { return "layer:" + id.Hex() }

// Names lists what an image consists of, to be held: record, config, manifest, layers, and the blobs that its manifest
// calls its layers, which may or may not be in the store.
func Names(img Image) []string {
	names := []string{ImageName(img.ID), BlobName(img.ID), BlobName(img.Record.Manifest.Digest)}
	for _, l := range img.DiffIDs() {
		names = append(names, LayerName(l))
	}
	if img.Manifest != nil {
		for _, d := range img.Manifest.Layers {
			names = append(names, BlobName(d.Digest))
		}
	}
	return names
}

// Roots gives the names of everything that image records reach: [Names] of each, and the compressed forms that are known
// of its layers. A record that cannot be read is an error: what it reaches is unknown, so nothing may be swept.
func (s *Store) Roots(_ context.Context) (map[string]bool, error) {
	keys, err := s.Images.Keys()
	if err != nil {
		return nil, err
	}
	roots := map[string]bool{}
	for _, k := range keys {
		img, err := s.readKey(k)
		if errors.Is(err, errdef.ErrNotFound) {
			continue // removed since Keys
		}
		if err != nil {
			return nil, err
		}
		for _, name := range Names(img) {
			roots[name] = true
		}
		for _, l := range img.DiffIDs() {
			// A layer that cannot be read has no known forms; that it is damaged is `system check`'s to say.
			meta, _ := s.Layers.Stat(l)
			for _, b := range meta.Blobs {
				roots[BlobName(b.Digest)] = true
			}
		}
	}
	return roots, s.indexRoots(roots)
}

// Documents gives the digests of the manifests, configs and indexes of all images.
func (s *Store) Documents(_ context.Context) (map[digest.Digest]bool, error) {
	records, err := s.Images.All()
	if err != nil {
		return nil, err
	}
	documents := map[digest.Digest]bool{}
	for _, rec := range records {
		documents[rec.ID], documents[rec.Manifest.Digest] = true, true
	}
	tags, err := s.Tags.All()
	if err != nil {
		return nil, err
	}
	for _, t := range tags {
		if t.Index == "" || documents[t.Index] {
			continue
		}
		x, err := s.Index(t.Index)
		if err != nil {
			return nil, err
		}
		documents[t.Index] = true
		for _, m := range x.Members {
			documents[m.ID], documents[m.Record.Manifest.Digest] = true, true
		}
	}
	return documents, nil
}

// indexRoots adds what the indexes reach that tags stand for.
func (s *Store) indexRoots(roots map[string]bool) error {
	tags, err := s.Tags.All()
	if err != nil {
		return err
	}
	for _, t := range tags {
		if t.Index == "" || roots[BlobName(t.Index)] {
			continue
		}
		x, err := s.Index(t.Index)
		if err != nil {
			name := reference.Familiarize(t.Name)
			return errdef.WithHint(fmt.Errorf("tag %q: %w", name, err), "strata rmi "+name+" removes it; build it again")
		}
		for name := range x.names() {
			roots[name] = true
		}
	}
	return nil
}
