package image

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/errdef"
	"strata/internal/oci"
	"strata/internal/reference"
)

// Index is an image for several platforms: the document and the image of each platform, in its order. Only the image that
// the tag points to has a record; the others are reached through the index alone.
type Index struct {
	// Descriptor of the document, Raw its bytes, Document what they say.
	Descriptor ocispec.Descriptor
	Raw        []byte
	Document   *ocispec.Index
	// Members have no RepoDigests and no Tags; of the Record only the ID and the Manifest are set.
	Members []Image
}

// IndexOptions say more about an index that is put.
type IndexOptions struct {
	// Annotations of the index.
	Annotations map[string]string
	// Descriptors gives annotations of the descriptor of a member in the index; nil gives none.
	Descriptors func(p oci.Platform) map[string]string
}

// PutIndex stores the index of images that are in the store: put by [Store.Put] or [Store.PutMember].
func (s *Store) PutIndex(ctx context.Context, members []Image, o IndexOptions) (Index, error) {
	doc := ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{}, Annotations: o.Annotations,
	}
	for _, m := range members {
		d := m.Record.Manifest
		p := m.Platform()
		d.Platform = &p
		if o.Descriptors != nil {
			d.Annotations = o.Descriptors(p)
		}
		doc.Manifests = append(doc.Manifests, d)
	}
	raw, err := oci.Marshal(doc)
	if err != nil {
		return Index{}, err
	}
	if err := s.publishBlobs(ctx, raw); err != nil {
		return Index{}, fmt.Errorf("index: %w", err)
	}
	desc := ocispec.Descriptor{MediaType: doc.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	return Index{Descriptor: desc, Raw: raw, Document: &doc, Members: members}, nil
}

// Platform that the image is for.
func (i Image) Platform() oci.Platform {
	return oci.Platform{OS: i.Config.OS, Architecture: i.Config.Architecture, Variant: i.Config.Variant, OSVersion: i.Config.OSVersion}
}

// Index reads an index and its members.
func (s *Store) Index(d digest.Digest) (Index, error) {
	raw, err := s.Content.ReadAll(d, oci.MaxManifest)
	if err != nil {
		return Index{}, damagedIndex(d, err)
	}
	doc, err := oci.ParseIndex(raw)
	if err != nil {
		return Index{}, damagedIndex(d, err)
	}
	x := Index{Descriptor: ocispec.Descriptor{MediaType: doc.MediaType, Digest: d, Size: int64(len(raw))}, Raw: raw, Document: doc}
	for _, desc := range doc.Manifests {
		m, err := s.member(desc)
		if err != nil {
			return Index{}, damagedIndex(d, err)
		}
		x.Members = append(x.Members, m)
	}
	return x, nil
}

// damagedIndex classes what is missing of an index as damage.
func damagedIndex(d digest.Digest, err error) error {
	return fmt.Errorf("index %s: %w: %w", short(d), errdef.ErrCorrupt, err)
}

func (s *Store) member(desc ocispec.Descriptor) (Image, error) {
	raw, err := s.Content.ReadAll(desc.Digest, oci.MaxManifest)
	if err != nil {
		return Image{}, err
	}
	m, err := oci.ParseManifest(raw)
	if err != nil {
		return Image{}, err
	}
	return s.read(Record{ID: m.Config.Digest, Manifest: ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}})
}

// WithManifests is the index with other descriptors in the place of its members', in their order: what a registry or an
// archive has of them. What the index says of its members stays.
func (x Index) WithManifests(descs []ocispec.Descriptor) ([]byte, error) {
	same := slices.EqualFunc(x.Document.Manifests, descs, func(a, b ocispec.Descriptor) bool {
		return a.MediaType == b.MediaType && a.Digest == b.Digest && a.Size == b.Size
	})
	if same {
		return x.Raw, nil
	}
	doc := *x.Document
	doc.Manifests = slices.Clone(doc.Manifests)
	for i, d := range descs {
		doc.Manifests[i].MediaType, doc.Manifests[i].Digest, doc.Manifests[i].Size = d.MediaType, d.Digest, d.Size
	}
	return oci.Marshal(doc)
}

// IndexOf gives the index that a name stands for. ok is false when it stands for one image, or for nothing.
func (s *Store) IndexOf(name string) (x Index, ok bool, err error) {
	ref, err := reference.Parse(name)
	if err != nil || ref.Digest != "" {
		return x, false, nil //nolint:nilerr // an id has no index
	}
	t, err := s.Tags.Get(key(ref.Latest().String()))
	if errors.Is(err, errdef.ErrNotFound) || err == nil && t.Index == "" {
		return x, false, nil
	}
	if err != nil {
		return x, false, err
	}
	x, err = s.Index(t.Index)
	return x, err == nil, err
}

// PinIndex is IndexOf that holds what it gives for as long as this process lives.
func (s *Store) PinIndex(ctx context.Context, name string) (Index, bool, error) {
	x, ok, err := s.IndexOf(name)
	if !ok || err != nil {
		return x, false, err
	}
	if x, err = s.pinIndex(ctx, x.Descriptor.Digest); err == nil {
		return x, true, nil
	}
	return s.IndexOf(name) // the name was moved meanwhile
}

// pinIndex reads an index and holds it with all that it consists of.
func (s *Store) pinIndex(ctx context.Context, d digest.Digest) (Index, error) {
	x, err := s.Index(d)
	if err != nil {
		return x, err
	}
	if err := s.hold(ctx, slices.Sorted(maps.Keys(x.names()))...); err != nil {
		return x, err
	}
	return s.Index(d) // a sweep may have gone by before the names were held
}

// names is all that an index consists of.
func (x Index) names() map[string]bool {
	all := map[string]bool{BlobName(x.Descriptor.Digest): true}
	for _, m := range x.Members {
		for _, name := range Names(m) {
			all[name] = true
		}
	}
	return all
}
