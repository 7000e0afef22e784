package archive_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"strata/internal/archive"
	"strata/internal/image"
	"strata/internal/progress"
)

// save writes the fixture images of these tests: two that share a layer, one with two names, one without.
func save(t *testing.T, s *store, o archive.SaveOptions) (archived []byte, images []image.Image) {
	t.Helper()
	one, two, three := s.build(t, "base", "one"), s.build(t, "base", "two", "two"), s.build(t)
	items := []archive.Item{
		{Image: one, Names: []string{"docker.io/library/one:1"}},
		{Image: two, Names: []string{"quay.io/x/two:t"}},
		{Image: one, Names: []string{"docker.io/library/one:latest"}},
		{Image: three},
	}
	o.TempDir = s.tempDir
	var b bytes.Buffer
	if err := archive.Save(t.Context(), &b, items, s.layers, o); err != nil {
		t.Fatal(err)
	}
	s.noTemp(t)
	return b.Bytes(), []image.Image{one, two, three}
}

func TestSavedImagesLoad(t *testing.T) {
	for _, o := range []archive.SaveOptions{
		{Format: archive.Docker}, {Format: archive.Docker, Compression: "none"},
		{Format: archive.Docker, Compression: "gzip"}, {Format: archive.Docker, Compression: "zstd", Level: 3},
		{Format: archive.OCI}, {Format: archive.OCI, Compression: "gzip", Level: 9}, {Format: archive.OCI, Compression: "zstd"},
	} {
		t.Run(string(o.Format)+" "+o.Compression, func(t *testing.T) {
			from := open(t)
			data, images := save(t, from, o)
			if again, _ := save(t, from, o); !bytes.Equal(data, again) {
				t.Error("saving again gave other bytes")
			}
			compressed := o.Format == archive.OCI && o.Compression != ""
			checkLoad(t, "stream", bytes.NewReader(data), images, compressed)
			if o.Compression != "" {
				return
			}
			path := filepath.Join(t.TempDir(), "a.tar")
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			checkLoad(t, "file", f, images, compressed)
		})
	}
}

func checkLoad(t *testing.T, name string, r io.Reader, images []image.Image, compressed bool) {
	t.Helper()
	s := open(t)
	loaded, err := archive.Load(t.Context(), r, s.deps(), s)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	want := []archive.Loaded{
		{Names: []string{"docker.io/library/one:1", "docker.io/library/one:latest"}, ID: images[0].ID},
		{Names: []string{"quay.io/x/two:t"}, ID: images[1].ID},
		{ID: images[2].ID},
	}
	if diff := cmp.Diff(want, loaded); diff != "" {
		t.Errorf("%s: %s", name, diff)
	}
	for i, l := range loaded {
		got, err := s.images.Inspect(t.Context(), string(l.ID))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.Tags, l.Names) || !bytes.Equal(got.RawConfig, images[i].RawConfig) {
			t.Errorf("%s: image %d came back as %+v", name, i, got)
		}
		if !compressed && !bytes.Equal(got.RawManifest, images[i].RawManifest) {
			t.Errorf("%s: image %d has another manifest", name, i)
		}
		for _, id := range got.DiffIDs() {
			if meta, err := s.layers.Stat(id); err != nil || len(meta.Blobs) != 0 != compressed {
				t.Errorf("%s: layer %s: %+v, %v", name, id, meta, err)
			}
		}
	}
	if s.layers.synced != 3 {
		t.Errorf("%s: %d layers flushed before the images, want 3", name, s.layers.synced)
	}
	s.noTemp(t)
	checkEvents(t, s, progress.Done)

	if seeker, ok := r.(io.Seeker); ok && !compressed { // a second time the layers are there
		s.events = nil
		seeker.Seek(0, io.SeekStart)
		if _, err := archive.Load(t.Context(), r, s.deps(), s); err != nil {
			t.Errorf("%s again: %v", name, err)
		}
		checkEvents(t, s, progress.Cached)
	}
}

func checkEvents(t *testing.T, s *store, end progress.State) {
	t.Helper()
	ended := map[string]bool{}
	for _, e := range s.events {
		switch {
		case ended[e.Vertex]:
			t.Errorf("event after the end: %+v", e)
		case e.State == end:
			ended[e.Vertex] = true
		case e.State != progress.Started && e.State != progress.Status:
			t.Errorf("event %+v", e)
		}
	}
	if len(ended) != 3 {
		t.Errorf("%d layers reported, want 3", len(ended))
	}
}

func TestSaveRefuses(t *testing.T) {
	s := open(t)
	img := s.build(t, "one")
	for _, o := range []archive.SaveOptions{
		{}, {Format: "zip"}, {Format: archive.OCI, Compression: "lz4"}, {Format: archive.OCI, Compression: "gzip", Level: 10}, {Format: archive.OCI, Level: 1},
	} {
		if err := archive.Save(t.Context(), io.Discard, []archive.Item{{Image: img}}, s.layers, o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
	id := img.DiffIDs()[0]
	s.layers.tars[id] = bytes.Replace(s.layers.tars[id], []byte("one"), []byte("two"), 1)
	for _, compression := range []string{"", "gzip"} {
		o := archive.SaveOptions{Format: archive.OCI, Compression: compression, TempDir: s.tempDir}
		err := archive.Save(t.Context(), io.Discard, []archive.Item{{Image: img}}, s.layers, o)
		if err == nil || !strings.Contains(err.Error(), string(id)) {
			t.Errorf("damaged layer: %v", err)
		}
	}
	s.noTemp(t)
}

func TestImport(t *testing.T) {
	for _, compressed := range []bool{false, true} {
		s := open(t)
		data := layerTar("rootfs")
		id := s.build(t, "rootfs").DiffIDs()[0]
		if compressed {
			data = zip(data)
		}
		cfg, meta, err := archive.Import(t.Context(), bytes.NewReader(data), s.layers, archive.ImportOptions{Message: "hello"})
		if err != nil || meta.DiffID != id || cfg.History[0].Comment != "hello" {
			t.Fatalf("%+v, %+v, %v", cfg, meta, err)
		}
		if _, err := s.images.Put(t.Context(), cfg, image.PutOptions{}); err != nil {
			t.Error(err)
		}
	}
}

func TestSkopeoReadsWhatWeSave(t *testing.T) {
	skopeo, err := exec.LookPath("skopeo")
	if err != nil {
		t.Skip("skopeo is not installed")
	}
	s := open(t)
	img := s.build(t, "base", "one")
	for _, c := range []struct {
		transport, compression string
		format                 archive.Format
	}{
		{"docker-archive:", "", archive.Docker}, {"oci-archive:", "", archive.Docker},
		{"oci-archive:", "", archive.OCI}, {"oci-archive:", "gzip", archive.OCI}, {"oci-archive:", "zstd", archive.OCI},
	} {
		path := filepath.Join(t.TempDir(), "a.tar")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		items := []archive.Item{{Image: img, Names: []string{"docker.io/library/one:1"}}}
		err = archive.Save(t.Context(), f, items, s.layers, archive.SaveOptions{Format: c.format, Compression: c.compression, TempDir: s.tempDir})
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		out, err := exec.CommandContext(t.Context(), skopeo, "inspect", c.transport+path).CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte(`"Layers"`)) {
			t.Errorf("%s of %s %s: %v: %s", c.transport, c.format, c.compression, err, out)
		}
	}
}
