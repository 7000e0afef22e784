package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"strata/internal/errdef"
	"strata/internal/rootfs"
)

// SnapshotOptions says how to copy a container's changes.
type SnapshotOptions struct {
	// NoPause leaves a running container running meanwhile.
	NoPause bool
	// TempDir is a directory on the store's file system in which the copy is made.
	TempDir string
}

// Snapshot is a copy of what a container changed in its image's tree.
type Snapshot struct {
	Upper string   // an overlay upper directory, the caller's
	Lower []string // the directories below it, topmost first
	// Sockets in Upper are whiteouts.
	Sockets bool
	// Drop are container paths of mount points that strata made: they are no changes.
	Drop []string
}

// Snapshot copies the container's writable layer, as it lies, so that a layer can be made of it while the container goes on.
func (s *Store) Snapshot(ctx context.Context, rec Record, o SnapshotOptions) (Snapshot, error) {
	snap := Snapshot{Upper: filepath.Join(o.TempDir, "upper-"+ShortID(rec.ID)), Drop: rec.Stubs}
	if err := os.Mkdir(snap.Upper, 0o755); err != nil {
		return snap, fmt.Errorf("snapshot: %w", err)
	}
	err := s.frozen(ctx, rec, o.NoPause, func() error { return s.copyChanges(rec, &snap) })
	if err != nil {
		return snap, errors.Join(fmt.Errorf("snapshot of container %s: %w", rec.Name, err), os.RemoveAll(snap.Upper))
	}
	return snap, nil
}

// copyChanges copies what was written into snap's directory. A driver whose tree is no upper directory makes one there
// itself.
func (s *Store) copyChanges(rec Record, snap *Snapshot) error {
	changes, err := s.opt.Rootfs.Changes(rec.Layers, rootfs.Mount{Writable: s.Dir(rec.ID)}, snap.Upper)
	if err != nil {
		return err
	}
	snap.Lower, snap.Sockets = changes.Lower, changes.Sockets
	if changes.Upper == snap.Upper {
		return nil
	}
	src, err := os.Open(changes.Upper)
	if errors.Is(err, os.ErrNotExist) {
		return nil // never started
	}
	if err != nil {
		return err
	}
	defer src.Close()
	return rootfs.CopyTree(src, snap.Upper, rootfs.CopyOptions{IgnoreOwner: s.opt.SingleID})
}

// frozen runs fn while the container's processes stand still, if it has any and noPause does not forbid it.
func (s *Store) frozen(ctx context.Context, rec Record, noPause bool, fn func() error) error {
	if noPause || rec.State.Status != Running {
		return fn()
	}
	return s.freezing(ctx, rec, func(rec Record) error {
		for rec.State.Status == Running {
			err := s.freeze(ctx, rec)
			if err == nil {
				// Also when ctx has ended: nobody else would let it go on.
				return errors.Join(fn(), s.resume(context.WithoutCancel(ctx), rec))
			}
			if !gone(rec.State) {
				return err
			}
			cur, err := s.get(rec.ID)
			if err != nil || cur.State.Pid == rec.State.Pid {
				break
			}
			rec = cur // it was started again
		}
		return fn()
	})
}

func (s *Store) freeze(ctx context.Context, rec Record) error {
	if err := s.freezable(rec); err != nil {
		return errdef.WithHint(fmt.Errorf("its processes cannot stand still meanwhile: %w", err), "stop it first, or copy its files as they come: commit --pause=false")
	}
	return s.runtime(rec).Pause(ctx, rec.ID)
}

// MountTree shows the container's tree, read-only and without what is mounted into it, in the empty directory dir while fn
// runs. The mount is private to this process: fn must do its file work in its own goroutine. A running container goes on.
func (s *Store) MountTree(rec Record, dir string, fn func(dir string) error) error {
	return s.opt.Rootfs.Private(func() error {
		m := s.look(rec, dir)
		if err := s.opt.Rootfs.Mount(rec.Layers, m); err != nil {
			return fmt.Errorf("container %s: %w", rec.Name, err)
		}
		return errors.Join(fn(dir), s.opt.Rootfs.Unmount(m))
	})
}

// look shows the container's tree read-only. A second writable mount of it would be undefined.
func (s *Store) look(rec Record, dir string) rootfs.Mount {
	return rootfs.Mount{Target: dir, Over: s.Dir(rec.ID)}
}
