package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"strata/internal/layer"
	"strata/internal/mount"
	"strata/internal/oci"
)

// shared is a directory in which processes tell each other which layers they have mounted: for each layer a link to a descriptor in /proc. Whoever
// wants the layer clones that mount instead of making another, so that containers of one image have the pages of its files in memory once.
// A link whose process has ended leads nowhere, and the next process that mounts the layer replaces it. "" shares nothing.
type shared string

// slot is where the mount of a layer is told of. Its name holds for these very files: the layer may be repaired, or be in another store. As long as a
// mount of them is there their inodes are not given to others.
func (s shared) slot(place layer.Place) (string, error) {
	if s == "" {
		return "", nil
	}
	image, err := os.Stat(place.Image)
	if err != nil {
		return "", err
	}
	tar, err := os.Stat(place.Tar)
	if err != nil {
		return "", err
	}
	i, t := image.Sys().(*syscall.Stat_t), tar.Sys().(*syscall.Stat_t)
	return filepath.Join(string(s), fmt.Sprintf("%x-%x-%x", i.Dev, i.Ino, t.Ino)), nil
}

// mount gives a mount of the layer's image: a clone of another process's, or one of its own.
func (s shared) mount(id oci.DiffID, place layer.Place) (*os.File, error) {
	slot, err := s.slot(place)
	if err != nil {
		return nil, err
	}
	if m := s.clone(slot, id); m != nil {
		return m, nil
	}
	m, err := mount.Erofs(place.Image, place.Tar)
	if err == nil {
		s.offer(slot, m)
	}
	return m, err
}

// clone gives nil where there is none to be cloned, for whatever reason. A process's number may have been given to another by now, so what is
// found has to be the layer's image by the name it has.
func (s shared) clone(slot string, id oci.DiffID) *os.File {
	if slot == "" {
		return nil
	}
	m, err := mount.Clone(slot)
	if err != nil {
		return nil
	}
	name, err := mount.FileSystemID(m)
	if err != nil || name != layer.ImageID(id) {
		m.Close()
		return nil
	}
	return m
}

// offer tells of a mount. Without that the next process makes one of its own.
func (s shared) offer(slot string, m *os.File) {
	if slot == "" {
		return
	}
	place := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), m.Fd())
	err := os.Symlink(place, slot)
	switch {
	case errors.Is(err, fs.ErrExist): // of a process that has ended
		err = os.Remove(slot)
	case errors.Is(err, fs.ErrNotExist):
		err = os.MkdirAll(string(s), 0o700)
	default:
		return
	}
	if err == nil {
		_ = os.Symlink(place, slot)
	}
}

// tidy removes the links that lead nowhere.
func (s shared) tidy() error {
	links, err := os.ReadDir(string(s))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, l := range links {
		name := filepath.Join(string(s), l.Name())
		place, err := os.Readlink(name)
		if err == nil {
			_, err = os.Readlink(place) // never opened: it may be anything by now
		}
		if !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := os.Remove(name); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
