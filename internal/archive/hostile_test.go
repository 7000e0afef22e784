package archive_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/archive"
	"strata/internal/errdef"
	"strata/internal/image"
	"strata/internal/layer"
	"strata/internal/oci"
	"strata/internal/progress"
)

func TestLoadRefuses(t *testing.T) {
	cfg := config("amd64", "base")
	base := string(layerTar("base"))
	docker := func(config string, tags []string, layers ...string) file {
		return file{name: "manifest.json", data: toJSON([]any{map[string]any{"Config": config, "RepoTags": tags, "Layers": layers}})}
	}
	good := docker("c.json", []string{"app:1"}, "l.tar")
	files, desc := layout("amd64", "base", "top")
	index := file{name: "index.json", data: indexOf(named(desc, ocispec.AnnotationRefName, "app:1"))}
	without := func(i int) []file {
		var rest []file
		for j, f := range files {
			if j != i {
				rest = append(rest, f)
			}
		}
		return append(rest, index)
	}
	damaged := func(i int) []file {
		f := files[i]
		f.data = f.data[:len(f.data)-9] + "123456789"
		return append(without(i), f)
	}
	short := files[1]
	short.data = short.data[1:]
	artifact := toJSON(map[string]any{"schemaVersion": 2, "config": describe("application/vnd.cncf.helm.config.v1+json", "{}"), "layers": []any{}})
	loop := ""
	for range 8 {
		loop = indexOf(describe(ocispec.MediaTypeImageIndex, loop))
	}

	for _, c := range []struct {
		name  string
		files []file
		class error
		text  string
	}{
		{"empty", nil, errdef.ErrInvalid, "manifest.json"},
		{"neither form", []file{{name: "etc/passwd", data: "root"}}, errdef.ErrInvalid, "OCI layout"},
		{"config missing", []file{good, {name: "l.tar", data: base}}, errdef.ErrCorrupt, "c.json is missing"},
		{"layer missing", []file{good, {name: "c.json", data: cfg}}, errdef.ErrCorrupt, "l.tar is missing"},
		{"layer with another diffID", []file{good, {name: "c.json", data: cfg}, {name: "l.tar", data: string(layerTar("evil"))}}, errdef.ErrCorrupt, "l.tar"},
		{"layer that is no tar", []file{good, {name: "c.json", data: cfg}, {name: "l.tar", data: "hello"}}, errdef.ErrCorrupt, "l.tar"},
		{"second layer wrong", []file{docker("c.json", []string{"app:1"}, "l.tar", "m.tar"), {name: "c.json", data: config("amd64", "base", "top")}, {name: "l.tar", data: base}, {name: "m.tar", data: base}}, errdef.ErrCorrupt, "m.tar"},
		{"more layers than diffIDs", []file{docker("c.json", nil, "l.tar", "l.tar"), {name: "c.json", data: cfg}, {name: "l.tar", data: base}}, errdef.ErrInvalid, "its config lists 1"},
		{"config under another's digest", []file{docker(strings.Repeat("0", 64)+".json", nil, "l.tar"), {name: strings.Repeat("0", 64) + ".json", data: cfg}, {name: "l.tar", data: base}}, errdef.ErrCorrupt, "has digest"},
		{"config that is no JSON", []file{good, {name: "c.json", data: "{"}, {name: "l.tar", data: base}}, errdef.ErrInvalid, "config"},
		{"config too large", []file{good, {name: "c.json", data: strings.Repeat(" ", 8<<20+1)}, {name: "l.tar", data: base}}, errdef.ErrLimit, "8388609"},
		{"manifest.json too large", []file{{name: "manifest.json", data: strings.Repeat(" ", 4<<20+1)}}, errdef.ErrLimit, "manifest.json"},
		{"manifest.json of another kind", []file{{name: "manifest.json", data: `{"a":1}`}}, errdef.ErrInvalid, "manifest.json"},
		{"manifest.json without images", []file{{name: "manifest.json", data: `[]`}}, errdef.ErrInvalid, "no image"},
		{"bad name", []file{docker("c.json", []string{"App:1"}, "l.tar"), {name: "c.json", data: cfg}, {name: "l.tar", data: base}}, errdef.ErrInvalid, "lowercase"},
		{"config outside", []file{docker("../../etc/passwd", nil, "l.tar")}, errdef.ErrInvalid, "leads out"},
		{"layer outside", []file{docker("c.json", nil, "/../etc/passwd"), {name: "c.json", data: cfg}}, errdef.ErrInvalid, "leads out"},
		{"layer with an absolute name", []file{docker("c.json", nil, "/etc/passwd"), {name: "c.json", data: cfg}}, errdef.ErrCorrupt, "etc/passwd is missing"},
		{"member outside", []file{{name: "../evil", data: "x"}}, errdef.ErrInvalid, "../evil"},
		{"member outside, hidden", []file{{name: "a/../../evil", data: "x"}}, errdef.ErrInvalid, "evil"},
		{"link outside", []file{good, {name: "c.json", data: cfg}, {name: "l.tar", link: "../../../etc/passwd"}}, errdef.ErrInvalid, "leads out"},
		{"absolute link", []file{good, {name: "c.json", data: cfg}, {name: "l.tar", link: "/etc/passwd"}}, errdef.ErrInvalid, "absolute"},
		{"hard link outside", []file{good, {name: "c.json", data: cfg}, {name: "l.tar", hard: "../x"}}, errdef.ErrInvalid, "leads out"},
		{"link to nothing", []file{good, {name: "c.json", data: cfg}, {name: "l.tar", link: "nothing"}}, errdef.ErrCorrupt, "l.tar is missing"},
		{"link loop", []file{{name: "manifest.json", link: "x"}, {name: "x", link: "manifest.json"}, {name: "index.json", link: "index.json"}}, errdef.ErrInvalid, ""},
		{"layout: config missing", without(0), errdef.ErrCorrupt, files[0].name},
		{"layout: layer missing", without(1), errdef.ErrCorrupt, strings.TrimPrefix(files[1].name, "blobs/sha256/")},
		{"layout: manifest missing", without(3), errdef.ErrCorrupt, files[3].name},
		{"layout: config damaged", damaged(0), errdef.ErrCorrupt, files[0].name},
		{"layout: layer damaged", damaged(1), errdef.ErrCorrupt, "its bytes have digest"},
		{"layout: manifest damaged", damaged(3), errdef.ErrCorrupt, files[3].name},
		{"layout: layer of another size", append(without(1), short), errdef.ErrCorrupt, "bytes instead of"},
		{"layout: artifact", []file{blob(artifact), {name: "index.json", data: indexOf(describe(ocispec.MediaTypeImageManifest, artifact))}}, errdef.ErrUnsupported, "helm"},
		{"layout: no image", []file{{name: "index.json", data: `{"manifests":[]}`}}, errdef.ErrInvalid, "no image"},
		{"layout: bad digest", []file{{name: "index.json", data: `{"manifests":[{"digest":"sha256:../../x"}]}`}}, errdef.ErrInvalid, "digest"},
		{"layout: index missing", []file{{name: "index.json", data: loop}}, errdef.ErrCorrupt, "missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, _, err := load(t, c.files...)
			if !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v; want %v with %q", err, c.class, c.text)
			}
			s.nothingLeft(t)
		})
	}
}

