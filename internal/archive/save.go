package archive

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/errdef"
	"strata/internal/image"
	"strata/internal/layer"
	"strata/internal/oci"
	"strata/internal/reference"
)

// Format is a form of archive that [Save] writes.
type Format string

// The formats. Docker is docker's archive and an OCI layout in one tar, as docker writes it since version 25: docker,
// podman and skopeo read it as either. OCI is the layout alone.
const (
	Docker Format = "docker"
	OCI    Format = "oci"
)

// SaveOptions say how an archive is written.
type SaveOptions struct {
	Format Format
	// Compression is "none" (or ""), "gzip" or "zstd". It is of the whole stream for Docker, whose layers are always
	// plain, and of each layer for OCI.
	Compression string
	// Layers is the compression of each layer for either format, instead of Compression; "" is none.
	Layers string
	// Level of the compression; 0 is its default.
	Level int
	// TempDir is where a compressed layer lies until its digest is known. Needed for OCI with compression only.
	TempDir func() (string, error)
}

// Item is one image to save.
type Item struct {
	Image image.Image
	// Index that Image is a member of, to be saved with all its members; nil saves Image alone.
	Index *image.Index
	// Names in full, with tags; none saves the image without a name.
	Names []string
}

// Save writes the images to w. The same images and options give the same bytes. Layers that several images share are
// written once. A layer that does not give the tar of its diffID is errdef.ErrCorrupt.
func Save(ctx context.Context, w io.Writer, items []Item, layers LayerReader, o SaveOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	whole, perLayer := o.split()
	out, err := layer.Compress(w, whole, o.Level, 1)
	if err != nil {
		return err
	}
	s := &saver{out: newTarWriter(out), layers: layers, o: o, compression: perLayer, written: map[oci.DiffID]ocispec.Descriptor{}}
	err = s.save(ctx, mergeItems(items))
	if e := out.Close(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("save: %w", err)
	}
	return nil
}

func (o SaveOptions) check() error {
	if o.Format != Docker && o.Format != OCI {
		return fmt.Errorf("archive format %.40q: want %s or %s: %w", string(o.Format), Docker, OCI, errdef.ErrInvalid)
	}
	if o.Layers != "" {
		return layer.CheckCompression(o.Layers, o.Level)
	}
	return layer.CheckCompression(o.Compression, o.Level)
}

// split says what the compression is of.
func (o SaveOptions) split() (whole, perLayer string) {
	if o.Layers != "" {
		return "", o.Layers
	}
	if o.Format == Docker {
		return o.Compression, ""
	}
	return "", o.Compression
}

// mergeItems puts the names of an image that is asked for twice together.
func mergeItems(items []Item) []Item {
	var merged []Item
	at := map[digest.Digest]int{}
	for _, item := range items {
		id := item.Image.ID
		if item.Index != nil {
			id = item.Index.Descriptor.Digest
		}
		i, seen := at[id]
		if !seen {
			i, at[id] = len(merged), len(merged)
			merged = append(merged, Item{Image: item.Image, Index: item.Index})
		}
		for _, name := range item.Names {
			if !slices.Contains(merged[i].Names, name) {
				merged[i].Names = append(merged[i].Names, name)
			}
		}
	}
	return merged
}

// output is what an archive is written into: a tar or a directory.
type output interface {
	dir(name string) error
	file(name string, data []byte) error
	copy(name string, size int64, r io.Reader) error
	// has reports whether the member is there, with that size.
	has(name string, size int64) bool
	close() error
}

// SaveDir writes the images into the directory dir, as an OCI layout; what it names is the images and nothing else.
func SaveDir(ctx context.Context, dir string, items []Item, layers LayerReader, o SaveOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	if o.Format != OCI {
		return fmt.Errorf("archive format %s in a directory: %w", o.Format, errdef.ErrUnsupported)
	}
	_, perLayer := o.split()
	s := &saver{out: newDirWriter(dir), layers: layers, o: o, compression: perLayer, written: map[oci.DiffID]ocispec.Descriptor{}}
	return s.save(ctx, mergeItems(items))
}

