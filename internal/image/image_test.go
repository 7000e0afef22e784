package image_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/content"
	"strata/internal/errdef"
	"strata/internal/image"
	"strata/internal/layer"
	"strata/internal/oci"
)

// layers is a layer store that knows only what layers there are.
type layers map[oci.DiffID]layer.Meta

func (l layers) Stat(id oci.DiffID) (layer.Meta, error) {
	m, ok := l[id]
	if !ok {
		return m, fmt.Errorf("layer %s: %w", id, errdef.ErrNotFound)
	}
	return m, nil
}

// add makes up a layer.
func (l layers) add(text string) oci.DiffID {
	id := oci.DiffID(digest.FromString(text))
	l[id] = layer.Meta{DiffID: id, Size: int64(len(text)) + 1024, Disk: int64(len(text)), Content: int64(len(text))}
	return id
}

type fixture struct {
	*image.Store
	layers  layers
	content *content.Store
	held    []string
	clock   time.Time
}

func open(t *testing.T) *fixture {
	t.Helper()
	root := t.TempDir()
	blobs, err := content.Open(filepath.Join(root, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{layers: layers{}, content: blobs, clock: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	if f.Store, err = image.Open(root, blobs, f.layers); err != nil {
		t.Fatal(err)
	}
	f.Hold = func(_ context.Context, names ...string) error { f.held = append(f.held, names...); return nil }
	f.Now = func() time.Time { f.clock = f.clock.Add(time.Minute); return f.clock }
	return f
}

// put makes an image of made-up layers and gives it names.
func (f *fixture) put(t *testing.T, text string, names ...string) image.Image {
	t.Helper()
	cfg := &oci.Image{OS: "linux", Architecture: "amd64", Author: text,
		RootFS: oci.RootFS{Type: "layers", DiffIDs: []oci.DiffID{f.layers.add("base"), f.layers.add(text)}}}
	cfg.Config.Labels = map[string]string{"text": text}
	img, err := f.Put(t.Context(), cfg, image.PutOptions{Annotations: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if _, err := f.Tag(t.Context(), name, img.ID, "build"); err != nil {
			t.Fatal(err)
		}
	}
	return img
}

func TestPutDescribesLayersAsTheyAre(t *testing.T) {
	f := open(t)
	img := f.put(t, "one")
	if want := digest.FromBytes(img.RawConfig); img.ID != want {
		t.Errorf("id %s, want the config's digest %s", img.ID, want)
	}
	if len(img.Manifest.Layers) != 2 || img.Manifest.Annotations["a"] != "b" {
		t.Fatalf("manifest %+v", img.Manifest)
	}
	for i, d := range img.Manifest.Layers {
		id := img.DiffIDs()[i]
		if d.MediaType != "application/vnd.oci.image.layer.v1.tar" || d.Digest != digest.Digest(id) || d.Size != f.layers[id].Size {
			t.Errorf("layer %d: %+v", i, d)
		}
	}
	for _, name := range image.Names(img) {
		if !slices.Contains(f.held, name) && !strings.HasPrefix(name, "blob:"+img.DiffIDs()[0].Hex()) && !strings.HasPrefix(name, "blob:"+img.DiffIDs()[1].Hex()) {
			t.Errorf("%s was not held", name)
		}
	}
	again, err := f.Put(t.Context(), img.Config, image.PutOptions{RawConfig: img.RawConfig, RepoDigests: []string{"docker.io/library/x@" + string(img.ID)}})
	if err != nil || !again.Created.Equal(img.Created) || len(again.RepoDigests) != 1 {
		t.Errorf("put again: %+v, %v", again.Record, err)
	}
}

func TestPutRefuses(t *testing.T) {
	f := open(t)
	missing := &oci.Image{OS: "linux", Architecture: "amd64", RootFS: oci.RootFS{Type: "layers", DiffIDs: []oci.DiffID{oci.EmptyLayer}}}
	if _, err := f.Put(t.Context(), missing, image.PutOptions{}); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("missing layer: %v", err)
	}
	one, two := f.put(t, "one"), f.put(t, "two")
	if _, err := f.Put(t.Context(), one.Config, image.PutOptions{RawManifest: two.RawManifest}); !errors.Is(err, errdef.ErrCorrupt) {
		t.Errorf("manifest of another image: %v", err)
	}
}

func TestForeignManifestStays(t *testing.T) {
	f := open(t)
	local := f.put(t, "one")
	m := *local.Manifest
	m.Layers = slices.Clone(m.Layers)
	m.Layers[0] = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromString("gz"), Size: 2}
	raw, err := oci.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	raw = append([]byte("  "), raw...) // its bytes count, not its meaning
	foreign, err := f.Put(t.Context(), local.Config, image.PutOptions{RawConfig: local.RawConfig, RawManifest: raw})
	if err != nil || foreign.Record.Manifest.Digest != digest.FromBytes(raw) {
		t.Fatalf("foreign manifest: %+v, %v", foreign.Record, err)
	}
	if after := f.put(t, "one"); after.Record.Manifest.Digest != digest.FromBytes(raw) {
		t.Error("a local manifest took the place of the image's own")
	}
	roots, err := f.Roots(t.Context())
	if err != nil || !roots["blob:"+digest.FromString("gz").Encoded()] || !roots[image.LayerName(local.DiffIDs()[1])] {
		t.Errorf("roots %v, %v", roots, err)
	}
}

func TestResolve(t *testing.T) {
	f := open(t)
	one := f.put(t, "one", "app", "app:1", "quay.io/x/y:z", "quay.io/"+strings.Repeat("long/", 40)+"name:t")
	two := f.put(t, "two", "other")
	pulled, err := f.Put(t.Context(), two.Config, image.PutOptions{RepoDigests: []string{"docker.io/library/web@" + string(one.ID)}})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]digest.Digest{
		"app": one.ID, "app:latest": one.ID, "docker.io/library/app:1": one.ID, "quay.io/x/y:z": one.ID,
		"quay.io/" + strings.Repeat("long/", 40) + "name:t": one.ID,
		string(one.ID): one.ID, one.ID.Encoded(): one.ID, one.ID.Encoded()[:12]: one.ID, "sha256:" + two.ID.Encoded()[:9]: two.ID,
		"app@" + string(one.Record.Manifest.Digest): one.ID, "web@" + string(one.ID): pulled.ID, "app:x@" + string(one.Record.Manifest.Digest): one.ID,
	} {
		if got, err := f.Resolve(t.Context(), name); err != nil || got.ID != want {
			t.Errorf("Resolve(%q) = %s, %v; want %s", name, got.ID, err, want)
		}
		if _, err := f.Pin(t.Context(), name); err != nil {
			t.Errorf("Pin(%q): %v", name, err)
		}
	}
	for name, want := range map[string]error{
		"nope": errdef.ErrNotFound, "app:2": errdef.ErrNotFound, "App": errdef.ErrInvalid, "": errdef.ErrInvalid,
		"other@" + string(one.Record.Manifest.Digest): errdef.ErrNotFound, strings.Repeat("0", 64): errdef.ErrNotFound,
		"sha256:" + strings.Repeat("0", 64): errdef.ErrNotFound,
	} {
		if _, err := f.Resolve(t.Context(), name); !errors.Is(err, want) {
			t.Errorf("Resolve(%q) = %v, want %v", name, err, want)
		}
	}
}

func TestTagBeatsIDAndPrefixMustBeUnique(t *testing.T) {
	f := open(t)
	first := map[byte]image.Image{}
	for i := range 17 { // of seventeen ids two start with the same digit
		img := f.put(t, fmt.Sprint("image ", i))
		digit := img.ID.Encoded()[0]
		if _, ok := first[digit]; !ok {
			first[digit] = img
			continue
		}
		_, err := f.Resolve(t.Context(), string(digit))
		if !errors.Is(err, errdef.ErrInvalid) || !strings.Contains(err.Error(), img.ID.Encoded()[:12]) {
			t.Errorf("ambiguous prefix: %v", err)
		}
		if _, err := f.Tag(t.Context(), string(digit), img.ID, "tag"); err != nil {
			t.Fatal(err)
		}
		if got, err := f.Resolve(t.Context(), string(digit)); err != nil || got.ID != img.ID {
			t.Errorf("a tag that looks like an id: %v", err)
		}
		return
	}
}

func TestTagKeepsItsHistory(t *testing.T) {
	f := open(t)
	one, two := f.put(t, "one", "app"), f.put(t, "two")
	if old, err := f.Tag(t.Context(), "app", two.ID, "pull"); err != nil || old != one.ID {
		t.Fatalf("Tag = %s, %v", old, err)
	}
	tag, err := f.Tags.Get("docker.io/library/app:latest")
	if err != nil || len(tag.History) != 2 || tag.History[0].Image != one.ID || tag.History[1].Cause != "pull" {
		t.Errorf("history %+v, %v", tag, err)
	}
	for i := range 120 {
		id := one.ID
		if i%2 == 1 {
			id = two.ID
		}
		if _, err := f.Tag(t.Context(), "app", id, "tag"); err != nil {
			t.Fatal(err)
		}
	}
	if tag, _ = f.Tags.Get("docker.io/library/app:latest"); len(tag.History) != 50 || tag.History[49].Image != two.ID {
		t.Errorf("%d events, want the last 50", len(tag.History))
	}
	if _, err := f.Tag(t.Context(), "app@"+string(one.ID), one.ID, "tag"); !errors.Is(err, errdef.ErrInvalid) {
		t.Errorf("tag with digest: %v", err)
	}
	if _, err := f.Tag(t.Context(), "app", digest.FromString("no such image"), "tag"); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("tag for nothing: %v", err)
	}
	if id, err := f.Untag(t.Context(), "app"); err != nil || id != two.ID {
		t.Errorf("Untag = %s, %v", id, err)
	}
	if _, err := f.Untag(t.Context(), "app"); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("Untag again: %v", err)
	}
}

