package archive_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/archive"
	"strata/internal/content"
	"strata/internal/errdef"
	"strata/internal/image"
	"strata/internal/layer"
	"strata/internal/oci"
	"strata/internal/progress"
)

// layers is a layer store in memory: the tars as they came.
type layers struct {
	mu     sync.Mutex
	tars   map[oci.DiffID][]byte
	blobs  map[oci.DiffID][]layer.Blob
	synced int // how many layers there were at the last Sync
}

func (l *layers) Ingest(_ context.Context, r io.Reader, want oci.DiffID) (layer.Meta, error) {
	raw, err := io.ReadAll(r)
	if err != nil {
		return layer.Meta{}, err
	}
	id := oci.DiffID(digest.FromBytes(raw))
	if want != "" && id != want {
		return layer.Meta{}, fmt.Errorf("layer is %s, not %s: %w", id, want, errdef.ErrCorrupt)
	}
	l.mu.Lock()
	l.tars[id] = raw
	l.mu.Unlock()
	return l.Stat(id)
}

func (l *layers) Stat(id oci.DiffID) (layer.Meta, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	raw, ok := l.tars[id]
	if !ok {
		return layer.Meta{}, fmt.Errorf("layer %s: %w", id, errdef.ErrNotFound)
	}
	return layer.Meta{DiffID: id, Size: int64(len(raw)), Blobs: l.blobs[id]}, nil
}

func (l *layers) AddBlob(_ context.Context, id oci.DiffID, b layer.Blob) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.blobs[id] = append(l.blobs[id], b)
	return nil
}

func (l *layers) Sync(context.Context) error { l.synced = len(l.tars); return nil }

func (l *layers) Tar(_ context.Context, id oci.DiffID) (io.ReadCloser, error) {
	if _, err := l.Stat(id); err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(l.tars[id])), nil
}

// store is an image store over layers in memory.
type store struct {
	layers *layers
	images *image.Store
	temp   string
	events []progress.Event
	mu     sync.Mutex
}

func open(t testing.TB) *store {
	t.Helper()
	root := t.TempDir()
	s := &store{layers: &layers{tars: map[oci.DiffID][]byte{}, blobs: map[oci.DiffID][]layer.Blob{}}, temp: filepath.Join(root, "tmp")}
	blobs, err := content.Open(filepath.Join(root, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	if s.images, err = image.Open(root, blobs, s.layers); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *store) tempDir() (string, error) { return s.temp, os.MkdirAll(s.temp, 0o700) }

func (s *store) deps() archive.Deps {
	return archive.Deps{Layers: s.layers, Images: s.images, TempDir: s.tempDir}
}

func (s *store) Emit(e progress.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, e)
}

// nothingLeft checks that a load that failed made no image and no tag and left no temporary file.
func (s *store) nothingLeft(t testing.TB) {
	t.Helper()
	images, err := s.images.Images.Keys()
	if err != nil || len(images) != 0 {
		t.Errorf("images left: %q, %v", images, err)
	}
	tags, err := s.images.Tags.Keys()
	if err != nil || len(tags) != 0 {
		t.Errorf("tags left: %q, %v", tags, err)
	}
	s.noTemp(t)
}

func (s *store) noTemp(t testing.TB) {
	t.Helper()
	if left, _ := os.ReadDir(s.temp); len(left) != 0 {
		t.Errorf("temporary files left: %v", left)
	}
}

// build puts an image with a layer for each of the texts.
func (s *store) build(t testing.TB, texts ...string) image.Image {
	t.Helper()
	cfg := &oci.Image{OS: oci.Host().OS, Architecture: oci.Host().Architecture, RootFS: oci.RootFS{Type: "layers", DiffIDs: []oci.DiffID{}}}
	for _, text := range texts {
		meta, err := s.layers.Ingest(t.Context(), bytes.NewReader(layerTar(text)), "")
		if err != nil {
			t.Fatal(err)
		}
		cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, meta.DiffID)
		cfg.History = append(cfg.History, oci.History{CreatedBy: text})
	}
	img, err := s.images.Put(t.Context(), cfg, image.PutOptions{Annotations: map[string]string{"org.opencontainers.image.base.name": "scratch"}})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// file is one member of a fixture.
type file struct {
	name, data string
	link, hard string
}

func makeTar(files ...file) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: 0o644, Size: int64(len(f.data))}
		switch {
		case f.link != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.link
		case f.hard != "":
			h.Typeflag, h.Linkname = tar.TypeLink, f.hard
		case strings.HasSuffix(f.name, "/"):
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		}
		if err := w.WriteHeader(h); err != nil {
			panic(err)
		}
		io.WriteString(w, f.data)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// layerTar is a layer with one file that says text.
func layerTar(text string) []byte {
	return makeTar(file{name: "etc/"}, file{name: "etc/" + text, data: strings.Repeat(text, 100)})
}

func zip(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(data)
	w.Close()
	return b.Bytes()
}

func toJSON(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

func blob(data string) file {
	return file{name: "blobs/sha256/" + digest.FromString(data).Encoded(), data: data}
}

func describe(mediaType, data string) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromString(data), Size: int64(len(data))}
}

// config is an image config for a machine with a layer for each of the texts.
func config(arch string, texts ...string) string {
	ids := []string{}
	for _, text := range texts {
		ids = append(ids, string(digest.FromBytes(layerTar(text))))
	}
	return toJSON(map[string]any{"os": "linux", "architecture": arch, "rootfs": map[string]any{"type": "layers", "diff_ids": ids}})
}

// layout makes the members of a layout's image, its layers compressed, and its manifest's descriptor.
func layout(arch string, texts ...string) ([]file, ocispec.Descriptor) {
	cfg := config(arch, texts...)
	files := []file{blob(cfg)}
	var descs []ocispec.Descriptor
	for _, text := range texts {
		z := string(zip(layerTar(text)))
		files = append(files, blob(z))
		descs = append(descs, describe(ocispec.MediaTypeImageLayerGzip, z))
	}
	m := toJSON(map[string]any{"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest,
		"config": describe(ocispec.MediaTypeImageConfig, cfg), "layers": descs, "annotations": map[string]string{"arch": arch}})
	desc := describe(ocispec.MediaTypeImageManifest, m)
	desc.Platform = &ocispec.Platform{OS: "linux", Architecture: arch}
	return append(files, blob(m)), desc
}

func indexOf(descs ...ocispec.Descriptor) string {
	return toJSON(map[string]any{"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageIndex, "manifests": descs})
}

func named(d ocispec.Descriptor, key, name string) ocispec.Descriptor {
	d.Annotations = map[string]string{key: name}
	return d
}

const layoutFile = `{"imageLayoutVersion":"1.0.0"}`
