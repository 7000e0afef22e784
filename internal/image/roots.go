package image

import (
	"context"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"strata/internal/errdef"
	"strata/internal/oci"
	"strata/internal/reference"
)

// ImageName is how leases and the sweep call an image record: "image:<hex>".
func ImageName(id digest.Digest) string { return "image:" + id.Encoded() }

// BlobName is how leases and the sweep call a blob: "blob:<hex>".
func BlobName(d digest.Digest) string { return "blob:" + d.Encoded() }

// LayerName is how leases and the sweep call a layer: "layer:<hex>".
func LayerName(id oci.DiffID) string { return "layer:" + id.Hex() }

// Names lists what an image consists of, to be held: record, config, manifest, layers, and the blobs that its manifest
// calls its layers, which may or may not be in the store.
func Names(img Image) []string {
	names := []string{ImageName(img.ID), BlobName(img.ID), BlobName(img.Record.Manifest.Digest)}
	for _, l := range img.DiffIDs() {
		names = append(names, LayerName(l))
	}
	if img.Manifest != nil {
		for _, d := range img.Manifest.Layers {
			names = append(names, BlobName(d.Digest))
		}
	}
	return names
}

// Roots is [Snapshot.Roots] of all images there are. A record that cannot be read is an error: what it reaches is unknown, so
// nothing may be swept.
func (s *Store) Roots(ctx context.Context) (map[string]bool, error) {
	snap, err := s.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return snap.Roots(nil)
}

// Snapshot is all images at one moment, read once. It is for one goroutine.
type Snapshot struct {
	s *Store
	// Images with their tags, newest first.
	Images  []Image
	tagged  map[string]time.Time              // when each tag was pointed to what it points to
	indexes map[digest.Digest][]Tag           // tags for several platforms, by the image that stands for them here
	forms   map[oci.DiffID][]string           // compressed forms of layers that were asked for
	reached map[digest.Digest]map[string]bool // names that an index reaches
}

// Snapshot reads every image and every tag.
func (s *Store) Snapshot(_ context.Context) (*Snapshot, error) {
	tags, err := s.Tags.All()
	if err != nil {
		return nil, err
	}
	v := &Snapshot{s: s, tagged: map[string]time.Time{}, indexes: map[digest.Digest][]Tag{}, forms: map[oci.DiffID][]string{}, reached: map[digest.Digest]map[string]bool{}}
	for _, t := range tags {
		if n := len(t.History); n > 0 {
			v.tagged[t.Name] = t.History[n-1].Time
		}
		if t.Index != "" {
			v.indexes[t.Image] = append(v.indexes[t.Image], t)
		}
	}
	v.Images, err = s.list(tags, s.readKey)
	return v, err
}

// Tagged is when a tag was pointed to what it points to.
func (v *Snapshot) Tagged(name string) time.Time { return v.tagged[name] }

// Roots gives the names of everything that images reach: see [Snapshot.Reach]. Images that gone names, and their tags, reach
// nothing.
func (v *Snapshot) Roots(gone map[digest.Digest]bool) (map[string]bool, error) {
	roots := map[string]bool{}
	add := func(name string) { roots[name] = true }
	for _, img := range v.Images {
		if gone[img.ID] {
			continue
		}
		v.reach(img, add)
	}
	for id, tags := range v.indexes {
		if gone[id] {
			continue
		}
		if err := v.indexed(tags, add); err != nil {
			return nil, err
		}
	}
	return roots, nil
}

// Reach gives the names of everything that an image reaches: [Names] of it, the compressed forms that are known of its layers,
// and what indexes reach that its tags stand for.
func (v *Snapshot) Reach(img Image) (map[string]bool, error) {
	names := map[string]bool{}
	add := func(name string) { names[name] = true }
	v.reach(img, add)
	return names, v.indexed(v.indexes[img.ID], add)
}

func (v *Snapshot) reach(img Image, add func(name string)) {
	for _, name := range Names(img) {
		add(name)
	}
	for _, l := range img.DiffIDs() {
		forms, known := v.forms[l]
		if !known {
			// A layer that cannot be read has no known forms; that it is damaged is `system check`'s to say.
			meta, _ := v.s.Layers.Stat(l)
			for _, b := range meta.Blobs {
				forms = append(forms, BlobName(b.Digest))
			}
			v.forms[l] = forms
		}
		for _, name := range forms {
			add(name)
		}
	}
}

// indexed adds what the indexes reach that tags stand for.
func (v *Snapshot) indexed(tags []Tag, add func(name string)) error {
	for _, t := range tags {
		if v.reached[t.Index] == nil {
			x, err := v.s.Index(t.Index)
			if err != nil {
				name := reference.Familiarize(t.Name)
				return errdef.WithHint(fmt.Errorf("tag %q: %w", name, err), "strata rmi "+name+" removes it; build it again")
			}
			v.reached[t.Index] = x.names()
		}
		for name := range v.reached[t.Index] {
			add(name)
		}
	}
	return nil
}

// Documents gives the digests of the manifests, configs and indexes of all images.
func (s *Store) Documents(_ context.Context) (map[digest.Digest]bool, error) {
	records, err := s.Images.All()
	if err != nil {
		return nil, err
	}
	documents := map[digest.Digest]bool{}
	for _, rec := range records {
		documents[rec.ID], documents[rec.Manifest.Digest] = true, true
	}
	tags, err := s.Tags.All()
	if err != nil {
		return nil, err
	}
	for _, t := range tags {
		if t.Index == "" || documents[t.Index] {
			continue
		}
		x, err := s.Index(t.Index)
		if err != nil {
			return nil, err
		}
		documents[t.Index] = true
		for _, m := range x.Members {
			documents[m.ID], documents[m.Record.Manifest.Digest] = true, true
		}
	}
	return documents, nil
}
