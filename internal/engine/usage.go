package engine

import (
	"context"
	"slices"
	"time"

	"strata/internal/container"
	"strata/internal/image"
	"strata/internal/layer"
	"strata/internal/oci"
)

// Usage is the space that one kind of thing takes, in bytes of file content.
type Usage struct {
	// Type in docker's words: "Images", "Containers", "Local Volumes", "Build Cache".
	Type string
	// Total and Active count things; active ones are in use.
	Total, Active int
	// Size counts each shared byte once; Reclaimable is what a prune of the kind would free.
	Size, Reclaimable int64
}

// ImageUsage is one image's part in the store.
type ImageUsage struct {
	Image image.Image
	// Shared bytes are in layers that other images have too; Unique ones go with the image.
	Shared, Unique int64
	Containers     int
}

// ContainerUsage is what one container wrote, in bytes.
type ContainerUsage struct {
	Record container.Record
	Size   int64
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
	Containers []ContainerUsage
	Volumes    []container.VolumeUsage
	Cache      []CacheUsage
}

// DiskUsage measures the store.
func (e *Engine) DiskUsage(ctx context.Context) (DiskUsage, error) {
	var u DiskUsage
	sizes := map[oci.DiffID]int64{}
	err := e.layers.Walk(func(m layer.Meta) error { sizes[m.DiffID] = m.Disk; return nil })
	if err != nil {
		return u, err
	}
	images, err := e.images.List(ctx)
	if err != nil {
		return u, err
	}
	s, err := e.Containers()
	if err != nil {
		return u, err
	}
	containers, err := s.List(ctx)
	if err != nil {
		return u, err
	}
	var imgs, ctrs, vols, cache Usage
	var owned map[oci.DiffID]bool
	imgs, u.Images, owned = imageUsage(images, containers, sizes)
	if ctrs, u.Containers, err = containerUsage(s, containers); err != nil {
		return u, err
	}
	if vols, u.Volumes, err = volumeUsage(ctx, s); err != nil {
		return u, err
	}
	cache, u.Cache, err = e.cacheUsage(sizes, owned)
	u.Kinds = []Usage{imgs, ctrs, vols, cache}
	return u, err
}

// imageUsage also gives the layers that images or containers have: the build cache does not keep these alone.
func imageUsage(images []image.Image, containers []container.Record, sizes map[oci.DiffID]int64) (Usage, []ImageUsage, map[oci.DiffID]bool) {
	u := Usage{Type: "Images", Total: len(images)}
	owners, used, active := map[oci.DiffID]int{}, map[oci.DiffID]bool{}, map[string]int{}
	for _, c := range containers {
		active[c.Image.String()]++
		for _, id := range c.Layers {
			used[id] = true
		}
	}
	for _, img := range images {
		for id := range distinct(img.DiffIDs()) {
			owners[id]++
		}
	}
	var each []ImageUsage
	for _, img := range images {
		one := ImageUsage{Image: img, Containers: active[img.ID.String()]}
		for id := range distinct(img.DiffIDs()) {
			if owners[id] > 1 {
				one.Shared += sizes[id]
			} else {
				one.Unique += sizes[id]
			}
		}
		if one.Containers > 0 {
			u.Active++
		}
		each = append(each, one)
	}
	owned := map[oci.DiffID]bool{}
	for id := range owners {
		owned[id] = true
		u.Size += sizes[id]
		if !used[id] {
			u.Reclaimable += sizes[id]
		}
	}
	for id := range used {
		owned[id] = true
	}
	return u, each, owned
}

func distinct(ids []oci.DiffID) map[oci.DiffID]bool {
	set := make(map[oci.DiffID]bool, len(ids))
	for _, id := range ids {
		set[id] = true
	}
	return set
}

func containerUsage(s *container.Store, all []container.Record) (Usage, []ContainerUsage, error) {
	u := Usage{Type: "Containers", Total: len(all)}
	var each []ContainerUsage
	for _, rec := range all {
		size, err := s.DiskUsage(rec)
		if err != nil {
			return u, nil, err
		}
		each = append(each, ContainerUsage{rec, size})
		u.Size += size
		if rec.State.Alive() {
			u.Active++
		} else {
			u.Reclaimable += size
		}
	}
	return u, each, nil
}

func (e *Engine) cacheUsage(sizes map[oci.DiffID]int64, owned map[oci.DiffID]bool) (Usage, []CacheUsage, error) {
	u := Usage{Type: "Build Cache"}
	items, err := e.cacheItems(owned)
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
	u.Reclaimable = u.Size
	slices.SortFunc(each, func(a, b CacheUsage) int { return a.Created.Compare(b.Created) })
	return u, each, nil
}

func volumeUsage(ctx context.Context, s *container.Store) (Usage, []container.VolumeUsage, error) {
	u := Usage{Type: "Local Volumes"}
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
