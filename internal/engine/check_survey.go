package engine

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/build"
	"strata/internal/graph"
	"strata/internal/image"
	"strata/internal/oci"
	"strata/internal/reference"
)

// survey is what records tell of layers and blobs: whose they are, and where they can be had again.
type survey struct {
	tags   map[digest.Digest][]string // names of images, as people write them
	owners map[string][]string        // in words, by the names of the sweep
	cached map[oci.DiffID][]graph.Key // entries of the build cache that need a layer
	blobs  map[oci.DiffID][]source    // compressed forms of a layer
	homes  map[digest.Digest][]source // of manifests, configs and indexes
	packed map[digest.Digest]bool     // what the store can do without: compressed layers
}

// source is a place that has bytes.
type source struct {
	ref  reference.Ref
	desc ocispec.Descriptor
}

// survey reads every record. What cannot be read tells nothing.
func (e *Engine) survey(ctx context.Context) (*survey, error) {
	s := &survey{
		tags: map[digest.Digest][]string{}, owners: map[string][]string{}, cached: map[oci.DiffID][]graph.Key{},
		blobs: map[oci.DiffID][]source{}, homes: map[digest.Digest][]source{}, packed: map[digest.Digest]bool{},
	}
	if err := e.surveyTags(s); err != nil {
		return nil, err
	}
	keys, err := e.images.Images.Keys()
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		rec, err := e.images.Images.Get(key)
		if err != nil {
			if rec, err = e.images.Images.Salvage(key); err != nil || !digests(rec.ID, rec.Manifest.Digest) {
				continue
			}
		}
		e.surveyImage(ctx, s, rec)
	}
	if err := e.surveyContainers(s); err != nil {
		return nil, err
	}
	cache, err := e.cache()
	if err != nil {
		return nil, err
	}
	return s, cache.Walk(func(entry graph.Entry) error {
		for _, id := range build.ResultLayers(entry.Result) {
			s.cached[id] = append(s.cached[id], entry.Key)
		}
		return nil
	})
}

// digests reports whether all are digests: what is salvaged may hold anything.
func digests(all ...digest.Digest) bool {
	return !slices.ContainsFunc(all, func(d digest.Digest) bool { _, err := oci.ParseDigest(string(d)); return err != nil })
}

func (e *Engine) surveyTags(s *survey) error {
	keys, err := e.images.Tags.Keys()
	if err != nil {
		return err
	}
	slices.Sort(keys)
	for _, key := range keys {
		t, err := e.images.Tags.Get(key)
		if err != nil {
			continue
		}
		name := reference.Familiarize(t.Name)
		s.tags[t.Image] = append(s.tags[t.Image], name)
		if t.Index == "" {
			continue
		}
		ref, err := reference.Parse(t.Name)
		if err != nil {
			continue
		}
		s.home(t.Index, name, ref, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: t.Index})
		if x, err := e.images.Index(t.Index); err == nil {
			for _, m := range x.Members {
				s.image(m, name, []reference.Ref{ref})
			}
		}
	}
	return nil
}

// home notes that a blob belongs to somebody and that a repository may have it.
func (s *survey) home(d digest.Digest, owner string, ref reference.Ref, desc ocispec.Descriptor) {
	s.owner(image.BlobName(d), owner)
	s.homes[d] = append(s.homes[d], source{ref, desc})
}

func (s *survey) owner(name, owner string) {
	if !slices.Contains(s.owners[name], owner) {
		s.owners[name] = append(s.owners[name], owner)
	}
}

