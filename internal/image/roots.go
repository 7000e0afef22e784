package image

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"strata/internal/errdef"
	"strata/internal/layer"
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
	// Images with their tags, newest first, without histories.
	Images  []Image
	tagged  map[string]time.Time              // when each tag was pointed to what it points to
	indexes map[digest.Digest][]Tag           // tags for several platforms, by the image that stands for them here
	forms   map[oci.DiffID][]string           // compressed forms of layers that were asked for, or told of
	own     map[digest.Digest][]string        // what each image reaches by itself
	reached map[digest.Digest]map[string]bool // names that an index reaches
}

// Snapshot reads every image and every tag.
func (s *Store) Snapshot(_ context.Context) (*Snapshot, error) {
	tags, err := s.Tags.All()
	if err != nil {
		return nil, err
	}
	v := &Snapshot{s: s, tagged: map[string]time.Time{}, indexes: map[digest.Digest][]Tag{}, forms: map[oci.DiffID][]string{}, own: map[digest.Digest][]string{}, reached: map[digest.Digest]map[string]bool{}}
	for _, t := range tags {
		if n := len(t.History); n > 0 {
			v.tagged[t.Name] = t.History[n-1].Time
		}
		if t.Index != "" {
			v.indexes[t.Image] = append(v.indexes[t.Image], t)
		}
	}
	v.Images, err = s.list(tags, func(rec Record) (Image, error) { return s.readBoth(rec, oci.ParseBrief) })
	return v, err
}

// Tell says which compressed forms a layer is known to have, so that it is not asked. It is for who has read all layers since.
func (v *Snapshot) Tell(id oci.DiffID, blobs []layer.Blob) { v.forms[id] = formNames(blobs) }

func formNames(blobs []layer.Blob) (names []string) {
	for _, b := range blobs {
		names = append(names, BlobName(b.Digest))
	}
	return names
}

// Tagged is when a tag was pointed to what it points to.
func (v *Snapshot) Tagged(name string) time.Time { return v.tagged[name] }

// Roots gives the names of everything that images reach: see [Snapshot.Reach]. Images that gone names, and their tags, reach
// nothing.
func (v *Snapshot) Roots(gone map[digest.Digest]bool) (map[string]bool, error) {
	roots := make(map[string]bool, 8*len(v.Images))
	add := func(name string) { roots[name] = true }
	for i := range v.Images {
		if gone[v.Images[i].ID] {
			continue
		}
		for _, name := range v.reach(v.Images[i]) {
			add(name)
		}
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
// and what indexes reach that its tags stand for. Each name is there once.
func (v *Snapshot) Reach(img Image) ([]string, error) {
	names := v.reach(img)
	tags := v.indexes[img.ID]
	if len(tags) == 0 {
		return names, nil
	}
	names = slices.Clone(names)
	err := v.indexed(tags, func(name string) { names = append(names, name) })
	return distinct(names), err
}

// reach gives what the image reaches by itself, each name once. The caller must not change it.
func (v *Snapshot) reach(img Image) []string {
	names, known := v.own[img.ID]
	if known {
		return names
	}
	names = Names(img)
	for _, l := range img.DiffIDs() {
		forms, known := v.forms[l]
		if !known {
			// A layer that cannot be read has no known forms; that it is damaged is `system check`'s to say.
			meta, _ := v.s.Layers.Stat(l)
			forms = formNames(meta.Blobs)
			v.forms[l] = forms
		}
		names = append(names, forms...)
	}
	v.own[img.ID] = distinct(names)
	return v.own[img.ID]
}

func distinct(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
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
