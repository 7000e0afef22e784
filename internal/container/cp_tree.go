package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/layer"
	"strata/internal/mount"
	"strata/internal/rootfs"
)

// fileTree is a container's files as docker's cp sees them: its root file system with the volumes and directories of the
// host that are mounted in it, without what only its processes have: /proc, /sys, /dev, tmpfs.
type fileTree struct {
	root     *rootfs.Root
	mounts   []specs.Mount // all that the container has, outer ones first
	readOnly bool          // the root file system
	// Of a container in a user namespace owners are shown as this machine has them: shift tells what they are inside.
	shift layer.Shift
}

// withTree shows the container's files in the empty directory dir while fn runs, privately. A stopped container cannot be
// started meanwhile. fn may read the tree from any goroutine, and writes in its own.
//
// A running container's root is a copy of the mount it was started on: nothing that its processes mount or link since can
// lead out of it or stop us.
func (s *Store) withTree(ctx context.Context, rec Record, dir string, fn func(t *fileTree) error) error {
	for ended := false; ; {
		if rec.State.Alive() && !ended {
			err := s.runningTree(ctx, rec, dir, fn)
			if ended = errors.Is(err, errEnded); !ended {
				return err
			}
		}
		l, err := s.lock(ctx, rec.ID)
		if cur, e := s.get(rec.ID); errors.Is(err, errdef.ErrConflict) && e == nil && cur.State.Alive() && ctx.Err() == nil {
			ended = ended && cur.State.Pid == rec.State.Pid
			rec = cur
			time.Sleep(5 * time.Millisecond) // its supervisor is about to record the end
			continue
		}
		if err != nil {
			return err
		}
		// What cannot be given up goes with the process.
		defer func() { _ = l.release(verdict{}) }()
		if rec, err = s.there(rec.ID); err != nil {
			return err
		}
		if s.unfinished(rec) {
			if err := s.bury(ctx, &rec); err != nil {
				return err
			}
		}
		return s.stoppedTree(ctx, rec, dir, fn)
	}
}

// errEnded: a container that its record calls running has no process any more.
var errEnded = errors.New("it has ended")

func (s *Store) runningTree(ctx context.Context, rec Record, dir string, fn func(t *fileTree) error) error {
	pidfd, err := openProcess(rec.State)
	if errors.Is(err, errdef.ErrNotFound) {
		return errEnded
	}
	if err != nil {
		return fmt.Errorf("container %s: %w", rec.Name, err)
	}
	process := os.NewFile(uintptr(pidfd), "container")
	defer process.Close()
	mounts, err := bundleMounts(s.bundleDir(rec.ID))
	if err != nil && hasEnded(pidfd, 0) {
		return errEnded // and its bundle went with it
	}
	if err != nil {
		return fmt.Errorf("container %s: %w", rec.Name, err)
	}
	for i := range mounts {
		if within(mounts[i].Source, s.RunDir(rec.ID)) { // mounted where only its processes see it
			mounts[i].Type = "tmpfs"
		}
	}
	shared := sharesMounts(rec.State.Pid)
	if hasEnded(pidfd, 0) {
		return errEnded // what was read of it in /proc means nothing
	}
	if shared {
		return s.sharedTree(rec, dir, mounts, fn)
	}
	tree, err := mount.CloneRoot(process)
	if errors.Is(err, unix.ESRCH) {
		return errEnded
	}
	if err != nil {
		return fmt.Errorf("container %s: %w", rec.Name, err)
	}
	defer tree.Close()
	users, err := newUsers(ctx, rec.Host.Access.IDs)
	if err != nil {
		return err
	}
	defer users.Close()
	return mount.Private(func() error {
		if err := mount.Attach(tree, dir); err != nil {
			return err
		}
		return errors.Join(s.showMounts(rec, dir, mounts, users, fn), mount.Unmount(dir))
	})
}

// sharesMounts reports whether a process sees the mounts that we see: a container that only chroot holds.
func sharesMounts(pid int) bool {
	ours, err := os.Readlink("/proc/self/ns/mnt")
	theirs, terr := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid))
	return err == nil && (ours == theirs || errors.Is(terr, os.ErrPermission))
}

// sharedTree is the tree of a running container that has no mount namespace: as it lies, with what was copied into it.
func (s *Store) sharedTree(rec Record, dir string, mounts []specs.Mount, fn func(t *fileTree) error) error {
	return s.opt.Rootfs.Private(func() error {
		m := rootfs.Mount{Target: dir, Writable: s.Dir(rec.ID)}
		if err := s.opt.Rootfs.Mount(rec.Layers, m); err != nil {
			return fmt.Errorf("container %s: %w", rec.Name, err)
		}
		root, err := rootfs.OpenRoot(dir)
		if err == nil {
			err = errors.Join(fn(&fileTree{root: root, mounts: mounts, readOnly: rec.Host.ReadonlyRootfs}), root.Close())
		}
		return errors.Join(err, s.opt.Rootfs.Unmount(m))
	})
}

