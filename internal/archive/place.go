package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/errdef"
	"strata/internal/layer"
	"strata/internal/oci"
	"strata/internal/reference"
)

// Place is an archive, or an OCI layout in a directory, to read single images from, byte for byte.
type Place struct {
	src    source
	layout bool // it has an index of an OCI layout
	file   *os.File

	abouts func() (map[digest.Digest][]ocispec.Descriptor, error)
}

// OpenPlace opens the archive or the directory at path. A plain tar is read in place; another one goes through a temporary
// file.
func OpenPlace(ctx context.Context, path string, tempDir func() (string, error)) (*Place, error) {
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		root, err := os.OpenRoot(path)
		if err != nil {
			return nil, err
		}
		return newPlace(dirSource{root}), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	p, err := ReadPlace(ctx, f, tempDir)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	p.file = f
	return p, nil
}

// ReadPlace is OpenPlace for an archive that comes as a stream.
func ReadPlace(ctx context.Context, r io.Reader, tempDir func() (string, error)) (*Place, error) {
	src, err := openTar(ctx, r, tempDir)
	if err != nil {
		return nil, err
	}
	return newPlace(src), nil
}

func newPlace(src source) *Place {
	p := &Place{src: src, layout: has(src, indexName)}
	p.abouts = sync.OnceValues(p.findReferrers)
	return p
}

// Close ends reading.
func (p *Place) Close() error {
	err := p.src.close()
	if p.file != nil {
		err = errors.Join(err, p.file.Close())
	}
	return err
}

// Names lists the full names, or the bare tags, of the images in the place.
func (p *Place) Names() ([]string, error) {
	x, err := p.index()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, d := range oci.Images(x.Manifests) {
		if name := entryName(d); name != "" {
			names = append(names, name)
		}
	}
	return names, nil
}

func (p *Place) index() (*ocispec.Index, error) {
	if !p.layout {
		return nil, fmt.Errorf("archive: no OCI layout (no %s): %w", indexName, errdef.ErrInvalid)
	}
	return readIndex(p.src, indexName, "")
}

// entryName is what index.json calls an entry: a full name where there is one, else what stands in the OCI's annotation.
func entryName(d ocispec.Descriptor) string {
	if name := d.Annotations[imageNameAnnotation]; name != "" {
		return name
	}
	return d.Annotations[ocispec.AnnotationRefName]
}

// Placed is one image of a [Place].
type Placed struct {
	p    *Place
	root oci.Document
	made map[digest.Digest]plannedLayer // blobs of a manifest that was made here
	docs map[digest.Digest][]byte
}

// Layout finds an image of an OCI layout by its name, its tag or its digest; the empty name is that of the only one.
func (p *Place) Layout(name string) (*Placed, error) {
	x, err := p.index()
	if err != nil {
		return nil, err
	}
	desc, err := pick(x, name)
	if err != nil {
		return nil, err
	}
	raw, err := document(p.src, blobName(desc.Digest), oci.MaxManifest, desc.Digest)
	if err != nil {
		return nil, err
	}
	plain := ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: int64(len(raw))}
	return &Placed{p: p, root: oci.Document{Descriptor: plain, Raw: raw}}, nil
}

// pick chooses an entry of index.json: by name any, without one an image.
func pick(x *ocispec.Index, name string) (ocispec.Descriptor, error) {
	from := x.Manifests
	if images := oci.Images(from); name == "" && len(images) > 0 {
		from = images
	}
	var names []string
	var found []ocispec.Descriptor
	for _, d := range from {
		if n := entryName(d); n != "" {
			names = append(names, n)
		}
		if name == "" || called(d, name) {
			found = append(found, d)
		}
	}
	other := func(d ocispec.Descriptor) bool { return d.Digest != found[0].Digest }
	switch {
	case len(found) > 0 && !slices.ContainsFunc(found, other):
		return found[0], nil
	case len(found) > 0:
		return ocispec.Descriptor{}, errdef.WithHint(fmt.Errorf("%s has %d images and it is not said which: %w", indexName, len(found), errdef.ErrInvalid),
			"name one, behind a colon: "+strings.Join(names, ", "))
	}
	err := fmt.Errorf("%s: image %q: %w", indexName, name, errdef.ErrNotFound)
	if len(names) > 0 {
		err = errdef.WithHint(err, "it has: "+strings.Join(names, ", "))
	}
	return ocispec.Descriptor{}, err
}

// called reports whether an entry has the name: as it stands there, in full, or its tag alone.
func called(d ocispec.Descriptor, name string) bool {
	full := name
	if ref, err := reference.Parse(name); err == nil {
		full = ref.Latest().String()
	}
	for _, n := range []string{d.Annotations[imageNameAnnotation], d.Annotations[ocispec.AnnotationRefName]} {
		if n != "" && (n == name || n == full || n[strings.LastIndexByte(n, ':')+1:] == name) {
			return true
		}
	}
	return string(d.Digest) == strings.TrimPrefix(name, "@")
}

// Document gives a document of the place.
func (i *Placed) Document(_ context.Context, desc ocispec.Descriptor) (oci.Document, error) {
	if desc.Digest == "" || desc.Digest == i.root.Descriptor.Digest {
		return i.root, nil
	}
	raw, err := document(i.p.src, blobName(desc.Digest), oci.MaxManifest, desc.Digest)
	plain := ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: int64(len(raw))}
	return oci.Document{Descriptor: plain, Raw: raw}, err
}