func TestListNamesWhatIsBroken(t *testing.T) {
	f := open(t)
	one, two, lost := f.put(t, "one", "app:2", "app:1"), f.put(t, "two"), f.put(t, "lost", "lost")
	if err := f.content.Trash(lost.ID, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	list, err := f.List(t.Context())
	if !errors.Is(err, errdef.ErrCorrupt) || !strings.Contains(err.Error(), lost.ID.Encoded()[:12]) {
		t.Errorf("error %v", err)
	}
	if len(list) != 2 || list[0].ID != two.ID || list[1].ID != one.ID {
		t.Fatalf("list %+v", list)
	}
	want := []string{"docker.io/library/app:1", "docker.io/library/app:2"}
	if diff := cmp.Diff(want, list[1].Tags); diff != "" {
		t.Error(diff)
	}
	if _, err := f.Roots(t.Context()); !errors.Is(err, errdef.ErrCorrupt) {
		t.Errorf("Roots with an unreadable image: %v", err)
	}
	if _, err := f.Remove(t.Context(), "lost", image.RemoveOptions{}); err != nil {
		t.Errorf("removing what is broken: %v", err)
	}
	if _, err := f.Roots(t.Context()); err != nil {
		t.Errorf("Roots after that: %v", err)
	}
}

func TestAppendAndHistory(t *testing.T) {
	f := open(t)
	base, err := f.Append(t.Context(), image.Image{}, image.AppendOptions{Layer: f.layers.add("files"), Entry: oci.History{CreatedBy: "COPY"}})
	if err != nil {
		t.Fatal(err)
	}
	img, err := f.Append(t.Context(), base, image.AppendOptions{
		Change: func(c *oci.Image) { c.Config.Cmd = []string{"sh"} },
		Entry:  oci.History{CreatedBy: "CMD sh", Comment: "said so"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if img.Parent != base.ID || base.Config.Config.Cmd != nil || len(img.DiffIDs()) != 1 {
		t.Errorf("append: %+v", img.Config)
	}
	rows, err := f.History(img)
	if err != nil || len(rows) != 2 {
		t.Fatalf("%+v, %v", rows, err)
	}
	if r := rows[0]; r.ID != string(img.ID) || !r.Empty || r.Size != 0 || r.Comment != "said so" {
		t.Errorf("newest row %+v", r)
	}
	if r := rows[1]; r.ID != "<missing>" || r.Empty || r.Size != 5 || r.CreatedBy != "COPY" {
		t.Errorf("oldest row %+v", r)
	}
	if size, err := f.Size(img); err != nil || size != 5 {
		t.Errorf("Size = %d, %v", size, err)
	}

	// Histories that do not fit the layers.
	img.Config.History = nil
	if rows, err := f.History(img); err != nil || len(rows) != 1 || rows[0].Size != 5 {
		t.Errorf("no history: %+v, %v", rows, err)
	}
	img.Config.History = make([]oci.History, 3)
	if rows, err := f.History(img); err != nil || len(rows) != 3 || rows[0].Size != 0 || rows[2].Size != 5 {
		t.Errorf("too much history: %+v, %v", rows, err)
	}
}

// TestSize holds that the record tells the size, and the layers where it does not, as in records of an older strata.
func TestSize(t *testing.T) {
	f := open(t)
	ids := []oci.DiffID{f.layers.add("first"), f.layers.add("second")}
	img, err := f.Put(t.Context(), &oci.Image{OS: "linux", Architecture: "amd64", RootFS: oci.RootFS{Type: "layers", DiffIDs: ids}}, image.PutOptions{})
	if err != nil || img.Size != 11 {
		t.Fatalf("recorded: %d, %v", img.Size, err)
	}
	older := img
	older.Size = 0
	if size, err := f.Size(older); err != nil || size != 11 {
		t.Errorf("by the layers: %d, %v", size, err)
	}
	old := f.layers[ids[1]]
	old.Content, old.Disk = -1, 8
	f.layers[ids[1]] = old
	if size, err := f.Size(older); err != nil || size != 13 {
		t.Errorf("by a layer whose record is old: %d, %v", size, err)
	}
	again, err := f.Put(t.Context(), img.Config, image.PutOptions{})
	if err != nil || again.Size != 11 {
		t.Errorf("put again with such a layer: %d, %v", again.Size, err)
	}
	delete(f.layers, ids[0])
	if _, err := f.Size(older); !errors.Is(err, errdef.ErrCorrupt) {
		t.Errorf("without a layer: %v", err)
	}
}

func TestFilters(t *testing.T) {
	f := open(t)
	f.put(t, "one", "app:1", "quay.io/x/app:1")
	f.put(t, "two", "app:2")
	f.put(t, "three")
	for _, c := range []struct {
		filters string
		want    string
	}{
		{"", "three | two app:2 | one app:1 quay.io/x/app:1"},
		{"dangling=true", "three"},
		{"dangling=false", "two app:2 | one app:1 quay.io/x/app:1"},
		{"label=text=two", "two app:2"},
		{"label=text", "three | two app:2 | one app:1 quay.io/x/app:1"},
		{"label!=text=two", "three | one app:1 quay.io/x/app:1"},
		{"before=app:2", "one app:1 quay.io/x/app:1"},
		{"since=app:2", "three"},
		{"reference=app", "two app:2 | one app:1"},
		{"reference=*:1", "one app:1"},
		{"reference=quay.io/*/app", "one quay.io/x/app:1"},
		{"reference=app:2 reference=quay.io/x/*:1", "two app:2 | one quay.io/x/app:1"},
		{"until=1h", ""},
		{"until=2030-01-01", "three | two app:2 | one app:1 quay.io/x/app:1"},
		{"since=app:1 dangling=false", "two app:2"},
	} {
		filter, err := f.ParseFilter(t.Context(), strings.Fields(c.filters))
		if err != nil {
			t.Fatal(err)
		}
		all, err := f.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, img := range filter.Apply(all) {
			words := []string{img.Config.Author}
			for _, tag := range img.Tags {
				words = append(words, strings.TrimPrefix(tag, "docker.io/library/"))
			}
			got = append(got, strings.Join(words, " "))
		}
		if s := strings.Join(got, " | "); s != c.want {
			t.Errorf("%q: %q, want %q", c.filters, s, c.want)
		}
	}
	for _, bad := range []string{"dangling", "dangling=x", "colour=red", "until=soon", "reference=["} {
		if _, err := f.ParseFilter(t.Context(), []string{bad}); !errors.Is(err, errdef.ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := f.ParseFilter(t.Context(), []string{"before=nope"}); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("before an image that is not: %v", err)
	}
}
