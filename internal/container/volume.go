package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/atomicfile"
	"strata/internal/errdef"
	"strata/internal/rootfs"
)

// volumeRecord stands beside a volume's data as volume.json.
type volumeRecord struct {
	Name      string
	Anonymous bool
	Container string // the one it was made for
	Created   time.Time
	// Filled says that the image's content at the mount point has been copied in: done once, at first use.
	Filled bool
}

func (s *Store) volumeDir(name string) string {
	return filepath.Join(s.opt.Place.Root, "volumes", name)
}

// newVolume makes an empty anonymous volume and returns its name.
func (s *Store) newVolume(container string) (string, error) {
	v := volumeRecord{Name: newID(), Anonymous: true, Container: container, Created: time.Now().UTC()}
	if err := os.MkdirAll(filepath.Join(s.volumeDir(v.Name), "_data"), 0o755); err != nil {
		return "", fmt.Errorf("volume: %w", err)
	}
	if err := s.putVolume(v); err != nil {
		return v.Name, err
	}
	s.emitVolume("create", v.Name)
	return v.Name, nil
}

func (s *Store) putVolume(v volumeRecord) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(s.volumeDir(v.Name), "volume.json"), append(raw, '\n'), 0o600)
}

func (s *Store) getVolume(name string) (volumeRecord, error) {
	var v volumeRecord
	raw, err := os.ReadFile(filepath.Join(s.volumeDir(name), "volume.json"))
	if errors.Is(err, os.ErrNotExist) {
		return v, fmt.Errorf("volume %q: %w", name, errdef.ErrNotFound)
	}
	if err == nil {
		err = json.Unmarshal(raw, &v)
	}
	if err != nil {
		return v, fmt.Errorf("volume %q: record: %w", name, err)
	}
	return v, nil
}

func (s *Store) removeVolume(name string) error {
	if !validID(name) {
		return fmt.Errorf("volume %q: %w", name, errdef.ErrInvalid)
	}
	if err := os.RemoveAll(s.volumeDir(name)); err != nil {
		return err
	}
	s.emitVolume("destroy", name)
	return nil
}

// fill copies what the image has at the volume's mount point into a volume that is used for the first time, and gives the
// volume that directory's owner and mode. It returns the volume's data directory.
func (s *Store) fill(root *rootfs.Root, vol Volume) (string, error) {
	v, err := s.getVolume(vol.Name)
	if err != nil {
		return "", err
	}
	data := filepath.Join(s.volumeDir(vol.Name), "_data")
	if v.Filled {
		return data, nil
	}
	if err := s.copyUp(root, vol.Destination, data); err != nil {
		return "", fmt.Errorf("volume at %s: %w", vol.Destination, err)
	}
	v.Filled = true
	return data, s.putVolume(v)
}

func (s *Store) copyUp(root *rootfs.Root, from, data string) error {
	src, err := root.Open(from, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, errdef.ErrNotFound) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer src.Close()
	// A copy that was cut short is begun anew: nobody has used the volume yet.
	if err := os.RemoveAll(data); err != nil {
		return err
	}
	if err := os.Mkdir(data, 0o755); err != nil {
		return err
	}
	return rootfs.CopyTree(src, data, rootfs.CopyOptions{IgnoreOwner: s.opt.SingleID, SkipOverlay: true})
}