func TestLoadBoundsNesting(t *testing.T) {
	var files []file
	inner := `{"manifests":[]}`
	for range 8 {
		files = append(files, blob(inner))
		inner = indexOf(describe(ocispec.MediaTypeImageIndex, inner))
	}
	s, _, err := load(t, append(files, file{name: "index.json", data: inner})...)
	if !errors.Is(err, errdef.ErrLimit) {
		t.Errorf("%v", err)
	}
	s.nothingLeft(t)
}

// A layer's blob may decompress to the right tar and yet not be the blob that the manifest names.
func TestLoadChecksTheBlobToo(t *testing.T) {
	files, desc := layout("amd64", "base")
	files[1].data = files[1].data[:4] + "\x01" + files[1].data[5:] // the time in the gzip header
	s, _, err := load(t, append(files, file{name: "index.json", data: indexOf(desc)})...)
	if !errors.Is(err, errdef.ErrCorrupt) || !strings.Contains(err.Error(), "its bytes have digest") {
		t.Errorf("%v", err)
	}
	s.nothingLeft(t)
}

// The header of a member may promise any size.
func TestLoadBelievesNoSize(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	manifest := `[{"Config":"c.json","Layers":[]}]`
	w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "manifest.json", Size: int64(len(manifest)), Mode: 0o644})
	io.WriteString(w, manifest)
	w.Flush()
	w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "c.json", Size: 1 << 30, Mode: 0o644})
	claimed := b.Bytes()

	path := filepath.Join(t.TempDir(), "a.tar")
	if err := os.WriteFile(path, claimed, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, int64(len(claimed))+1<<30+1024); err != nil { // a hole: costs nothing
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := open(t)
	if _, err := archive.Load(t.Context(), f, s.deps(), progress.Discard); !errors.Is(err, errdef.ErrLimit) || !strings.Contains(err.Error(), "c.json") {
		t.Errorf("a config of 1 GiB: %v", err)
	}
	s.nothingLeft(t)
	if _, err := archive.Load(t.Context(), bytes.NewReader(claimed), s.deps(), progress.Discard); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a stream cut short: %v", err)
	}
	s.nothingLeft(t)
}

func TestLoadBoundsMembers(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := range 100_001 {
		w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprint(i), Mode: 0o644})
	}
	w.Close()
	s := open(t)
	if _, err := archive.Load(t.Context(), &b, s.deps(), progress.Discard); !errors.Is(err, errdef.ErrLimit) {
		t.Errorf("%v", err)
	}
	s.nothingLeft(t)
}

