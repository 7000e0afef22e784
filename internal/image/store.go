package image

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/errdef"
	"strata/internal/layer"
	"strata/internal/oci"
	"strata/internal/record"
)

// Blobs is where configs and manifests are: content.Store.
type Blobs interface {
	Put(data []byte) (digest.Digest, error)
	ReadAll(d digest.Digest, limit int64) ([]byte, error)
	Sync() error
}

// Layers tells of layers: layer.Store.
type Layers interface {
	Stat(id oci.DiffID) (layer.Meta, error)
}

// Record says that an image is in the store. Its key is the hex of the id.
type Record struct {
	// ID is the digest of the config.
	ID digest.Digest `json:"id"`
	// Manifest describes the manifest blob.
	Manifest ocispec.Descriptor `json:"manifest"`
	// Foreign: the manifest came with the image and is kept as it was.
	Foreign bool `json:"foreign,omitempty"`
	// Created is when the image came into this store: built, pulled, loaded.
	Created time.Time `json:"created"`
	// RepoDigests are the names with digest ("docker.io/library/x@sha256:…") under which registries have the image.
	RepoDigests []string `json:"repoDigests,omitempty"`
	// Parent is the image that this one was committed on, if any.
	Parent digest.Digest `json:"parent,omitempty"`
	// Size is what the files of the layers have, in bytes ([layer.Meta.Shown]): it follows from the id and never changes. Zero in
	// records of an older strata, and where it is not known of each layer.
	Size int64 `json:"size,omitempty"`
	// LastTagged is when a tag was last pointed to the image.
	LastTagged time.Time `json:"lastTagged,omitzero"`
}

// Image is an image with its documents.
type Image struct {
	Record
	Config    *oci.Image
	RawConfig []byte
	// Manifest is the document that Record.Manifest describes, RawManifest its bytes.
	Manifest    *ocispec.Manifest
	RawManifest []byte
	// Tags are the full names that point to the image, sorted. Filled by List and Inspect only: finding them means
	// reading every tag, which Resolve, run for every container, does not.
	Tags []string
}

// DiffIDs are the image's layers, base first.
func (i Image) DiffIDs() []oci.DiffID {
	if i.Config == nil {
		return nil
	}
	return i.Config.RootFS.DiffIDs
}

// Store is the images and tags of one store. Its fields are set once, before use.
type Store struct {
	Content Blobs
	Layers  Layers
	Images  *record.Dir[Record]
	Tags    *record.Dir[Tag]
	// Hold keeps names from the sweep while this process lives (record.Lease.Hold). Nil holds nothing.
	Hold func(ctx context.Context, names ...string) error
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Open opens images/ and refs/ under the store's root.
func Open(root string, blobs Blobs, layers Layers) (*Store, error) {
	images, err := record.OpenDir[Record](filepath.Join(root, "images"), "image")
	if err != nil {
		return nil, err
	}
	tags, err := record.OpenDir[Tag](filepath.Join(root, "refs"), "tag")
	if err != nil {
		return nil, err
	}
	return &Store{Content: blobs, Layers: layers, Images: images, Tags: tags}, nil
}

func (s *Store) hold(ctx context.Context, names ...string) error {
	if s.Hold == nil {
		return nil
	}
	return s.Hold(ctx, names...)
}

func (s *Store) now() time.Time {
	if s.Now == nil {
		return time.Now().UTC()
	}
	return s.Now().UTC()
}

// Get reads the image with this id, without its tags. errdef.ErrNotFound without a record, errdef.ErrCorrupt when a
// document that the record refers to is missing or damaged.
func (s *Store) Get(_ context.Context, id digest.Digest) (Image, error) {
	if _, err := oci.ParseDigest(string(id)); err != nil {
		return Image{}, fmt.Errorf("image: %w", err)
	}
	rec, err := s.Images.Get(id.Encoded())
	if errors.Is(err, errdef.ErrNotFound) {
		return Image{}, fmt.Errorf("image %s: %w", short(id), errdef.ErrNotFound)
	}
	if err != nil {
		return Image{}, err
	}
	return s.read(rec)
}

// read completes rec with its documents.
func (s *Store) read(rec Record) (Image, error) { return s.readBoth(rec, oci.ParseImage) }

func (s *Store) readBoth(rec Record, parse func(raw []byte) (*oci.Image, error)) (Image, error) {
	img, err := s.readConfig(rec, parse)
	if err != nil {
		return img, err
	}
	if img.RawManifest, err = s.document(rec, "manifest", rec.Manifest.Digest, oci.MaxManifest); err != nil {
		return img, err
	}
	if img.Manifest, err = oci.ParseManifest(img.RawManifest); err != nil {
		return img, broken(rec.ID, err)
	}
	return img, nil
}

// readConfig completes rec with its config alone.
func (s *Store) readConfig(rec Record, parse func(raw []byte) (*oci.Image, error)) (Image, error) {
	img := Image{Record: rec}
	for _, d := range []digest.Digest{rec.ID, rec.Manifest.Digest} {
		if _, err := oci.ParseDigest(string(d)); err != nil {
			return img, fmt.Errorf("image record: %w: %w", errdef.ErrCorrupt, err)
		}
	}
	raw, err := s.document(rec, "config", rec.ID, oci.MaxConfig)
	if err != nil {
		return img, err
	}
	img.RawConfig = raw
	if img.Config, err = parse(raw); err != nil {
		return img, broken(rec.ID, err)
	}
	return img, nil
}

// document reads one blob of an image. One that is missing is damage to the image, not a name not found.
func (s *Store) document(rec Record, what string, d digest.Digest, limit int64) ([]byte, error) {
	raw, err := s.Content.ReadAll(d, limit)
	if errors.Is(err, errdef.ErrNotFound) {
		return nil, broken(rec.ID, fmt.Errorf("its %s %s is missing from the store", what, d))
	}
	if err != nil {
		return nil, broken(rec.ID, fmt.Errorf("%s: %w", what, err))
	}
	return raw, nil
}

// broken is the error about an image that is recorded but cannot be read.
func broken(id digest.Digest, cause error) error {
	err := fmt.Errorf("image %s: %w: %w", short(id), errdef.ErrCorrupt, cause)
	return errdef.WithHint(err, fmt.Sprintf("strata rmi -f %s removes it; pull, load or build it again", short(id)))
}

// short is an id as docker shows it: the first twelve hexadecimal digits.
func short(id digest.Digest) string {
	hex := string(id)
	if _, after, ok := cutAlgorithm(hex); ok {
		hex = after
	}
	return hex[:min(12, len(hex))]
}
