package ship_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/archive"
	"strata/internal/errdef"
	"strata/internal/layer"
	"strata/internal/oci"
	"strata/internal/ship"
)

// stored makes a storage of podman's with one image of one layer, and gives its place, the layer's tar and the directory of
// the layer's files.
func stored(t *testing.T) (place string, layerTar []byte, files string) {
	t.Helper()
	dir := t.TempDir()
	layerID := strings.Repeat("1", 64)
	files = filepath.Join(dir, "overlay", layerID, "diff")
	write(t, filepath.Join(files, "etc/name"), "value")
	var whole, split, zipped bytes.Buffer
	tw := tar.NewWriter(&whole)
	lines := json.NewEncoder(&split)
	at := 0
	segment := func() {
		if whole.Len() > at {
			_ = lines.Encode(map[string]any{"type": 2, "payload": whole.Bytes()[at:]})
		}
		at = whole.Len()
	}
	for _, h := range []*tar.Header{
		{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "etc/name", Typeflag: tar.TypeReg, Mode: 0o640, Size: 5},
		{Name: "etc/link", Typeflag: tar.TypeSymlink, Linkname: "/etc/name"},
	} {
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size == 0 {
			_ = tw.Flush()
			continue
		}
		segment()
		_ = lines.Encode(map[string]any{"type": 1, "name": h.Name, "size": h.Size})
		_, _ = tw.Write([]byte("value"))
		at = whole.Len()
	}
	_ = tw.Close()
	segment()
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write(split.Bytes())
	_ = z.Close()
	diff := digest.FromBytes(whole.Bytes())
	config := fmt.Sprintf(`{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[%q]}}`, diff)
	id := digest.FromString(config)
	write(t, filepath.Join(dir, "overlay-layers", layerID+".tar-split.gz"), zipped.String())
	write(t, filepath.Join(dir, "overlay-layers/layers.json"), fmt.Sprintf(`[{"id":%q,"diff-digest":%q,"diff-size":%d}]`, layerID, diff, whole.Len()))
	write(t, filepath.Join(dir, "overlay-images/images.json"), fmt.Sprintf(`[{"id":%q,"names":["localhost/app:latest","docker.io/team/app:1"],"layer":%q}]`, id.Encoded(), layerID))
	write(t, filepath.Join(dir, "overlay-images", id.Encoded(), "="+base64.StdEncoding.EncodeToString([]byte(id))), config)
	return "overlay@" + dir, whole.Bytes(), files
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// podman's image goes to a registry: the same config, its layer compressed there and the same tar inside.
func TestStorage(t *testing.T) {
	place, want, _ := stored(t)
	for _, name := range []string{"app", "team/app:1", ""} {
		if _, err := ship.OpenStorage(place, name); err != nil {
			t.Errorf("name %q: %v", name, err)
		}
	}
	if _, err := ship.OpenStorage(place, "nothing"); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("a name that is not there: %v", err)
	}
	if _, err := ship.OpenStorage(t.TempDir(), "app"); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("no storage: %v", err)
	}
	if _, err := ship.OpenStorage("btrfs@/x", "app"); !errors.Is(err, errdef.ErrUnsupported) {
		t.Errorf("another driver: %v", err)
	}
	from, err := ship.OpenStorage(place, "app")
	if err != nil {
		t.Fatal(err)
	}
	to := ship.NewRepository(client(t), parse(t, serve(t, true)+"/app:1"))
	res, err := ship.Copy(t.Context(), from, to, ship.Options{Compression: layer.Gzip})
	if err != nil {
		t.Fatal(err)
	}
	doc, err := to.Document(t.Context(), ocispec.Descriptor{})
	if err != nil || doc.Descriptor.Digest != res.Root.Digest {
		t.Fatalf("%+v, %v", doc.Descriptor, err)
	}
	m, err := oci.ParseManifest(doc.Raw)
	if err != nil || m.Layers[0].MediaType != ocispec.MediaTypeImageLayerGzip {
		t.Fatalf("%s, %v", doc.Raw, err)
	}
	r, err := to.Blob(t.Context(), m.Layers[0])
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	plain, _, err := layer.Decompress(r)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(plain); err != nil || !bytes.Equal(got, want) {
		t.Errorf("another tar came, %v", err)
	}
}

