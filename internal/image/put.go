package image

import (
	"cmp"
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/errdef"
	"strata/internal/oci"
)

// PutOptions say more about an image that is put.
type PutOptions struct {
	// RawConfig is the config's exact bytes where it came from elsewhere; without it the config is encoded anew.
	RawConfig []byte
	// RawManifest is the manifest's exact bytes where it came from elsewhere; without it one is made.
	RawManifest []byte
	// Annotations of a manifest that is made.
	Annotations map[string]string
	// RepoDigests are added to those that the record has.
	RepoDigests []string
	// Parent of a committed image.
	Parent digest.Digest
}

// Put publishes an image: config and manifest as blobs, flushed, then the record. Its layers must be in the store, and
// flushed by the caller. Putting an image again keeps the time at which it first came; a manifest from elsewhere takes
// the place of one made here, never the other way round.
func (s *Store) Put(ctx context.Context, cfg *oci.Image, o PutOptions) (Image, error) {
	rec, err := s.putDocuments(ctx, cfg, o)
	if err != nil {
		return Image{}, err
	}
	if rec, err = s.publishRecord(ctx, rec); err != nil {
		return Image{}, err
	}
	return s.read(rec)
}

// PutMember is Put without a record: the image is there for an index that refers to it, or while this process lives.
func (s *Store) PutMember(ctx context.Context, cfg *oci.Image, o PutOptions) (Image, error) {
	rec, err := s.putDocuments(ctx, cfg, o)
	if err != nil {
		return Image{}, err
	}
	return s.read(rec)
}

// putDocuments stores config and manifest and gives the record that is to be published.
func (s *Store) putDocuments(ctx context.Context, cfg *oci.Image, o PutOptions) (Record, error) {
	rawConfig, err := configBytes(cfg, o.RawConfig)
	if err != nil {
		return Record{}, err
	}
	id := digest.FromBytes(rawConfig)
	size, err := s.holdLayers(ctx, id, cfg.RootFS.DiffIDs)
	if err != nil {
		return Record{}, err
	}
	rawManifest := o.RawManifest
	if rawManifest == nil {
		if rawManifest, err = s.makeManifest(cfg, rawConfig, o.Annotations); err != nil {
			return Record{}, err
		}
	}
	desc, err := describe(rawManifest, id)
	if err != nil {
		return Record{}, err
	}
	if err := s.publishBlobs(ctx, rawConfig, rawManifest); err != nil {
		return Record{}, fmt.Errorf("image %s: %w", short(id), err)
	}
	return Record{
		ID: id, Manifest: desc, Foreign: o.RawManifest != nil, Created: s.now(),
		RepoDigests: o.RepoDigests, Parent: o.Parent, Size: size,
	}, nil
}

// configBytes is the encoding whose digest is the image's id.
func configBytes(cfg *oci.Image, raw []byte) ([]byte, error) {
	if raw != nil {
		return raw, nil
	}
	raw, err := cfg.Marshal()
	if err == nil && len(raw) > oci.MaxConfig {
		err = fmt.Errorf("%d bytes (at most %d): %w", len(raw), oci.MaxConfig, errdef.ErrLimit)
	}
	if err != nil {
		return nil, fmt.Errorf("image config: %w", err)
	}
	return raw, nil
}

// holdLayers keeps the image's layers, sees that they are there, and gives the size of their files, 0 if one's is not known.
func (s *Store) holdLayers(ctx context.Context, id digest.Digest, layers []oci.DiffID) (size int64, err error) {
	names := []string{ImageName(id)}
	for _, l := range layers {
		names = append(names, LayerName(l))
	}
	if err := s.hold(ctx, names...); err != nil {
		return 0, err
	}
	known := true
	for _, l := range layers {
		meta, err := s.Layers.Stat(l)
		if err != nil {
			return 0, fmt.Errorf("image %s: layer %s: %w", short(id), l, err)
		}
		size += meta.Content
		known = known && meta.Content >= 0
	}
	if !known {
		return 0, nil
	}
	return size, nil
}

// makeManifest describes the image as it lies in the store, layers uncompressed.
func (s *Store) makeManifest(cfg *oci.Image, rawConfig []byte, annotations map[string]string) ([]byte, error) {
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config: ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageConfig,
			Digest:    digest.FromBytes(rawConfig),
			Size:      int64(len(rawConfig)),
		},
		Layers:      []ocispec.Descriptor{},
		Annotations: annotations,
	}
	for _, l := range cfg.RootFS.DiffIDs {
		meta, err := s.Layers.Stat(l)
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", l, err)
		}
		m.Layers = append(m.Layers, ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageLayer, Digest: digest.Digest(l), Size: meta.Size,
		})
	}
	return oci.Marshal(m)
}

