package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// A plain user's bridges stand in a network namespace of his store's own, the *ground*: it is mounted at <run>/ground, in the mount
// namespace that all of the user's commands share. A helper program, pasta, leads out of it. It makes connections in the user's name, so
// it takes no rights; ports of the machine are published by the relay, which dials into the ground.

func (s *Store) groundFile() string { return filepath.Join(s.opt.Run, "ground") }

// ground opens the namespace in which the bridges stand, made if there is none.
func (s *Store) ground() (f *os.File, err error) {
	err = outside(func() (err error) {
		f, err = s.findGround()
		return err
	})
	return f, err
}

// outside runs fn on a thread that is in no private mount namespace, even if the caller's is: what fn mounts all see, and what it
// starts holds no mount of anybody's.
func outside(fn func() error) error {
	done := make(chan error, 1)
	go func() { done <- fn() }()
	return <-done
}

func (s *Store) findGround() (*os.File, error) {
	if f, err := s.openGround(); err == nil {
		return f, nil
	}
	unlock, err := s.lock(context.Background(), "ground") //nolint:forbidigo // held for a moment
	if err != nil {
		return nil, err
	}
	defer unlock()
	if f, err := s.openGround(); err == nil {
		return f, nil
	}
	if err := os.WriteFile(s.groundFile(), nil, 0o600); err != nil {
		return nil, err
	}
	err = within(func() error { return unshare(unix.CLONE_NEWNET) }, func() error {
		if err := loopbackUp(); err != nil {
			return err
		}
		return classify(unix.Mount("/proc/thread-self/ns/net", s.groundFile(), "", unix.MS_BIND, ""))
	})
	if err != nil {
		return nil, fmt.Errorf("a network namespace for networks: %w", err)
	}
	return s.openGround()
}

// openGround opens the namespace if it is there: the file alone, which a restart of the machine leaves, is none.
func (s *Store) openGround() (*os.File, error) {
	f, err := os.Open(s.groundFile())
	if err != nil {
		return nil, err
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil || st.Type != unix.NSFS_MAGIC {
		f.Close()
		return nil, fmt.Errorf("%s is no namespace: %w", f.Name(), errdef.ErrNotFound)
	}
	return f, nil
}

// leaveGround ends the helper and lets the namespace go, with all bridges in it.
func (s *Store) leaveGround() error {
	if pid, err := s.egressPid(); err == nil {
		if err := unix.Kill(pid, unix.SIGTERM); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("the way out: %w", err)
		}
	}
	err := unix.Unmount(s.groundFile(), unix.MNT_DETACH)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s: %w", s.groundFile(), err)
	}
	return nil
}
