package image_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/errdef"
	"strata/internal/image"
	"strata/internal/oci"
)

// member puts an image for another platform without a record.
func (f *fixture) member(t *testing.T, arch, text string) image.Image {
	t.Helper()
	cfg := &oci.Image{OS: "linux", Architecture: arch, RootFS: oci.RootFS{Type: "layers", DiffIDs: []oci.DiffID{f.layers.add(text)}}}
	img, err := f.PutMember(t.Context(), cfg, image.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestIndex(t *testing.T) {
	f := open(t)
	here, other := f.put(t, "here"), f.member(t, "arm64", "there")
	x, err := f.PutIndex(t.Context(), []image.Image{here, other}, image.IndexOptions{
		Annotations: map[string]string{"k": "v"},
		Descriptors: func(p oci.Platform) map[string]string { return map[string]string{"for": p.Architecture} },
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.TagIndex(t.Context(), "multi:1", here.ID, x.Descriptor.Digest, "build"); err != nil {
		t.Fatal(err)
	}
	got, ok, err := f.IndexOf("multi:1")
	if err != nil || !ok || len(got.Members) != 2 || got.Members[1].ID != other.ID || got.Document.Manifests[1].Annotations["for"] != "arm64" {
		t.Fatalf("%+v %v %v", got, ok, err)
	}
	list, err := f.List(t.Context())
	if err != nil || len(list) != 1 || list[0].ID != here.ID {
		t.Errorf("list: %d images, %v", len(list), err)
	}
	reached := func() bool {
		t.Helper()
		roots, err := f.Roots(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return roots[image.BlobName(x.Descriptor.Digest)] && roots[image.BlobName(other.ID)] && roots[image.BlobName(other.Record.Manifest.Digest)] && roots[image.LayerName(other.DiffIDs()[0])]
	}
	if !reached() {
		t.Error("the other member is not reached from the tag")
	}
	// Another image under the name: the index has no name any more.
	if _, err := f.Tag(t.Context(), "multi:1", here.ID, "build"); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := f.IndexOf("multi:1"); ok || err != nil || reached() {
		t.Errorf("after a tag: %v %v", ok, err)
	}
	// An undo brings it back, kept from a sweep from before it looks whether the index is still there.
	var held []string
	f.Hold = func(_ context.Context, names ...string) error {
		held = append(held, names...)
		return nil
	}
	if _, err := f.Undo(t.Context(), "multi:1"); err != nil || !reached() || !slices.Contains(held, image.BlobName(x.Descriptor.Digest)) || !slices.Contains(held, image.LayerName(other.DiffIDs()[0])) {
		t.Errorf("after an undo, with %q held: %v", held, err)
	}
	for _, name := range []string{"nothing", here.ID.String(), "multi@" + here.ID.String(), "NOT A NAME"} {
		if _, ok, err := f.IndexOf(name); ok || err != nil {
			t.Errorf("%s: %v %v", name, ok, err)
		}
	}
}

func TestIndexWithManifests(t *testing.T) {
	f := open(t)
	x, err := f.PutIndex(t.Context(), []image.Image{f.put(t, "here"), f.member(t, "arm64", "there")}, image.IndexOptions{Annotations: map[string]string{"k": "v"}})
	if err != nil {
		t.Fatal(err)
	}
	same, err := x.WithManifests([]ocispec.Descriptor{x.Document.Manifests[0], x.Document.Manifests[1]})
	if err != nil || string(same) != string(x.Raw) {
		t.Errorf("the same members: %s %v", same, err)
	}
	moved := []ocispec.Descriptor{x.Document.Manifests[1], x.Document.Manifests[0]}
	raw, err := x.WithManifests(moved)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := oci.ParseIndex(raw)
	if err != nil || doc.Manifests[0].Digest != moved[0].Digest || doc.Manifests[0].Platform.Architecture != "amd64" || doc.Annotations["k"] != "v" {
		t.Errorf("%s %v", raw, err)
	}
	if x.Document.Manifests[0].Digest == moved[0].Digest {
		t.Error("the index itself was changed")
	}
}

func TestIndexDamaged(t *testing.T) {
	f := open(t)
	here, other := f.put(t, "here"), f.member(t, "arm64", "there")
	x, err := f.PutIndex(t.Context(), []image.Image{here, other}, image.IndexOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.TagIndex(t.Context(), "multi", here.ID, x.Descriptor.Digest, "build"); err != nil {
		t.Fatal(err)
	}
	trash := t.TempDir()
	if err := f.content.Trash(other.Record.Manifest.Digest, trash); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(trash); err != nil || len(entries) != 1 {
		t.Fatalf("%d %v", len(entries), err)
	}
	if _, _, err := f.IndexOf("multi"); !errors.Is(err, errdef.ErrCorrupt) {
		t.Errorf("IndexOf: %v", err)
	}
	if _, err := f.Roots(t.Context()); !errors.Is(err, errdef.ErrCorrupt) || errdef.Hint(err) == "" {
		t.Errorf("Roots: %v", err)
	}
	if _, err := f.Remove(t.Context(), "multi", image.RemoveOptions{}); err != nil {
		t.Errorf("Remove: %v", err)
	}
	if _, err := f.Roots(t.Context()); err != nil {
		t.Errorf("Roots after the removal: %v", err)
	}
}
