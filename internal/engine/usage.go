package engine

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"strata/internal/container"
	"strata/internal/image"
	"strata/internal/oci"
)

// Usage is the space that one kind of thing takes on the disk, in bytes of whole blocks.
type Usage struct {
	// Type in docker's words: "Images", "Containers", "Local Volumes", "Build Cache".
	Type string
	// Total and Active count things; active ones are in use.
	Total, Active int
	// Size counts each shared byte once; Reclaimable is what a prune of all of the kind would free now.
	Size, Reclaimable int64
}

// ImageUsage is one image's part in the store: its layers, documents, and compressed layers that are kept.
type ImageUsage struct {
	Image image.Image
	// Shared bytes are those that other images have too; Unique ones no other has.
	Shared, Unique int64
	Containers     int
}

// LayerUsage is one layer, whoever needs it.
type LayerUsage struct {
	ID oci.DiffID
	// Form is "tar" or "dir".
	Form string
	// Size on the disk; Blobs is what its compressed forms take beside that.
	Size, Blobs int64
	// Images and Containers count those that have it; Cached says that the build cache has it.
	Images, Containers int
	Cached             bool
}

// ContainerUsage is what one container takes: Size in all, Log of that for what it said.
type ContainerUsage struct {
	Record    container.Record
	Size, Log int64
}

// CacheUsage is one entry of the build cache.
type CacheUsage struct {
	// ID of the entry: its key, or of a mount's directory its path in the store.
	ID string
	// Type is docker's: "regular" for what a step made, "exec.cachemount" for a directory of RUN --mount=type=cache.
	Type string
	// Description is the step, or the id of the mount.
	Description       string
	Size              int64
	Created, LastUsed time.Time
	// Shared says that an image or a container has the layer that it made.
	Shared bool
}

// DiskUsage is what the store takes: in sum by kind, and each thing.
type DiskUsage struct {
	Kinds      []Usage
	Images     []ImageUsage
	Layers     []LayerUsage
	Containers []ContainerUsage
	Volumes    []container.VolumeUsage
	Cache      []CacheUsage
}

// DiskUsage measures the store.
func (e *Engine) DiskUsage(ctx context.Context) (DiskUsage, error) {
	var u DiskUsage
	have, err := e.inventory(ctx)
	if err != nil {
		return u, err
	}
	sizes, err := have.sizes()
	if err != nil {
		return u, err
	}
	u.Layers = have.layerUsage(sizes)
	garbage, err := have.frees(newGone())
	if err != nil {
		return u, err
	}
	var imgs, ctrs, vols, cache Usage
	if imgs, u.Images, err = have.imageUsage(ctx, garbage); err != nil {
		return u, err
	}
	if ctrs, u.Containers, err = e.containerUsage(ctx); err != nil {
		return u, err
	}
	if vols, u.Volumes, err = e.volumeUsage(ctx); err != nil {
		return u, err
	}
	if cache, u.Cache, err = have.cacheUsage(sizes); err != nil {
		return u, err
	}
	if cache.Reclaimable, err = have.reclaimableCache(garbage); err != nil {
		return u, err
	}
	u.Kinds = []Usage{imgs, ctrs, vols, cache}
	return u, nil
}

// imageUsage counts with the images what nothing needs, which a prune of them takes along.
func (v *inventory) imageUsage(ctx context.Context, garbage int64) (Usage, []ImageUsage, error) {
	u := Usage{Type: "Images", Total: len(v.images.Images)}
	sizes, err := v.named()
	if err != nil {
		return u, nil, err
	}
	reach, owners := make([][]string, u.Total), make(map[string]int, len(sizes))
	for i, img := range v.images.Images {
		if reach[i], err = v.images.Reach(img); err != nil {
			return u, nil, err
		}
		for _, name := range reach[i] {
			owners[name]++
		}
	}
	users := map[digest.Digest]int{}
	for _, rec := range v.containers {
		users[rec.Image]++
	}
	each := make([]ImageUsage, u.Total)
	for i, img := range v.images.Images {
		one := ImageUsage{Image: img, Containers: users[img.ID]}
		for _, name := range reach[i] {
			if owners[name] > 1 {
				one.Shared += sizes[name]
			} else {
				one.Unique += sizes[name]
			}
		}
		if one.Containers > 0 {
			u.Active++
		}
		each[i] = one
	}
	for name := range owners {
		u.Size += sizes[name]
	}
	g := newGone()
	if _, err := v.e.doomImages(ctx, v, ImagePrune{All: true}, g); err != nil {
		return u, nil, err
	}
	u.Size += garbage + g.bytes // which is what is left of pulls
	u.Reclaimable, err = v.frees(g)
	return u, each, err
}