// RestoreManifest stores the manifest of an image again that was made here, if what it was made of is still there:
// errdef.ErrNotFound when that gives another one.
func (s *Store) RestoreManifest(rec Record) error {
	raw, err := s.Content.ReadAll(rec.ID, oci.MaxConfig)
	if err != nil {
		return err
	}
	cfg, err := oci.ParseImage(raw)
	if err != nil {
		return err
	}
	made, err := s.makeManifest(cfg, raw, nil)
	if err != nil {
		return err
	}
	if digest.FromBytes(made) != rec.Manifest.Digest {
		return fmt.Errorf("manifest %s: %w", rec.Manifest.Digest, errdef.ErrNotFound)
	}
	_, err = s.Content.Put(made)
	return err
}

// describe checks that the manifest is one of the image id and gives its descriptor.
func describe(raw []byte, id digest.Digest) (ocispec.Descriptor, error) {
	m, err := oci.ParseManifest(raw)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if m.Config.Digest != id {
		return ocispec.Descriptor{}, fmt.Errorf("manifest: it is for config %s, not %s: %w", m.Config.Digest, id, errdef.ErrCorrupt)
	}
	desc := ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if desc.MediaType == "" {
		desc.MediaType = ocispec.MediaTypeImageManifest
	}
	return desc, nil
}

func (s *Store) publishBlobs(ctx context.Context, blobs ...[]byte) error {
	for _, raw := range blobs {
		want := digest.FromBytes(raw)
		if err := s.hold(ctx, BlobName(want)); err != nil {
			return err
		}
		got, err := s.Content.Put(raw)
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("blob %s was stored as %s: %w", want, got, errdef.ErrCorrupt)
		}
	}
	return s.Content.Sync()
}

// publishRecord writes rec, or adds what is new in it to the record that there is.
func (s *Store) publishRecord(ctx context.Context, rec Record) (Record, error) {
	err := s.Images.Update(ctx, rec.ID.Encoded(), func(old *Record, exists bool) error {
		if exists {
			rec = merge(*old, rec)
		}
		*old = rec
		return nil
	})
	return rec, err
}

func merge(old, rec Record) Record {
	rec.Created, rec.LastTagged = old.Created, old.LastTagged
	if old.Foreign && !rec.Foreign {
		rec.Manifest, rec.Foreign = old.Manifest, true
	}
	if rec.Parent == "" {
		rec.Parent = old.Parent
	}
	rec.RepoDigests = union(old.RepoDigests, rec.RepoDigests)
	rec.Size = cmp.Or(rec.Size, old.Size)
	return rec
}

// AppendOptions say what an image has more than its parent.
type AppendOptions struct {
	// Layer on top; "" adds none.
	Layer oci.DiffID
	// Change edits the new config, which starts as the parent's. Nil changes nothing.
	Change func(*oci.Image)
	// Entry is the new line of the history. EmptyLayer is set here, and Created when it is nil.
	Entry oci.History
	// Annotations of the manifest.
	Annotations map[string]string
}

// Append puts the image that is parent with one layer, or only one change, more. The zero parent is scratch.
func (s *Store) Append(ctx context.Context, parent Image, o AppendOptions) (Image, error) {
	cfg := &oci.Image{OS: oci.Host().OS, Architecture: oci.Host().Architecture, Variant: oci.Host().Variant}
	if parent.Config != nil {
		cfg = parent.Config.Clone()
	}
	if o.Entry.Created == nil {
		now := s.now()
		o.Entry.Created = &now
	}
	cfg.Created = o.Entry.Created
	cfg.RootFS.Type = "layers"
	o.Entry.EmptyLayer = o.Layer == ""
	if o.Layer != "" {
		cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, o.Layer)
	}
	if cfg.RootFS.DiffIDs == nil {
		cfg.RootFS.DiffIDs = []oci.DiffID{}
	}
	cfg.History = append(cfg.History, o.Entry)
	if o.Change != nil {
		o.Change(cfg)
	}
	return s.Put(ctx, cfg, PutOptions{Annotations: o.Annotations, Parent: parent.ID})
}
