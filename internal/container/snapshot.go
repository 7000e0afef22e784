package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"strata/internal/errdef"
	"strata/internal/mount"
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
	Upper string // an overlay upper directory, the caller's
	// Drop are container paths of mount points that strata made: they are no changes.
	Drop []string
}

// Snapshot copies the container's writable layer, as it lies, so that a layer can be made of it while the container goes on.
func (s *Store) Snapshot(ctx context.Context, rec Record, o SnapshotOptions) (Snapshot, error) {
	snap := Snapshot{Upper: filepath.Join(o.TempDir, "upper-"+ShortID(rec.ID)), Drop: rec.Stubs}
	if err := os.Mkdir(snap.Upper, 0o755); err != nil {
		return snap, fmt.Errorf("snapshot: %w", err)
	}
	err := s.frozen(ctx, rec, o.NoPause, func() error {
		src, err := os.Open(filepath.Join(s.Dir(rec.ID), "upper"))
		if errors.Is(err, os.ErrNotExist) {
			return nil // never started
		}
		if err != nil {
			return err
		}
		defer src.Close()
		return copyTree(src, snap.Upper, copyOptions{ignoreOwner: s.opt.SingleID})
	})
	if err != nil {
		return snap, errors.Join(fmt.Errorf("snapshot of container %s: %w", rec.Name, err), os.RemoveAll(snap.Upper))
	}
	return snap, nil
}

// frozen runs fn while the container's processes stand still, if it has any and noPause does not forbid it.
func (s *Store) frozen(ctx context.Context, rec Record, noPause bool, fn func() error) error {
	if noPause || rec.State.Status != Running {
		return fn()
	}
	if err := s.freezable(rec); err != nil {
		return errdef.WithHint(fmt.Errorf("its processes cannot stand still meanwhile: %w", err), "stop it first, or copy its files as they come: commit --pause=false")
	}
	if err := s.runtime(rec).Pause(ctx, rec.ID); err != nil {
		return err
	}
	err := fn()
	// Also when ctx has ended: nobody else would thaw it.
	ctx = context.WithoutCancel(ctx)
	return errors.Join(err, s.records.Locked(ctx, rec.ID, func() error {
		if cur, err := s.records.Get(rec.ID); err == nil && cur.State.Status == Paused {
			return nil // somebody paused it meanwhile
		}
		return s.runtime(rec).Resume(ctx, rec.ID)
	}))
}

// MountTree shows the container's tree, read-only and without what is mounted into it, in the empty directory dir while fn
// runs. The mount is private to this process: fn must do its file work in its own goroutine. A running container goes on.
func (s *Store) MountTree(rec Record, dir string, fn func(dir string) error) error {
	return mount.Private(func() error {
		if err := s.showTree(rec, dir); err != nil {
			return fmt.Errorf("container %s: %w", rec.Name, err)
		}
		return errors.Join(fn(dir), mount.Unmount(dir))
	})
}

func (s *Store) showTree(rec Record, dir string) error {
	upper := filepath.Join(s.Dir(rec.ID), "upper")
	if _, err := os.Stat(upper); err != nil {
		return s.opt.Rootfs.Mount(rec.Layers, rootfs.Mount{Target: dir})
	}
	lower, err := s.opt.Rootfs.Lower(rec.Layers)
	if err != nil {
		return err
	}
	// The upper directory as one more lower: a second writable mount over it would be undefined.
	return mount.Overlay{Lower: append([]string{upper}, lower...), Userxattr: s.opt.Userns}.Mount(dir)
}
