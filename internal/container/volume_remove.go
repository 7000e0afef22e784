package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"strata/internal/disk"
	"strata/internal/errdef"
)

// removing runs fn while no volume can come or go. What fn removes is only renamed meanwhile. It is deleted afterwards, which may
// take long, each after before was called with its directory; nil does nothing. If we are killed a sweep deletes it.
func (s *Store) removing(ctx context.Context, before func(dir string) error, fn func(remove func(name string) error) error) error {
	var aside []string
	drop := func(dir string) (err error) {
		if before != nil {
			err = before(dir)
		}
		return errors.Join(err, os.RemoveAll(dir))
	}
	err := s.withVolumes(ctx, func() error {
		return fn(func(name string) error {
			dir, err := s.setAside(name)
			switch {
			case errors.Is(err, unix.EXDEV): // somebody mounted a disk there
				err = drop(s.volumeDir(name))
			case err == nil:
				aside = append(aside, dir)
			}
			if err == nil {
				s.emitVolume("destroy", name)
			}
			return err
		})
	})
	for _, dir := range aside {
		err = errors.Join(err, drop(dir))
	}
	return err
}

// setAside renames a volume into the store's trash.
func (s *Store) setAside(name string) (string, error) {
	if err := ValidVolume(name); err != nil {
		return "", err
	}
	trash := filepath.Join(s.opt.Place.Root, "trash")
	if err := os.MkdirAll(trash, 0o700); err != nil {
		return "", err
	}
	free, err := os.MkdirTemp(trash, "volume-*")
	if err != nil {
		return "", err
	}
	if err := unix.Rename(s.volumeDir(name), free); err != nil { // which os.Rename would not: it replaces the empty directory
		return "", errors.Join(fmt.Errorf("remove volume %s: %w", name, err), os.Remove(free))
	}
	return free, nil
}

// removeAnonymous removes those volumes of a container that were made for it, and that nobody else took over.
func (s *Store) removeAnonymous(ctx context.Context, rec Record) error {
	own := slices.DeleteFunc(slices.Clone(rec.Volumes), func(v Volume) bool { return v.Named })
	if len(own) == 0 {
		return nil
	}
	return s.removing(ctx, nil, func(remove func(name string) error) error {
		users, err := s.volumeUsers()
		if err != nil {
			return err
		}
		for _, v := range own {
			if slices.ContainsFunc(users[v.Name], func(id string) bool { return id != rec.ID }) {
				continue
			}
			if err := ignoreGone(remove(v.Name)); err != nil {
				return err
			}
		}
		return nil
	})
}

func ignoreGone(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// RemoveVolume removes a volume that no container has.
func (s *Store) RemoveVolume(ctx context.Context, name string) error {
	return s.removing(ctx, nil, func(remove func(name string) error) error {
		if _, err := s.getVolume(name); err != nil {
			return err
		}
		users, err := s.volumeUsers()
		if err != nil {
			return err
		}
		if ids := users[name]; len(ids) > 0 {
			slices.Sort(ids)
			return errdef.WithHint(fmt.Errorf("remove %s: volume is in use - [%s]: %w", name, strings.Join(ids, ", "), errdef.ErrConflict),
				"remove what has it first: strata rm "+ShortID(ids[0]))
		}
		return remove(name)
	})
}

// RemoveUnusedVolumes removes what [Store.UnusedVolumes] lists, and gives their names and what they took on the disk.
func (s *Store) RemoveUnusedVolumes(ctx context.Context, all bool, keep func(VolumeUsage) bool) (removed []string, freed int64, err error) {
	measure := func(dir string) error {
		n, err := disk.Usage(dir)
		freed += n
		return err
	}
	err = s.removing(ctx, measure, func(remove func(name string) error) error {
		volumes, err := s.idleVolumes(ctx, all, keep, nil)
		if err != nil {
			return err
		}
		for _, v := range volumes {
			if err := remove(v.Name); err != nil {
				return err
			}
			removed = append(removed, v.Name)
		}
		return nil
	})
	return removed, freed, err
}