// Blob opens a blob of the place.
func (i *Placed) Blob(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if raw, ok := i.docs[desc.Digest]; ok {
		return io.NopCloser(strings.NewReader(string(raw))), nil
	}
	if l, ok := i.made[desc.Digest]; ok {
		return openPlain(i.p.src, l.member)
	}
	r, size, err := i.p.src.open(blobName(desc.Digest))
	if errors.Is(err, errdef.ErrNotFound) {
		return nil, fmt.Errorf("blob %s is missing from the archive: %w", desc.Digest, errdef.ErrCorrupt)
	}
	if err == nil && size != desc.Size {
		r.Close()
		err = fmt.Errorf("blob %s has %d bytes instead of %d: %w", desc.Digest, size, desc.Size, errdef.ErrCorrupt)
	}
	return r, err
}

// openPlain opens a member, decompressed.
func openPlain(src source, name string) (io.ReadCloser, error) {
	r, _, err := src.open(name)
	if err != nil {
		return nil, err
	}
	plain, _, err := layer.Decompress(r)
	if err != nil {
		r.Close()
		return nil, err
	}
	return both{plain, r}, nil
}

// both is a reader over another one, closed together.
type both struct {
	io.ReadCloser
	under io.Closer
}

func (b both) Close() error { return errors.Join(b.ReadCloser.Close(), b.under.Close()) }

// Referrers lists the documents that index.json names and that are about d.
func (i *Placed) Referrers(_ context.Context, d digest.Digest) ([]ocispec.Descriptor, error) {
	if !i.p.layout {
		return nil, nil
	}
	abouts, err := i.p.abouts()
	return abouts[d], err
}

// findReferrers reads every manifest that index.json names, once.
func (p *Place) findReferrers() (map[digest.Digest][]ocispec.Descriptor, error) {
	x, err := p.index()
	if err != nil {
		return nil, err
	}
	found := map[digest.Digest][]ocispec.Descriptor{}
	for _, d := range x.Manifests {
		if oci.IsIndex(d.MediaType) || !oci.IsDocument(d) {
			continue
		}
		raw, err := document(p.src, blobName(d.Digest), oci.MaxManifest, d.Digest)
		if err != nil {
			return nil, err
		}
		links, err := oci.ParseLinks(raw)
		if err != nil {
			return nil, err
		}
		if links.Subject.Digest != "" {
			found[links.Subject.Digest] = append(found[links.Subject.Digest], d)
		}
	}
	return found, nil
}

// Docker finds an image of a docker archive by its name or id; the empty name is that of the only one. Where the archive
// has the image's own manifest too, that is the root; else one is made, of the plain layers.
func (p *Place) Docker(name string) (*Placed, error) {
	images, err := plan(p.src, oci.Platform{})
	if err != nil {
		return nil, err
	}
	img, err := pickPlanned(images, name)
	if err != nil {
		return nil, err
	}
	i := &Placed{p: p, made: map[digest.Digest]plannedLayer{}, docs: map[digest.Digest][]byte{}}
	id := digest.FromBytes(img.rawConfig)
	i.docs[id] = img.rawConfig
	if img.rawManifest != nil {
		desc := ocispec.Descriptor{MediaType: mediaTypeOf(img.rawManifest), Digest: digest.FromBytes(img.rawManifest), Size: int64(len(img.rawManifest))}
		i.root = oci.Document{Descriptor: desc, Raw: img.rawManifest}
		return i, nil
	}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{},
		Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: id, Size: int64(len(img.rawConfig))},
	}
	for _, l := range img.layers {
		size, err := plainSize(p.src, l.member)
		if err != nil {
			return nil, err
		}
		d := digest.Digest(l.diffID)
		i.made[d] = l
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: d, Size: size})
	}
	raw, err := oci.Marshal(m)
	desc := ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	i.root = oci.Document{Descriptor: desc, Raw: raw}
	return i, err
}

// mediaTypeOf is the type that a manifest gives itself, the OCI's if none.
func mediaTypeOf(raw []byte) string {
	if m, err := oci.ParseManifest(raw); err == nil && m.MediaType != "" {
		return m.MediaType
	}
	return ocispec.MediaTypeImageManifest
}

func pickPlanned(images []plannedImage, name string) (plannedImage, error) {
	var all []string
	for _, img := range images {
		all = append(all, img.names...)
		id := digest.FromBytes(img.rawConfig)
		if name == id.String() || len(name) >= 12 && strings.HasPrefix(id.Encoded(), name) {
			return img, nil
		}
		ref, err := reference.Parse(name)
		for _, n := range img.names {
			if err == nil && n == ref.Latest().String() {
				return img, nil
			}
		}
	}
	if name == "" && len(images) == 1 {
		return images[0], nil
	}
	if name == "" {
		return plannedImage{}, errdef.WithHint(fmt.Errorf("the archive has %d images and it is not said which: %w", len(images), errdef.ErrInvalid),
			"name one, behind a colon: "+strings.Join(all, ", "))
	}
	err := fmt.Errorf("archive: image %q: %w", name, errdef.ErrNotFound)
	if len(all) > 0 {
		err = errdef.WithHint(err, "it has: "+strings.Join(all, ", "))
	}
	return plannedImage{}, err
}

// plainSize is how many bytes a member has when it is decompressed.
func plainSize(src source, name string) (int64, error) {
	r, size, err := src.open(name)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	plain, compression, err := layer.Decompress(r)
	if err != nil || compression == "" {
		return size, err
	}
	defer plain.Close()
	return io.Copy(io.Discard, plain)
}
