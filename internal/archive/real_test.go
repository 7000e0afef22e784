package archive_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"strata/internal/archive"
	"strata/internal/content"
	"strata/internal/errdef"
	"strata/internal/image"
	"strata/internal/layer"
	"strata/internal/mount"
	"strata/internal/oci"
	"strata/internal/progress"
)

// onDisk is what the engine wires: the stores themselves.
type onDisk struct {
	layers *layer.Store
	images *image.Store
	deps   archive.Deps
	tmp    string
}

func openDisk(t *testing.T) *onDisk {
	t.Helper()
	root := t.TempDir()
	s := &onDisk{tmp: filepath.Join(root, "tmp")}
	temp := func() (string, error) { return s.tmp, os.MkdirAll(s.tmp, 0o700) }
	plain := os.Geteuid() != 0
	var err error
	if s.layers, err = layer.Open(filepath.Join(root, "layers"), layer.Options{IgnoreOwner: plain, Userxattr: plain, TempDir: temp}); err != nil {
		t.Fatal(err)
	}
	blobs, err := content.Open(filepath.Join(root, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	if s.images, err = image.Open(root, blobs, s.layers); err != nil {
		t.Fatal(err)
	}
	s.deps = archive.Deps{Layers: s.layers, Images: s.images, TempDir: temp}
	return s
}

// oddTar is a layer in which names come twice, links lead away and the end is longer than it needs to be.
func oddTar() []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	write := func(h tar.Header, data string) {
		h.Size = int64(len(data))
		w.WriteHeader(&h)
		io.WriteString(w, data)
	}
	write(tar.Header{Typeflag: tar.TypeReg, Name: "a/b", Mode: 0o4755, Format: tar.FormatGNU}, "first")
	write(tar.Header{Typeflag: tar.TypeReg, Name: "a/b", Mode: 0o644, Format: tar.FormatPAX, PAXRecords: map[string]string{"comment": "x"}}, "second")
	write(tar.Header{Typeflag: tar.TypeSymlink, Name: "a/out", Linkname: "../../../etc"}, "")
	write(tar.Header{Typeflag: tar.TypeLink, Name: "c", Linkname: "a/b"}, "")
	w.Close()
	return append(b.Bytes(), make([]byte, 3*512)...)
}

func TestRealStoresRoundTrip(t *testing.T) {
	from := openDisk(t)
	cfg, base, err := archive.Import(t.Context(), bytes.NewReader(zip(oddTar())), from.layers, archive.ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	top, err := from.layers.Ingest(t.Context(), bytes.NewReader(layerTar("top")), "")
	if err != nil {
		t.Fatal(err)
	}
	first, err := from.images.Put(t.Context(), cfg, image.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	img, err := from.images.Append(t.Context(), first, image.AppendOptions{Layer: top.DiffID})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]oci.DiffID{base.DiffID, top.DiffID}, img.DiffIDs()); diff != "" {
		t.Fatal(diff)
	}
	items := []archive.Item{{Image: img, Names: []string{"docker.io/library/app:1"}}, {Image: first}}
	for _, o := range []archive.SaveOptions{{Format: archive.Docker}, {Format: archive.OCI, Compression: "gzip"}, {Format: archive.OCI, Compression: "zstd"}} {
		o.TempDir = from.deps.TempDir
		var b bytes.Buffer
		if err := archive.Save(t.Context(), &b, items, from.layers, o); err != nil {
			t.Fatal(err)
		}
		to := openDisk(t)
		loaded, err := archive.Load(t.Context(), &b, to.deps, progress.Discard)
		if err != nil || len(loaded) != 2 || loaded[0].ID != img.ID || loaded[1].ID != first.ID {
			t.Fatalf("%+v: %+v, %v", o, loaded, err)
		}
		got, err := to.images.Pin(t.Context(), "app:1")
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range got.DiffIDs() {
			if err := to.layers.Verify(t.Context(), id); err != nil {
				t.Error(err)
			}
			if meta, err := to.layers.Stat(id); err != nil || !meta.Sealed {
				t.Errorf("layer %s was not flushed before the image: %+v, %v", id, meta, err)
			}
		}
		if left, _ := os.ReadDir(to.tmp); len(left) != 0 {
			t.Errorf("temporary files left: %v", left)
		}
	}
}

func TestRealStoresRefuse(t *testing.T) {
	cfg := config("amd64", "base")
	manifest := `[{"Config":"c","RepoTags":["app:1"],"Layers":["l"]}]`
	for name, data := range map[string]string{
		"another layer": string(layerTar("evil")), "no tar": "hello", "damaged gzip": string(zip(layerTar("base"))[:80]), "nothing": "",
	} {
		s := openDisk(t)
		archived := makeTar(file{name: "manifest.json", data: manifest}, file{name: "c", data: cfg}, file{name: "l", data: data})
		_, err := archive.Load(t.Context(), bytes.NewReader(archived), s.deps, progress.Discard)
		if !errors.Is(err, errdef.ErrCorrupt) && !errors.Is(err, errdef.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
		if keys, _ := s.images.Images.Keys(); len(keys) != 0 {
			t.Errorf("%s: images left", name)
		}
		if left, _ := os.ReadDir(s.tmp); len(left) != 0 {
			t.Errorf("%s: temporary files left: %v", name, left)
		}
	}
	s := openDisk(t)
	for name, data := range map[string]string{"text": "this is no tar at all", "a gzip of text": string(zip([]byte("text")))} {
		if _, _, err := archive.Import(t.Context(), bytes.NewReader([]byte(data)), s.layers, archive.ImportOptions{}); err == nil {
			t.Errorf("import of %s: no error", name)
		} else {
			t.Log(err)
		}
	}
}

// A full disk under the temporary directory ends a load with the kernel's error and leaves nothing.
func TestLoadOnAFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small tmpfs needs root")
	}
	s := open(t)
	if err := os.MkdirAll(s.temp, 0o700); err != nil {
		t.Fatal(err)
	}
	data := makeTar(file{name: "manifest.json", data: "[]"}, file{name: "big", data: string(make([]byte, 1<<20))})
	err := mount.Private(func() error {
		if err := unix.Mount("tmpfs", s.temp, "tmpfs", 0, "size=64k"); err != nil {
			return err
		}
		_, err := archive.Load(t.Context(), bytes.NewReader(data), s.deps(), progress.Discard)
		s.noTemp(t)
		return err
	})
	if errors.Is(err, unix.EPERM) {
		t.Skipf("cannot mount a tmpfs: %v", err)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("%v", err)
	}
	s.nothingLeft(t)
}