// bundleMounts reads what the runtime was told to mount.
func bundleMounts(bundle string) ([]specs.Mount, error) {
	raw, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err != nil {
		return nil, err
	}
	var spec specs.Spec
	if err := json.Unmarshal(raw, &spec); err != nil {
		return nil, fmt.Errorf("bundle: %w: %w", err, errdef.ErrCorrupt)
	}
	return spec.Mounts, nil
}

func (s *Store) stoppedTree(ctx context.Context, rec Record, dir string, fn func(t *fileTree) error) error {
	users, err := newUsers(ctx, rec.Host.Access.IDs)
	if err != nil {
		return err
	}
	defer users.Close()
	return s.opt.Rootfs.Private(func() error {
		m := rootfs.Mount{Target: dir, Writable: s.Dir(rec.ID)}
		var mounts []specs.Mount
		err := s.mountWith(rec, m, users, func(root *rootfs.Root) (err error) {
			mounts, err = s.mountPoints(ctx, &rec, root, users)
			return err
		})
		if err != nil {
			return fmt.Errorf("container %s: %w", rec.Name, err)
		}
		return errors.Join(s.showMounts(rec, dir, mounts, users, fn), s.opt.Rootfs.Unmount(m))
	})
}

// mountPoints makes the mount points of a container that is not running and notes them in its record.
func (s *Store) mountPoints(ctx context.Context, rec *Record, root *rootfs.Root, users *mount.Users) ([]specs.Mount, error) {
	mounts, err := s.mounts(ctx, *rec, nets{users: users}, root)
	if err != nil {
		return nil, err
	}
	mounts = lastWins(mounts)
	before := len(rec.Stubs)
	if err := makeStubs(rec, root, mounts); err != nil {
		return nil, err
	}
	if len(rec.Stubs) == before {
		return mounts, nil
	}
	return mounts, s.put(*rec)
}

// showMounts mounts into the tree at dir what of the host the container has, and runs fn.
func (s *Store) showMounts(rec Record, dir string, mounts []specs.Mount, users *mount.Users, fn func(t *fileTree) error) error {
	root, err := rootfs.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	own := ownMounts()
	for _, m := range mounts {
		if !own || m.Type != "bind" || kernelPath(m.Destination) != "" {
			continue
		}
		if err := showMount(root, m, users); err != nil {
			return fmt.Errorf("container %s: %w", rec.Name, err)
		}
	}
	t := &fileTree{root: root, mounts: mounts, readOnly: rec.Host.ReadonlyRootfs}
	if users == nil {
		return fn(t)
	}
	t.shift = layer.Shift(*rec.Host.Access.IDs)
	return users.As(func() error { return fn(t) })
}

// ownMounts reports whether this goroutine is in a mount namespace of its own. Where there are none nothing of the host can
// be shown, and a container has nothing of it either.
func ownMounts() bool {
	ours, err := os.Readlink("/proc/thread-self/ns/mnt")
	others, oerr := os.Readlink("/proc/self/ns/mnt")
	return err != nil || oerr != nil || ours != others
}

func showMount(root *rootfs.Root, m specs.Mount, users *mount.Users) error {
	at, err := root.Open(m.Destination, unix.O_PATH, 0)
	if errors.Is(err, errdef.ErrNotFound) {
		return nil // below a tmpfs, or the container took the place away
	}
	if err != nil {
		return err
	}
	defer at.Close()
	if !slices.Contains(m.Options, idmapOption) {
		users = nil
	}
	return mount.BindOn(m.Source, at, users, slices.Contains(m.Options, "ro"), true)
}

// kernelPath is the place of a kernel's file system that p is in, or "".
func kernelPath(p string) string {
	for _, k := range []string{"/proc", "/sys", "/dev"} {
		if within(p, k) {
			return k
		}
	}
	return ""
}

func within(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

// covering is the innermost mount that the path, which has no links, lies in.
func (t *fileTree) covering(p string) (found specs.Mount) {
	for _, m := range t.mounts {
		if dest := path.Clean(m.Destination); within(p, dest) && len(dest) >= len(path.Clean(found.Destination)) {
			found = m
		}
	}
	return found
}

// reachable refuses a path, without links, in a file system that only the container's processes have. use is the command
// that reaches it from inside.
func (t *fileTree) reachable(p, ref, use string) error {
	where := kernelPath(p)
	if m := t.covering(p); where == "" && m.Type == "tmpfs" {
		where = path.Clean(m.Destination)
	}
	if where == "" {
		return nil
	}
	return errdef.WithHint(fmt.Errorf("%s: %s is a file system of the running container's own: %w", p, where, errdef.ErrUnsupported),
		fmt.Sprintf("reach it from inside: strata exec -i %s sh -c '%s %s'", ref, use, p))
}

// writable refuses what is mounted read-only, in docker's words.
func (t *fileTree) writable(p string) error {
	m := t.covering(p)
	switch {
	case m.Destination != "" && slices.Contains(m.Options, "ro"):
		return &wordedError{"mounted volume is marked read-only", errdef.ErrDenied}
	case m.Destination == "" && t.readOnly:
		return &wordedError{"container rootfs is marked read-only", errdef.ErrDenied}
	}
	return nil
}
