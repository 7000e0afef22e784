package container

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"strata/internal/errdef"
)

// VolumeUsage is one volume of the store.
type VolumeUsage struct {
	Name string
	// Size of its data in bytes.
	Size int64
	// Used says that a container has it, Links how many do.
	Used  bool
	Links int
	// Anonymous says that it was made for a container, and has no name that a person gave.
	Anonymous bool
}

// youngVolume is how long a volume counts as used though no record names it: its container is just being made.
const youngVolume = time.Minute

// VolumePath is the directory with a volume's data.
func (s *Store) VolumePath(name string) string { return filepath.Join(s.volumeDir(name), "_data") }

// Volumes lists the store's volumes.
func (s *Store) Volumes(ctx context.Context) ([]VolumeUsage, error) {
	entries, err := os.ReadDir(filepath.Join(s.opt.Place.Root, "volumes"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	records, err := s.records.All()
	if err != nil {
		return nil, err
	}
	links := map[string]int{}
	for _, rec := range records {
		for _, v := range rec.Volumes {
			links[v.Name]++
		}
	}
	var all []VolumeUsage
	for _, e := range entries {
		v, err := s.getVolume(e.Name())
		if errors.Is(err, errdef.ErrNotFound) {
			continue // being made, or half removed
		}
		if err != nil {
			return nil, err
		}
		size, err := treeSize(s.VolumePath(v.Name))
		if err != nil {
			return nil, err
		}
		all = append(all, VolumeUsage{
			Name: v.Name, Size: size, Used: links[v.Name] > 0 || time.Since(v.Created) < youngVolume, Links: links[v.Name], Anonymous: v.Anonymous,
		})
	}
	return all, ctx.Err()
}

// RemoveUnusedVolumes removes the volumes that no container has, and gives their names and the bytes freed.
func (s *Store) RemoveUnusedVolumes(ctx context.Context) (removed []string, freed int64, err error) {
	all, err := s.Volumes(ctx)
	if err != nil {
		return nil, 0, err
	}
	for _, v := range all {
		if v.Used {
			continue
		}
		if err := s.removeVolume(v.Name); err != nil {
			return removed, freed, err
		}
		removed, freed = append(removed, v.Name), freed+v.Size
	}
	return removed, freed, nil
}
