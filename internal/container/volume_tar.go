package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"strata/internal/atomicfile"
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
		if err := layer.WriteResource(ctx, w, data, ".", ".", layer.Shift{}); err != nil {
			return fmt.Errorf("volume %s: %w", name, err)
		}
		return nil
	})
}

// ImportVolume unpacks a tar, compressed or not, into a volume that is empty, or is not there and is made. Entries keep their
// owners. When that fails the volume is as it was.
func (s *Store) ImportVolume(ctx context.Context, name string, r io.Reader) error {
	plain, _, err := layer.Decompress(interruptible(ctx, r))
	if err != nil {
		return fmt.Errorf("volume %s: archive: %w", name, err)
	}
	defer plain.Close()
	_, err = s.getVolume(name)
	made := errors.Is(err, errdef.ErrNotFound)
	if made {
		_, err = s.CreateVolume(ctx, name, VolumeOptions{})
	}
	if err != nil {
		return err
	}
	if err = s.importInto(ctx, name, plain); err != nil && made {
		err = errors.Join(err, s.RemoveVolume(context.WithoutCancel(ctx), name))
	}
	return err
}

func (s *Store) importInto(ctx context.Context, name string, plain io.Reader) error {
	l, err := atomicfile.TryExclusive(s.contentLock(name))
	if errors.Is(err, errdef.ErrConflict) {
		return fmt.Errorf("volume %s: another import is at work on it, or a container that is just made: %w", name, errdef.ErrConflict)
	}
	if err != nil {
		return err
	}
	defer l.Unlock()
	v, err := s.getVolume(name)
	if err != nil {
		return err
	}
	users, err := s.volumeUsers()
	if err != nil {
		return err
	}
	if len(v.Options) == 0 && len(users[name]) == 0 {
		return s.importAside(ctx, name, plain)
	}
	// What others may have mounted, or is a mount itself, cannot be exchanged.
	return s.withVolumeData(name, func(data *os.File) error {
		dir := fmt.Sprintf("/proc/thread-self/fd/%d", data.Fd())
		if err := vacant(name, dir); err != nil {
			return err
		}
		err := s.unpackVolume(ctx, name, plain, dir)
		if err != nil {
			err = errors.Join(err, removeInside(dir))
		}
		return err
	})
}

// importAside unpacks beside the volume's data, which is then exchanged whole.
func (s *Store) importAside(ctx context.Context, name string, plain io.Reader) error {
	if err := vacant(name, s.VolumePath(name)); err != nil {
		return err
	}
	beside := filepath.Join(s.volumeDir(name), "_import")
	if err := os.RemoveAll(beside); err != nil { // of an import that was killed
		return err
	}
	if err := makeShown(beside); err != nil {
		return err
	}
	err := s.unpackVolume(ctx, name, plain, beside)
	if err == nil {
		err = s.withVolumes(ctx, func() error {
			if users, err := s.volumeUsers(); err != nil || len(users[name]) > 0 {
				return errors.Join(err, fmt.Errorf("volume %s: a container came to use it meanwhile: %w", name, errdef.ErrConflict))
			}
			return unix.Rename(beside, s.VolumePath(name)) // the empty directory is replaced
		})
	}
	if err != nil {
		err = errors.Join(err, os.RemoveAll(beside))
	}
	return err
}

func (s *Store) unpackVolume(ctx context.Context, name string, plain io.Reader, dir string) error {
	root, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if _, err = layer.CopyTree(ctx, plain, root, ".", layer.CopyOptions{Shown: filepath.Join("/", name), IgnoreOwner: s.opt.SingleID}); err != nil {
		return fmt.Errorf("volume %s: archive: %w", name, err)
	}
	return nil
}

// vacant refuses a volume whose data, at dir, has something in it.
func vacant(name, dir string) error {
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 {
		err = errdef.WithHint(fmt.Errorf("volume %s is not empty: %w", name, errdef.ErrConflict), "give it another name, or remove it first: strata volume rm "+name)
	}
	return err
}

func removeInside(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}
