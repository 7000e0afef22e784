package layer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"strata/internal/atomicfile"
	"strata/internal/disk"
	"strata/internal/errdef"
	"strata/internal/oci"
)

// staging is a layer directory that has no name in the store yet.
type staging struct{ path string }

func (s *Store) stage() (*staging, error) {
	parent := s.dir
	if s.opt.TempDir != nil {
		var err error
		if parent, err = s.opt.TempDir(); err != nil {
			return nil, fmt.Errorf("layer: temporary directory: %w", err)
		}
	}
	disk.Spread(parent)
	path, err := os.MkdirTemp(parent, ".tmp-layer-*")
	if err != nil {
		return nil, fmt.Errorf("layer: temporary directory: %w", err)
	}
	return &staging{path}, nil
}

func (g *staging) fs() string { return filepath.Join(g.path, fsName) }

// discard removes what was not published; after publishing it finds nothing.
func (g *staging) discard() {
	if g.path != "" {
		_ = disk.RemoveAll(g.path) // what stays goes with the process's lease
	}
}

// publish gives the staged layer its name. When the store has that layer already, ours is thrown away and the record of
// the one there is returned. A layer that is there but lost (another boot, a torn record) is replaced.
func (s *Store) publish(ctx context.Context, g *staging, m Meta) (Meta, error) {
	if err := s.hold(ctx, m.DiffID); err != nil {
		return Meta{}, err
	}
	if err := g.measure(&m); err != nil {
		return Meta{}, fmt.Errorf("layer %s: %w", m.DiffID, err)
	}
	if err := writeMeta(filepath.Join(g.path, metaName), m, atomicfile.Write); err != nil {
		return Meta{}, fmt.Errorf("layer %s: %w", m.DiffID, err)
	}
	err := os.Rename(g.path, s.path(m.DiffID))
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, fs.ErrExist) {
		return s.settle(ctx, g, m)
	}
	if err != nil {
		return Meta{}, fmt.Errorf("layer %s: %w", m.DiffID, err)
	}
	g.path = ""
	return m, s.published(ctx, m.DiffID)
}

// settle decides, alone among processes, whether the layer that has the name keeps it.
func (s *Store) settle(ctx context.Context, g *staging, m Meta) (Meta, error) {
	err := s.swap(ctx, g, m.DiffID, func() (bool, error) {
		old, err := s.Stat(m.DiffID)
		if err == nil {
			m = old
			return false, nil
		}
		if !errors.Is(err, errdef.ErrNotFound) && !errors.Is(err, errdef.ErrCorrupt) {
			return false, err
		}
		return true, nil
	})
	return m, err
}

// swap puts the staged layer in the place of what has its name, if want says so while no other process does the same, nor writes the record
// of what has the name: it would end up in the new layer. What had the name may be a tree of many files, and is deleted later, as the
// staged layer is discarded.
func (s *Store) swap(ctx context.Context, g *staging, id oci.DiffID, want func() (bool, error)) error {
	for {
		lock, err := atomicfile.LockExclusive(ctx, s.path(id, lockName))
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // that nothing has the name any more
			return fmt.Errorf("layer %s: %w", id, err)
		}
		swapped, err := want()
		if swapped && err == nil {
			err = s.exchange(g, id)
		}
		if lock != nil {
			err = errors.Join(err, lock.Unlock())
		} else if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
			continue // somebody gave it to another layer just now
		}
		if err != nil || !swapped {
			return err
		}
		return s.published(ctx, id)
	}
}

// exchange gives the staged layer its name, and the staging what has it now: at one moment, since who is killed between two would leave
// the store without a layer that it had.
func (s *Store) exchange(g *staging, id oci.DiffID) error {
	err := unix.Renameat2(unix.AT_FDCWD, g.path, unix.AT_FDCWD, s.path(id), unix.RENAME_EXCHANGE)
	switch {
	case errors.Is(err, unix.ENOENT):
		if err = unix.Rename(g.path, s.path(id)); err == nil {
			g.path = ""
		}
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.ENOTSUP):
		err = s.exchangeByTwo(g, id) // on some network file systems
	}
	if err != nil {
		return fmt.Errorf("layer %s: %w", id, err)
	}
	return nil
}

func (s *Store) exchangeByTwo(g *staging, id oci.DiffID) error {
	aside, err := moveAside(s.path(id), filepath.Dir(g.path))
	if err != nil {
		return err
	}
	if err := os.Rename(g.path, s.path(id)); err != nil {
		return errors.Join(err, os.Rename(aside, s.path(id)))
	}
	g.path = aside
	return nil
}

func (s *Store) hold(ctx context.Context, id oci.DiffID) error {
	if s.opt.Hold == nil {
		return nil
	}
	if err := s.opt.Hold(ctx, id); err != nil {
		return fmt.Errorf("layer %s: %w", id, err)
	}
	return nil
}