// Files that are not what the layer's digest says, or links out of the storage, end the copy.
func TestStorageDamaged(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, "value")
	for name, spoil := range map[string]func(file string) error{
		"other bytes": func(file string) error { return os.WriteFile(file, []byte("VALUE"), 0o600) },
		"too short":   func(file string) error { return os.WriteFile(file, []byte("v"), 0o600) },
		"gone":        os.Remove,
		"a link": func(file string) error {
			return errors.Join(os.Remove(file), os.Symlink(secret, file))
		},
		"a link in the way": func(file string) error {
			return errors.Join(os.RemoveAll(filepath.Dir(file)), os.Symlink(filepath.Dir(secret), filepath.Dir(file)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			place, _, files := stored(t)
			if err := spoil(filepath.Join(files, "etc/name")); err != nil {
				t.Fatal(err)
			}
			from, err := ship.OpenStorage(place, "app")
			if err != nil {
				t.Fatal(err)
			}
			to := ship.NewRepository(client(t), parse(t, serve(t, true)+"/app:1"))
			if _, err := ship.Copy(t.Context(), from, to, ship.Options{}); err == nil {
				t.Error("it was copied")
			}
		})
	}
}

// daemon is docker's Engine API with one archive.
type daemon struct {
	mu      sync.Mutex // of one request at a time, and of who looks
	archive []byte
	refuse  string // what it says of a load
	loaded  []byte
}

func (d *daemon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case r.URL.Path == "/images/get" && r.URL.Query().Get("names") == "app:1":
		_, _ = w.Write(d.archive)
	case r.URL.Path == "/images/load" && d.refuse != "":
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprintf(w, `{"stream":"Loading"}{"errorDetail":{"message":%[1]q},"error":%[1]q}`, d.refuse)
	case r.URL.Path == "/images/load":
		d.loaded, _ = io.ReadAll(r.Body)
		_, _ = io.WriteString(w, `{"stream":"Loaded image: app:1\n"}`)
	default:
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"message":"No such image: `+r.URL.Query().Get("names")+`"}`)
	}
}

func TestDaemon(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{}
	srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: d}} //nolint:gosec // a test's own client
	srv.Start()
	defer srv.Close()

	m := newMemory()
	m.root = m.image(ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageLayerGzip, "amd64")
	put := func(w io.Writer) error {
		all, err := archive.NewCollection(w, true)
		if err != nil {
			return err
		}
		if _, err := ship.Copy(t.Context(), m, all.Image("docker.io/library/app:1"), ship.Options{Serial: true}); err != nil {
			return err
		}
		return all.Close()
	}
	if err := ship.Daemon(socket).Load(t.Context(), put); err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	d.archive = d.loaded
	d.mu.Unlock()
	if len(d.archive) == 0 {
		t.Fatal("nothing was loaded")
	}
	err = ship.Daemon(socket).Save(t.Context(), "app:1", func(r io.Reader) error {
		place, err := archive.ReadPlace(t.Context(), r, func() (string, error) { return t.TempDir(), nil })
		if err != nil {
			return err
		}
		defer place.Close()
		img, err := place.Layout("app:1")
		if err == nil {
			same(t, m, img)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}

	if err := ship.Daemon(socket).Save(t.Context(), "nothing", nil); !errors.Is(err, errdef.ErrNotFound) || !strings.Contains(err.Error(), "No such image") {
		t.Errorf("an image that is not there: %v", err)
	}
	own := errors.New("the source broke")
	if err := ship.Daemon(socket).Load(t.Context(), func(io.Writer) error { return own }); !errors.Is(err, own) {
		t.Errorf("a source that breaks: %v", err)
	}
	d.mu.Lock()
	d.refuse = "no space left"
	d.mu.Unlock()
	if err := ship.Daemon(socket).Load(t.Context(), put); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("docker refuses: %v", err)
	}
	srv.Close()
	if err := ship.Daemon(socket).Load(t.Context(), put); !errors.Is(err, errdef.ErrUnavailable) || errdef.Hint(err) == "" {
		t.Errorf("no docker: %v", err)
	}
	t.Setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
	if err := ship.Daemon("").Load(t.Context(), put); !errors.Is(err, errdef.ErrUnsupported) {
		t.Errorf("a docker elsewhere: %v", err)
	}
}
