package engine

import (
	"context"

	"strata/internal/build"
	"strata/internal/container"
	"strata/internal/graph"
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

// DiskUsage measures the store.
func (e *Engine) DiskUsage(ctx context.Context) ([]Usage, []ImageUsage, error) {
	sizes := map[oci.DiffID]int64{}
	err := e.layers.Walk(func(m layer.Meta) error { sizes[m.DiffID] = m.Disk; return nil })
	if err != nil {
		return nil, nil, err
	}
	images, err := e.images.List(ctx)
	if err != nil {
		return nil, nil, err
	}
	s, err := e.Containers()
	if err != nil {
		return nil, nil, err
	}
	containers, err := s.List(ctx)
	if err != nil {
		return nil, nil, err
	}
	imgs, each, owned := imageUsage(images, containers, sizes)
	ctrs, err := containerUsage(s, containers)
	if err != nil {
		return nil, nil, err
	}
	vols, err := volumeUsage(ctx, s)
	if err != nil {
		return nil, nil, err
	}
	cache, err := e.cacheUsage(sizes, owned)
	return []Usage{imgs, ctrs, vols, cache}, each, err
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

func containerUsage(s *container.Store, all []container.Record) (Usage, error) {
	u := Usage{Type: "Containers", Total: len(all)}
	for _, rec := range all {
		size, err := s.DiskUsage(rec)
		if err != nil {
			return u, err
		}
		u.Size += size
		if rec.State.Alive() {
			u.Active++
		} else {
			u.Reclaimable += size
		}
	}
	return u, nil
}

func (e *Engine) cacheUsage(sizes map[oci.DiffID]int64, owned map[oci.DiffID]bool) (Usage, error) {
	u := Usage{Type: "Build Cache"}
	cache, err := e.cache()
	if err != nil {
		return u, err
	}
	counted := map[oci.DiffID]bool{}
	err = cache.Walk(func(entry graph.Entry) error {
		u.Total++
		active := false
		for _, id := range build.ResultLayers(entry.Result) {
			active = active || owned[id]
			if !owned[id] && !counted[id] {
				counted[id] = true
				u.Size += sizes[id]
			}
		}
		if active {
			u.Active++
		}
		return nil
	})
	u.Reclaimable = u.Size
	return u, err
}

func volumeUsage(ctx context.Context, s *container.Store) (Usage, error) {
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
	return u, err
}
