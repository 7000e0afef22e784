package engine

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"

	"strata/internal/build"
	"strata/internal/container"
	"strata/internal/content"
	"strata/internal/errdef"
	"strata/internal/graph"
	"strata/internal/image"
	"strata/internal/layer"
	"strata/internal/oci"
	"strata/internal/parallel"
)

// inventory is what the store has at one moment, and who needs what of it.
type inventory struct {
	e          *Engine
	live       map[string]bool // what living processes hold
	images     *image.Snapshot
	containers map[string]container.Record
	entries    []graph.Entry // of the build cache
	layers     []layer.Meta
	blobs      []content.Info
	measured   map[oci.DiffID]int64
	others     []cacheItem // things of the build cache that are no entries, when they were measured
}

// gone is what a prune takes away before it sweeps.
type gone struct {
	images     map[digest.Digest]bool
	containers map[string]bool
	entries    map[graph.Key]bool
	// bytes of what goes by itself: containers, volumes, cache mounts.
	bytes int64
}

func newGone() *gone {
	return &gone{images: map[digest.Digest]bool{}, containers: map[string]bool{}, entries: map[graph.Key]bool{}}
}

// inventory reads all records. One that cannot be read is an error: what it needs is unknown.
func (e *Engine) inventory(ctx context.Context) (*inventory, error) {
	v := &inventory{e: e, measured: map[oci.DiffID]int64{}}
	// Leases before records: who publishes a record and ends meanwhile is found in one of the two.
	var err error
	if v.live, err = e.leases.Live(); err != nil {
		return nil, err
	}
	if v.images, err = e.images.Snapshot(ctx); err != nil {
		return nil, err
	}
	s, err := e.Containers()
	if err != nil {
		return nil, err
	}
	if v.containers, err = s.Records().All(); err != nil {
		return nil, err
	}
	cache, err := e.cache()
	if err != nil {
		return nil, err
	}
	if err := cache.Walk(func(entry graph.Entry) error { v.entries = append(v.entries, entry); return nil }); err != nil {
		return nil, err
	}
	err = e.layers.Walk(func(m layer.Meta) error {
		v.layers = append(v.layers, m)
		if e.layers.Present(m) {
			v.images.Tell(m.DiffID, m.Blobs)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return v, e.content.Walk(func(b content.Info) error { v.blobs = append(v.blobs, b); return nil })
}

// roots names all that must stay when g is gone, and the layers that must stay for the build cache alone.
func (v *inventory) roots(g *gone) (roots map[string]bool, cached map[oci.DiffID]bool, err error) {
	if roots, err = v.images.Roots(g.images); err != nil {
		return nil, nil, err
	}
	for name := range v.live {
		roots[name] = true
	}
	for id, rec := range v.containers {
		if g.containers[id] {
			continue
		}
		for _, l := range containerLayers(rec) {
			roots[image.LayerName(l)] = true
		}
	}
	return roots, v.cachedLayers(g), nil
}

// cachedLayers are those of the build cache's entries without those of g.
func (v *inventory) cachedLayers(g *gone) map[oci.DiffID]bool {
	cached := map[oci.DiffID]bool{}
	for _, entry := range v.entries {
		if g.entries[entry.Key] {
			continue
		}
		for _, l := range build.ResultLayers(entry.Result) {
			cached[l] = true
		}
	}
	return cached
}

// containerLayers are those of a container's image and of the images that are mounted in it.
func containerLayers(rec container.Record) []oci.DiffID {
	all := rec.Layers
	for _, m := range rec.Host.Images {
		all = append(all[:len(all):len(all)], m.Layers...)
	}
	return all
}

// garbage is what nothing needs when g is gone. A layer that was not flushed before the machine went down stays for images and
// containers only: a check may yet find that all of it is there.
func (v *inventory) garbage(g *gone) (layers []layer.Meta, blobs []content.Info, err error) {
	roots, cached, err := v.roots(g)
	if err != nil {
		return nil, nil, err
	}
	for _, m := range v.layers {
		if roots[image.LayerName(m.DiffID)] {
			continue
		}
		if cached[m.DiffID] {
			if _, err := v.e.layers.Stat(m.DiffID); !errors.Is(err, errdef.ErrNotFound) {
				continue
			}
		}
		layers = append(layers, m)
	}
	for _, b := range v.blobs {
		if !roots[image.BlobName(b.Digest)] {
			blobs = append(blobs, b)
		}
	}
	return layers, blobs, nil
}

// frees is how many bytes of the disk a prune frees that takes g away and sweeps.
func (v *inventory) frees(g *gone) (int64, error) {
	layers, blobs, err := v.garbage(g)
	if err != nil {
		return 0, err
	}
	total := g.bytes
	for _, m := range layers {
		n, err := v.size(m)
		if err != nil {
			return 0, err
		}
		total += n
	}
	for _, b := range blobs {
		total += b.Disk
	}
	return total, nil
}

// owned are the layers that images and containers have, those of g not counted.
func (v *inventory) owned(g *gone) map[oci.DiffID]bool {
	owned := map[oci.DiffID]bool{}
	for _, img := range v.images.Images {
		if g.images[img.ID] {
			continue
		}
		for _, id := range img.DiffIDs() {
			owned[id] = true
		}
	}
	for id, rec := range v.containers {
		if g.containers[id] {
			continue
		}
		for _, l := range containerLayers(rec) {
			owned[l] = true
		}
	}
	return owned
}

// size is what a layer takes on the disk, measured once.
func (v *inventory) size(m layer.Meta) (int64, error) {
	n, ok := v.measured[m.DiffID]
	if ok {
		return n, nil
	}
	n, err := v.e.layers.Usage(m)
	v.measured[m.DiffID] = n
	return n, err
}

// sizes is what each layer takes on the disk.
func (v *inventory) sizes() (map[oci.DiffID]int64, error) {
	if len(v.measured) == len(v.layers) {
		return v.measured, nil
	}
	all := make([]int64, len(v.layers))
	err := parallel.Each(len(v.layers), func(i int) (err error) {
		all[i], err = v.e.layers.Usage(v.layers[i])
		return err
	})
	for i, m := range v.layers {
		v.measured[m.DiffID] = all[i]
	}
	return v.measured, err
}

// named is what each layer and each blob takes on the disk, by the names of the sweep.
func (v *inventory) named() (map[string]int64, error) {
	layers, err := v.sizes()
	if err != nil {
		return nil, err
	}
	sizes := make(map[string]int64, len(layers)+len(v.blobs))
	for id, n := range layers {
		sizes[image.LayerName(id)] = n
	}
	for _, b := range v.blobs {
		sizes[image.BlobName(b.Digest)] = b.Disk
	}
	return sizes, nil
}
