package archive_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/archive"
	"strata/internal/errdef"
	"strata/internal/oci"
	"strata/internal/progress"
)

// load loads the members as a stream.
func load(t *testing.T, files ...file) (*store, []archive.Loaded, error) {
	t.Helper()
	s := open(t)
	loaded, err := archive.Load(t.Context(), bytes.NewReader(makeTar(files...)), s.deps(), progress.Discard)
	return s, loaded, err
}

func TestLoadOldDockerArchive(t *testing.T) {
	cfg := config("amd64", "base", "top", "base")
	manifest := toJSON([]any{map[string]any{"Config": digest.FromString(cfg).Encoded() + ".json", "RepoTags": []string{"app:1", "app:1", "x.y/z"},
		"Layers": []string{"aa/layer.tar", "bb/layer.tar", "cc/layer.tar"}}})
	s, loaded, err := load(t,
		file{name: "aa/"}, file{name: "aa/json", data: "{}"}, file{name: "aa/layer.tar", data: string(layerTar("base"))},
		file{name: "./bb/layer.tar", data: string(zip(layerTar("top")))},
		file{name: "cc/layer.tar", link: "../aa/layer.tar"},
		file{name: digest.FromString(cfg).Encoded() + ".json", data: cfg},
		file{name: "repositories", data: "{}"}, file{name: "manifest.json", data: manifest})
	if err != nil || len(loaded) != 1 || !slices.Equal(loaded[0].Names, []string{"docker.io/library/app:1", "x.y/z:latest"}) {
		t.Fatalf("%+v, %v", loaded, err)
	}
	img, err := s.images.Resolve(t.Context(), "app:1")
	if err != nil || img.ID != digest.FromString(cfg) || len(img.DiffIDs()) != 3 || img.Foreign {
		t.Errorf("%+v, %v", img, err)
	}
	s.noTemp(t)
}

func TestLoadKeepsTheManifest(t *testing.T) {
	files, desc := layout("amd64", "base", "top")
	s, _, err := load(t, append(files, file{name: "oci-layout", data: layoutFile},
		file{name: "index.json", data: indexOf(named(desc, ocispec.AnnotationRefName, "app:1"))})...)
	if err != nil {
		t.Fatal(err)
	}
	img, err := s.images.Resolve(t.Context(), "app:1")
	if err != nil || img.Record.Manifest.Digest != desc.Digest || !img.Foreign {
		t.Fatalf("%+v, %v", img.Record, err)
	}
	meta, err := s.layers.Stat(img.DiffIDs()[0])
	if err != nil || len(meta.Blobs) != 1 || meta.Blobs[0].Digest != img.Manifest.Layers[0].Digest || meta.Blobs[0].MediaType != ocispec.MediaTypeImageLayerGzip {
		t.Errorf("known form: %+v, %v", meta, err)
	}
}

func TestLoadDockerWithContainerdStore(t *testing.T) {
	files, desc := layout("amd64", "base")
	cfg, z := config("amd64", "base"), string(zip(layerTar("base")))
	manifest := toJSON([]any{map[string]any{"Config": blob(cfg).name, "RepoTags": []string{"app:1"}, "Layers": []string{blob(z).name}}})
	other, otherDesc := layout("s390x", "far")
	s, _, err := load(t, append(append(files, other[0]), file{name: "oci-layout", data: layoutFile},
		file{name: "index.json", data: indexOf(desc, otherDesc)}, file{name: "manifest.json", data: manifest})...)
	if err != nil {
		t.Fatal(err)
	}
	if img, err := s.images.Resolve(t.Context(), "app:1"); err != nil || img.Record.Manifest.Digest != desc.Digest {
		t.Errorf("%+v, %v", img.Record, err)
	}
	if all, _ := s.images.List(t.Context()); len(all) != 1 {
		t.Errorf("%d images, want the one of manifest.json", len(all))
	}
}

func TestLoadChoosesThePlatform(t *testing.T) {
	host := oci.Host()
	native, nativeDesc := layout(host.Architecture, "base")
	foreign, foreignDesc := layout("s390x", "other")
	attestation := describe(ocispec.MediaTypeImageManifest, "{}")
	attestation.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	inner := indexOf(foreignDesc, attestation, nativeDesc)
	files := slices.Concat(native, []file{blob(inner), {name: "oci-layout", data: layoutFile}})
	index := describe(ocispec.MediaTypeImageIndex, inner)
	s, loaded, err := load(t, append(files, file{name: "index.json",
		data: indexOf(named(index, "io.containerd.image.name", "docker.io/library/app:1"), named(index, "io.containerd.image.name", "docker.io/library/app:2"))})...)
	if err != nil || len(loaded) != 1 || len(loaded[0].Names) != 2 {
		t.Fatalf("%+v, %v", loaded, err)
	}
	if img, err := s.images.Resolve(t.Context(), "app:2"); err != nil || img.Config.Architecture != host.Architecture {
		t.Errorf("%+v, %v", img.Config, err)
	}

	// Two for this name, one for this machine; then one for another machine only, which is what was asked for.
	if _, loaded, err := load(t, append(files, file{name: "index.json", data: indexOf(foreignDesc, nativeDesc)})...); err != nil || len(loaded) != 1 {
		t.Errorf("%+v, %v", loaded, err)
	}
	if _, loaded, err := load(t, append(foreign, file{name: "index.json", data: indexOf(foreignDesc)})...); err != nil || len(loaded) != 1 {
		t.Errorf("%+v, %v", loaded, err)
	}

	ppc := foreignDesc
	ppc.Platform = &ocispec.Platform{OS: "linux", Architecture: "ppc64le"}
	none := indexOf(foreignDesc, ppc)
	_, _, err = load(t, blob(none), file{name: "index.json", data: indexOf(describe(ocispec.MediaTypeImageIndex, none))})
	if !errors.Is(err, errdef.ErrUnsupported) || !strings.Contains(err.Error(), "linux/s390x, linux/ppc64le") {
		t.Errorf("no platform: %v", err)
	}
}

func TestLoadDir(t *testing.T) {
	files, desc := layout("amd64", "base")
	write := func(extra ...file) string {
		dir := t.TempDir()
		for _, f := range append(files, extra...) {
			path := filepath.Join(dir, f.name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(f.data), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	dir := write(file{name: "oci-layout", data: layoutFile}, file{name: "index.json", data: indexOf(named(desc, ocispec.AnnotationRefName, "x/y:1"))})
	s := open(t)
	if _, err := archive.LoadDir(t.Context(), dir, s.deps(), progress.Discard); err != nil {
		t.Fatal(err)
	}
	if _, err := s.images.Resolve(t.Context(), "x/y:1"); err != nil {
		t.Error(err)
	}

	s = open(t)
	outside := filepath.Join(t.TempDir(), "index.json")
	if err := os.WriteFile(outside, []byte(indexOf(desc)), 0o600); err != nil {
		t.Fatal(err)
	}
	dir = write()
	if err := os.Symlink(outside, filepath.Join(dir, "index.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := archive.LoadDir(t.Context(), dir, s.deps(), progress.Discard); err == nil {
		t.Error("a link that leads out of the directory was followed")
	}
	dir = write()
	if err := syscall.Mkfifo(filepath.Join(dir, "index.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := archive.LoadDir(t.Context(), dir, s.deps(), progress.Discard); !errors.Is(err, errdef.ErrInvalid) {
		t.Errorf("a pipe: %v", err)
	}
	s.nothingLeft(t)
}
