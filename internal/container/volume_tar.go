package container

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"strata/internal/errdef"
	"strata/internal/layer"
	"strata/internal/mount"
)

// withVolumeData runs fn on the open directory with a volume's data, whatever that is mounted from.
func (s *Store) withVolumeData(name string, fn func(data *os.File) error) error {
	v, err := s.getVolume(name)
	if err != nil {
		return err
	}
	if len(v.Options) == 0 {
		return openData(s.VolumePath(name), fn)
	}
	dir, err := os.MkdirTemp(s.opt.Place.Run, "volume-")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	return mount.Private(func() error {
		if err := mountVolume(v, dir); err != nil {
			return err
		}
		return openData(dir, fn)
	})
}

func openData(dir string, fn func(data *os.File) error) error {
	data, err := openPath(dir)
	if err != nil {
		return err
	}
	defer data.Close()
	return fn(data)
}

// ExportVolume writes what the volume has as a tar.
func (s *Store) ExportVolume(ctx context.Context, name string, w io.Writer) error {
	return s.withVolumeData(name, func(data *os.File) error {
		if err := layer.WriteResource(ctx, w, data, ".", "."); err != nil {
			return fmt.Errorf("volume %s: %w", name, err)
		}
		return nil
	})
}

// ImportVolume unpacks a tar, compressed or not, into a volume that is empty, or is not there and is made. Entries keep their
// owners.
func (s *Store) ImportVolume(ctx context.Context, name string, r io.Reader) error {
	if v, err := s.getVolume(name); err != nil {
		if _, err := s.CreateVolume(ctx, name, VolumeOptions{}); err != nil {
			return err
		}
	} else if entries, err := os.ReadDir(s.VolumePath(name)); err != nil || len(entries) > 0 && len(v.Options) == 0 {
		if err != nil {
			return err
		}
		return errdef.WithHint(fmt.Errorf("volume %s is not empty: %w", name, errdef.ErrConflict), "give it another name, or remove it first: strata volume rm "+name)
	}
	plain, _, err := layer.Decompress(interruptible(ctx, r))
	if err != nil {
		return fmt.Errorf("volume %s: archive: %w", name, err)
	}
	defer plain.Close()
	return s.withVolumeData(name, func(data *os.File) error {
		root, err := os.Open(fmt.Sprintf("/proc/thread-self/fd/%d", data.Fd()))
		if err != nil {
			return err
		}
		defer root.Close()
		_, err = layer.CopyTree(ctx, plain, root, ".", layer.CopyOptions{Shown: filepath.Join("/", name), IgnoreOwner: s.opt.SingleID})
		return err
	})
}