// surveyImage notes what an image consists of, as far as its documents can be read.
func (e *Engine) surveyImage(ctx context.Context, s *survey, rec image.Record) {
	owner := s.imageName(rec.ID)
	var refs []reference.Ref
	names := rec.RepoDigests
	if rec.Foreign { // where it came from may be what it is called
		names = append(slices.Clone(names), s.tags[rec.ID]...)
	}
	for _, name := range names {
		if ref, err := reference.Parse(name); err == nil {
			refs = append(refs, ref)
		}
	}
	s.owner(image.BlobName(rec.ID), owner)
	s.owner(image.BlobName(rec.Manifest.Digest), owner)
	for _, ref := range refs {
		s.home(rec.ID, owner, ref, ocispec.Descriptor{Digest: rec.ID})
		s.home(rec.Manifest.Digest, owner, ref, rec.Manifest)
	}
	if img, err := e.images.Get(ctx, rec.ID); err == nil {
		s.image(img, owner, refs)
		e.surveyKept(s, img, owner)
		return
	}
	// One of the two documents is damaged. The config alone names the layers.
	if raw, err := e.content.ReadAll(rec.ID, oci.MaxConfig); err == nil {
		if cfg, err := oci.ParseImage(raw); err == nil {
			s.image(image.Image{Record: rec, Config: cfg}, owner, refs)
		}
	}
}

func (s *survey) image(img image.Image, owner string, refs []reference.Ref) {
	for _, name := range image.Names(img) {
		s.owner(name, owner)
	}
	if img.Manifest == nil || len(img.Manifest.Layers) != len(img.DiffIDs()) {
		return
	}
	for i, id := range img.DiffIDs() {
		s.packed[img.Manifest.Layers[i].Digest] = true
		for _, ref := range refs {
			s.blobs[id] = append(s.blobs[id], source{ref, img.Manifest.Layers[i]})
		}
	}
}

// surveyKept notes the compressed forms of an image's layers that may be kept here.
func (e *Engine) surveyKept(s *survey, img image.Image, owner string) {
	for _, id := range img.DiffIDs() {
		meta, _ := e.layers.Stat(id) // one that cannot be read has no known forms
		for _, b := range meta.Blobs {
			if name := image.BlobName(b.Digest); len(s.owners[name]) == 0 || s.packed[b.Digest] {
				s.packed[b.Digest] = true
				s.owner(name, owner)
			}
		}
	}
}

func (e *Engine) surveyContainers(s *survey) error {
	store, err := e.Containers()
	if err != nil {
		return err
	}
	keys, err := store.Records().Keys()
	if err != nil {
		return err
	}
	for _, key := range keys {
		rec, err := store.Records().Get(key)
		if err != nil {
			continue
		}
		for _, id := range rec.Layers {
			s.owner(image.LayerName(id), "container "+rec.Name)
			if rec.State.Alive() {
				s.owner(aliveName(id), rec.Name)
			}
		}
	}
	return nil
}

// aliveName is under what a survey keeps the running containers that have a layer mounted.
func aliveName(id oci.DiffID) string { return "alive:" + id.Hex() }

// imageName is how people know an image.
func (s *survey) imageName(id digest.Digest) string {
	if names := s.tags[id]; len(names) > 0 {
		return strings.Join(names, " and ")
	}
	return "image " + shortDigest(id)
}

// named is what stands behind an image's id in a report.
func (s *survey) named(id digest.Digest) string {
	if names := s.tags[id]; len(names) > 0 {
		return " (" + strings.Join(names, ", ") + ")"
	}
	return ""
}

func (s *survey) layerObject(id oci.DiffID) string {
	return "layer " + id.String() + s.belongs(image.LayerName(id), len(s.cached[id]))
}

func (s *survey) blobObject(d digest.Digest) string {
	return "blob " + d.String() + s.belongs(image.BlobName(d), 0)
}

// belongs says whose a thing is.
func (s *survey) belongs(name string, cached int) string {
	owners := s.owners[name]
	if len(owners) == 0 && cached > 0 {
		return " of the build cache"
	}
	if len(owners) == 0 {
		return ""
	}
	return " of " + strings.Join(owners, ", ")
}

// errNoHome: a thing is damaged, and nobody is known to have it whole.
var errNoHome = errors.New("no registry is known to have it")
