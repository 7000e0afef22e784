package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"strata/internal/disk"
	"strata/internal/errdef"
)

// VolumeUsage is one volume of the store.
type VolumeUsage struct {
	Name string
	// Size is what it takes on the disk, in bytes.
	Size int64
	// Used says that a container has it, Links how many do.
	Used  bool
	Links int
	// Anonymous says that it was made for a container, and has no name that a person gave.
	Anonymous bool
	Created   time.Time
	VolumeOptions
}

// youngVolume is how long an anonymous volume counts as used though no record names it, where the directory of its container is
// there: that one is just being made, or was left half made.
const youngVolume = time.Minute

// VolumePath is the directory with a volume's data.
func (s *Store) VolumePath(name string) string { return filepath.Join(s.volumeDir(name), "_data") }

// volumeUsers lists the containers of each volume by id.
func (s *Store) volumeUsers() (map[string][]string, error) {
	records, err := s.records.All()
	users := map[string][]string{}
	for _, rec := range records {
		for _, v := range rec.Volumes {
			users[v.Name] = append(users[v.Name], rec.ID)
		}
	}
	return users, err
}

// Volumes lists the store's volumes by name.
func (s *Store) Volumes(ctx context.Context) ([]VolumeUsage, error) {
	all, err := s.volumes(ctx, nil)
	if err != nil {
		return nil, err
	}
	return all, s.measure(all)
}

// measure fills in what volumes take.
func (s *Store) measure(volumes []VolumeUsage) (err error) {
	for i, v := range volumes {
		if volumes[i].Size, err = disk.Usage(s.volumeDir(v.Name)); err != nil {
			return err
		}
	}
	return nil
}

// ListVolumes is [Store.Volumes] without their sizes, which take time.
func (s *Store) ListVolumes(ctx context.Context) ([]VolumeUsage, error) { return s.volumes(ctx, nil) }

// forNewContainer reports whether the volume's container may be about to name it.
func (s *Store) forNewContainer(v volumeRecord) bool {
	if !v.Anonymous || v.Container == "" || time.Since(v.Created) >= youngVolume {
		return false
	}
	_, err := os.Lstat(s.Dir(v.Container))
	return err == nil
}

// volumes lists them without their sizes; containers that gone names do not count as their users.
func (s *Store) volumes(ctx context.Context, gone map[string]bool) ([]VolumeUsage, error) {
	entries, err := os.ReadDir(s.volumesDir())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	users, err := s.volumeUsers()
	if err != nil {
		return nil, err
	}
	var all []VolumeUsage
	for _, e := range entries {
		v, err := s.getVolume(e.Name())
		if errors.Is(err, errdef.ErrNotFound) || !e.IsDir() {
			continue // being made, or half removed
		}
		if err != nil {
			return nil, err
		}
		links := len(slices.DeleteFunc(users[v.Name], func(id string) bool { return gone[id] }))
		all = append(all, VolumeUsage{
			Name: v.Name, Used: links > 0 || !gone[v.Container] && s.forNewContainer(v), Links: links,
			Anonymous: v.Anonymous, Created: v.Created, VolumeOptions: v.VolumeOptions,
		})
	}
	return all, ctx.Err()
}

// Volume is one volume by its name.
func (s *Store) Volume(ctx context.Context, name string) (VolumeUsage, error) {
	all, err := s.volumes(ctx, nil)
	if err != nil {
		return VolumeUsage{}, err
	}
	for _, v := range all {
		if v.Name == name {
			return v, nil
		}
	}
	return VolumeUsage{}, &noSuchVolume{name}
}

// CreateVolume makes a volume, an anonymous one without a name, and gives its name. One that is there already stays as it is,
// if it was made with the same options.
func (s *Store) CreateVolume(ctx context.Context, name string, o VolumeOptions) (string, error) {
	if name != "" {
		if err := ValidVolume(name); err != nil {
			return "", err
		}
	}
	err := s.withVolumes(ctx, func() error {
		old, err := s.getVolume(name)
		switch {
		case name == "":
			v := Volume{New: o}
			err = s.have(&v, "")
			name = v.Name
			return err
		case errors.Is(err, errdef.ErrNotFound):
			return s.makeVolume(volumeRecord{Name: name, Created: time.Now().UTC(), VolumeOptions: o})
		case err == nil && fmt.Sprint(old.Options) != fmt.Sprint(o.Options):
			return fmt.Errorf("a volume named %s exists, and was made with other options: %w", name, errdef.ErrConflict)
		}
		return err
	})
	return name, err
}

// UnusedVolumes lists the anonymous volumes that no container has, with all those with names too. keep, if not nil, spares some;
// containers that gone names do not count.
func (s *Store) UnusedVolumes(ctx context.Context, all bool, keep func(VolumeUsage) bool, gone map[string]bool) ([]VolumeUsage, error) {
	volumes, err := s.idleVolumes(ctx, all, keep, gone)
	if err != nil {
		return nil, err
	}
	return volumes, s.measure(volumes)
}

// idleVolumes is UnusedVolumes without what they take.
func (s *Store) idleVolumes(ctx context.Context, all bool, keep func(VolumeUsage) bool, gone map[string]bool) ([]VolumeUsage, error) {
	volumes, err := s.volumes(ctx, gone)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(volumes, func(v VolumeUsage) bool { return v.Used || !v.Anonymous && !all || keep != nil && keep(v) }), nil
}