// An archive of a few megabytes does not take gigabytes of memory, by having one large config for many images.
func TestLoadBoundsDocuments(t *testing.T) {
	const images = 20
	cfg := strings.Replace(config(oci.Host().Architecture, "base"), "{", "{"+strings.Repeat(" ", 7<<20), 1)
	entries := make([]any, images)
	var manifests []file
	var descs []ocispec.Descriptor
	for i := range entries {
		entries[i] = map[string]any{"Config": "c.json", "Layers": []string{"l.tar"}}
		m := toJSON(map[string]any{
			"schemaVersion": 2, "annotations": map[string]string{"n": fmt.Sprint(i)},
			"config": describe(ocispec.MediaTypeImageConfig, cfg), "layers": []any{describe(ocispec.MediaTypeImageLayer, string(layerTar("base")))},
		})
		manifests, descs = append(manifests, blob(m)), append(descs, describe(ocispec.MediaTypeImageManifest, m))
	}
	for name, files := range map[string][]file{
		"docker": {{name: "manifest.json", data: toJSON(entries)}, {name: "c.json", data: cfg}, {name: "l.tar", data: string(layerTar("base"))}},
		"layout": append(manifests, blob(cfg), blob(string(layerTar("base"))), file{name: "index.json", data: indexOf(descs...)}),
	} {
		s, _, err := load(t, files...)
		if !errors.Is(err, errdef.ErrLimit) {
			t.Errorf("%s: %v", name, err)
		}
		s.nothingLeft(t)
	}
}

func TestLoadStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := open(t)
	files, desc := layout("amd64", "base")
	data := makeTar(append(files, file{name: "index.json", data: indexOf(desc)})...)
	if _, err := archive.Load(ctx, bytes.NewReader(data), s.deps(), progress.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	s.nothingLeft(t)
}

// FuzzLoad: no bytes make Load panic, and what fails leaves nothing.
func FuzzLoad(f *testing.F) {
	files, desc := layout(oci.Host().Architecture, "base")
	f.Add(makeTar(append(files, file{name: "index.json", data: indexOf(desc)})...))
	f.Add(zip(makeTar(file{name: "manifest.json", data: "[]"})))
	f.Add([]byte("hello"))
	f.Fuzz(func(t *testing.T, data []byte) { fuzzLoad(t, data) })
}

// FuzzDocuments: the same for the documents, in an archive that is whole.
func FuzzDocuments(f *testing.F) {
	files, desc := layout(oci.Host().Architecture, "base")
	f.Add(`[{"Config":"c","RepoTags":["a"],"Layers":["l"]}]`, indexOf(desc), config("amd64", "base"))
	f.Add(`null`, `{"manifests":null}`, `{}`)
	f.Fuzz(func(t *testing.T, manifest, index, cfg string) {
		all := append([]file{{name: "c", data: cfg}, {name: "l", data: string(layerTar("base"))}, blob(index), blob(cfg), {name: "oci-layout"},
			{name: "index.json", data: index}}, files...)
		fuzzLoad(t, makeTar(all...))
		fuzzLoad(t, makeTar(append(all, file{name: "manifest.json", data: manifest})...))
		m := toJSON(map[string]any{"config": describe("", cfg), "layers": []any{}})
		fuzzLoad(t, makeTar(blob(cfg), blob(m), file{name: "index.json", data: indexOf(describe("", m))}))
	})
}

// shelf is an image store in memory.
type shelf struct{ images, tags map[digest.Digest]bool }

func (s shelf) Put(_ context.Context, cfg *oci.Image, o image.PutOptions) (image.Image, error) {
	id := digest.FromBytes(o.RawConfig)
	s.images[id] = true
	return image.Image{Record: image.Record{ID: id}, Config: cfg}, nil
}

func (s shelf) Tag(_ context.Context, _ string, id digest.Digest, _ string) (digest.Digest, error) {
	s.tags[id] = true
	return "", nil
}

func fuzzLoad(t *testing.T, data []byte) {
	t.Helper()
	temp := t.TempDir()
	to := shelf{map[digest.Digest]bool{}, map[digest.Digest]bool{}}
	deps := archive.Deps{
		Layers: &layers{tars: map[oci.DiffID][]byte{}, blobs: map[oci.DiffID][]layer.Blob{}}, Images: to,
		TempDir: func() (string, error) { return temp, nil },
	}
	loaded, err := archive.Load(t.Context(), bytes.NewReader(data), deps, progress.Discard)
	if err != nil && len(to.images)+len(to.tags) > 0 {
		t.Errorf("%v, but there are images %v", err, to)
	}
	if err == nil && len(loaded) == 0 {
		t.Error("nothing was loaded, without an error")
	}
	if left, _ := os.ReadDir(temp); len(left) != 0 {
		t.Errorf("temporary files left: %v", left)
	}
}