// saver is one archive being written: layers as they come, documents last.
type saver struct {
	out         output
	layers      LayerReader
	o           SaveOptions
	compression string // of each layer
	written     map[oci.DiffID]ocispec.Descriptor
}

func (s *saver) save(ctx context.Context, items []Item) error {
	for _, dir := range []string{"blobs/", "blobs/sha256/"} {
		if err := s.out.dir(dir); err != nil {
			return err
		}
	}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	entries := []dockerManifest{}
	for _, item := range items {
		descs, entry, err := s.image(ctx, item)
		if err != nil {
			return fmt.Errorf("image %s: %w", item.Image.ID, err)
		}
		index.Manifests = append(index.Manifests, descs...)
		entries = append(entries, entry)
	}
	if err := s.json(indexName, index); err != nil {
		return err
	}
	if s.o.Format == Docker {
		if err := s.json(dockerManifestName, entries); err != nil {
			return err
		}
	}
	if err := s.json(layoutName, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}); err != nil {
		return err
	}
	return s.out.close()
}

// image writes the blobs of one item and gives what index.json and manifest.json say of it.
func (s *saver) image(ctx context.Context, item Item) ([]ocispec.Descriptor, dockerManifest, error) {
	desc, entry, err := s.manifest(ctx, item.Image)
	if err == nil && item.Index != nil {
		desc, err = s.index(ctx, *item.Index)
	}
	// In full, as podman writes them: it would take "ubuntu" for localhost/ubuntu. Docker reads both.
	entry.RepoTags = append(entry.RepoTags, item.Names...)
	return descriptors(desc, item.Names), entry, err
}

// index writes every member, then the index of them as they stand in the archive.
func (s *saver) index(ctx context.Context, x image.Index) (ocispec.Descriptor, error) {
	var members []ocispec.Descriptor
	for _, m := range x.Members {
		desc, _, err := s.manifest(ctx, m)
		if err != nil {
			return desc, err
		}
		members = append(members, desc)
	}
	raw, err := x.WithManifests(members)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := ocispec.Descriptor{MediaType: x.Descriptor.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	return desc, s.out.file(blobName(desc.Digest), raw)
}

// manifest writes one image's blobs and gives its manifest's descriptor.
func (s *saver) manifest(ctx context.Context, img image.Image) (ocispec.Descriptor, dockerManifest, error) {
	entry := dockerManifest{Config: blobName(img.ID), Layers: []string{}}
	var layers []ocispec.Descriptor
	for _, id := range img.DiffIDs() {
		desc, err := s.layer(ctx, id)
		if err != nil {
			return desc, entry, err
		}
		layers = append(layers, desc)
		entry.Layers = append(entry.Layers, blobName(desc.Digest))
	}
	raw, mediaType, err := img.WithLayers(layers)
	if err != nil {
		return ocispec.Descriptor{}, entry, err
	}
	for _, blob := range [][]byte{img.RawConfig, raw} {
		if err := s.out.file(blobName(digest.FromBytes(blob)), blob); err != nil {
			return ocispec.Descriptor{}, entry, err
		}
	}
	platform := img.Platform()
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw)), Platform: &platform}, entry, nil
}

// descriptors are the entries of index.json: one for each name, or one without.
func descriptors(desc ocispec.Descriptor, names []string) []ocispec.Descriptor {
	if len(names) == 0 {
		return []ocispec.Descriptor{desc}
	}
	var list []ocispec.Descriptor
	for _, name := range names {
		named := desc
		named.Annotations = map[string]string{imageNameAnnotation: name}
		if ref, err := reference.Parse(name); err == nil && ref.Tag != "" {
			named.Annotations[ocispec.AnnotationRefName] = ref.Tag
		}
		list = append(list, named)
	}
	return list
}

func (s *saver) json(name string, v any) error {
	raw, err := oci.Marshal(v)
	if err != nil {
		return err
	}
	return s.out.file(name, raw)
}