// layerUsage lists the layers, the largest first.
func (v *inventory) layerUsage(sizes map[oci.DiffID]int64) []LayerUsage {
	blobs := map[digest.Digest]int64{}
	for _, b := range v.blobs {
		blobs[b.Digest] = b.Disk
	}
	all, at := make([]LayerUsage, len(v.layers)), map[oci.DiffID]*LayerUsage{}
	for i, m := range v.layers {
		all[i] = LayerUsage{ID: m.DiffID, Form: m.Form, Size: sizes[m.DiffID]}
		for _, b := range m.Blobs {
			all[i].Blobs += blobs[b.Digest]
		}
		at[m.DiffID] = &all[i]
	}
	count := func(ids []oci.DiffID, note func(*LayerUsage)) {
		for id := range distinct(ids) {
			if l := at[id]; l != nil {
				note(l)
			}
		}
	}
	for _, img := range v.images.Images {
		count(img.DiffIDs(), func(l *LayerUsage) { l.Images++ })
	}
	for _, rec := range v.containers {
		count(containerLayers(rec), func(l *LayerUsage) { l.Containers++ })
	}
	for id := range v.cachedLayers(newGone()) {
		if l := at[id]; l != nil {
			l.Cached = true
		}
	}
	slices.SortFunc(all, func(a, b LayerUsage) int { return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(a.ID, b.ID)) })
	return all
}

func distinct(ids []oci.DiffID) map[oci.DiffID]bool {
	set := make(map[oci.DiffID]bool, len(ids))
	for _, id := range ids {
		set[id] = true
	}
	return set
}

func (e *Engine) containerUsage(ctx context.Context) (Usage, []ContainerUsage, error) {
	u := Usage{Type: "Containers"}
	s, err := e.Containers()
	if err != nil {
		return u, nil, err
	}
	all, err := s.List(ctx)
	if err != nil {
		return u, nil, err
	}
	var each []ContainerUsage
	for _, rec := range all {
		one := ContainerUsage{Record: rec}
		if one.Size, err = s.DiskUsage(rec); err != nil {
			return u, nil, err
		}
		if one.Log, err = s.LogUsage(rec); err != nil {
			return u, nil, err
		}
		each = append(each, one)
		u.Total++
		u.Size += one.Size
		if rec.State.Alive() {
			u.Active++
		}
	}
	g := newGone()
	_, err = e.doomContainers(ctx, ContainerPrune{}, g)
	u.Reclaimable = g.bytes
	return u, each, err
}

func (v *inventory) cacheUsage(sizes map[oci.DiffID]int64) (Usage, []CacheUsage, error) {
	u := Usage{Type: "Build Cache"}
	owned := v.owned(newGone())
	items, err := v.cacheItems(owned)
	if err != nil {
		return u, nil, err
	}
	counted := map[oci.DiffID]bool{}
	var each []CacheUsage
	for _, it := range items {
		u.Total++
		each = append(each, it.CacheUsage)
		if it.trash != nil {
			u.Size += it.Size
			continue
		}
		active := false
		for _, id := range it.layers {
			active = active || owned[id]
			if !owned[id] && !counted[id] {
				counted[id] = true
				u.Size += sizes[id]
			}
		}
		if active {
			u.Active++
		}
	}
	slices.SortFunc(each, func(a, b CacheUsage) int { return a.Created.Compare(b.Created) })
	return u, each, nil
}

// reclaimableCache is what a prune of all of the build cache frees, without the garbage that it takes along.
func (v *inventory) reclaimableCache(garbage int64) (int64, error) {
	g := newGone()
	if _, err := v.e.doomCache(v, CachePrune{All: true}, g); err != nil {
		return 0, err
	}
	if len(g.entries) == 0 {
		return g.bytes, nil
	}
	all, err := v.frees(g)
	return all - garbage, err
}

func (e *Engine) volumeUsage(ctx context.Context) (Usage, []container.VolumeUsage, error) {
	u := Usage{Type: "Local Volumes"}
	s, err := e.Containers()
	if err != nil {
		return u, nil, err
	}
	all, err := s.Volumes(ctx)
	for _, v := range all {
		u.Total++
		u.Size += v.Size
		if v.Used {
			u.Active++
		} else {
			u.Reclaimable += v.Size
		}
	}
	return u, all, err
}
