package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"strata/internal/atomicfile"
	"strata/internal/cgroup"
	"strata/internal/errdef"
)

// Pause freezes the container's processes. It takes a control group of its own.
func (s *Store) Pause(ctx context.Context, rec Record) error {
	if !rec.State.Alive() {
		return stopped(rec)
	}
	return s.freezing(ctx, rec, func(rec Record) error {
		switch {
		case !rec.State.Alive():
			return stopped(rec)
		case rec.State.Status == Paused:
			return fmt.Errorf("container %s is already paused: %w", rec.Name, errdef.ErrConflict)
		}
		return s.pause(ctx, rec)
	})
}

func stopped(rec Record) error {
	return fmt.Errorf("container %s is not running: %w", rec.Name, errdef.ErrConflict)
}

func (s *Store) pause(ctx context.Context, rec Record) error {
	if err := s.freezable(rec); err != nil {
		if gone(rec.State) {
			return stopped(rec)
		}
		return fmt.Errorf("container %s cannot be paused: %w", rec.Name, err)
	}
	// The record first: a container that is said to be paused can be unpaused, whether it is frozen or not.
	if err := s.setStatus(ctx, rec.ID, Running, Paused); err != nil {
		return err
	}
	err := s.runtime(rec).Pause(ctx, rec.ID)
	if err != nil {
		if gone(rec.State) {
			err = stopped(rec)
		}
		return errors.Join(err, s.setStatus(context.WithoutCancel(ctx), rec.ID, Paused, Running))
	}
	s.Emit(rec, "pause")
	return nil
}

// freezing runs fn, with the record as it is then, while nobody else freezes the container's processes: of two who do so at the same time
// the first would let them go on while the other counts on their standing still.
func (s *Store) freezing(ctx context.Context, rec Record, fn func(rec Record) error) error {
	path := filepath.Join(s.Dir(rec.ID), "freeze.lock")
	l, err := atomicfile.LockExclusive(ctx, path)
	if errors.Is(err, os.ErrNotExist) {
		return noSuch(rec.ID) // removed since it was looked up
	}
	if err != nil {
		return err
	}
	defer func() {
		os.Remove(path)
		l.Unlock()
	}()
	cur, err := s.there(rec.ID)
	if err != nil {
		return err
	}
	return fn(cur)
}

// Unpause thaws them. It also helps a container that whoever froze it for a moment left so, being killed.
func (s *Store) Unpause(ctx context.Context, rec Record) error {
	if rec.State.Status == Paused {
		return s.unpause(ctx, rec)
	}
	if !s.frozenNow(rec) {
		return notPaused(rec)
	}
	return s.freezing(ctx, rec, func(rec Record) error { // who lives thaws it himself
		if rec.State.Status != Paused && !s.frozenNow(rec) {
			return notPaused(rec)
		}
		return s.unpause(ctx, rec)
	})
}

func notPaused(rec Record) error {
	return fmt.Errorf("container %s is not paused: %w", rec.Name, errdef.ErrConflict)
}

func (s *Store) unpause(ctx context.Context, rec Record) error {
	if err := s.thaw(ctx, rec); err != nil {
		return err
	}
	s.Emit(rec, "unpause")
	return nil
}

// freezable says why the container cannot be frozen.
func (s *Store) freezable(rec Record) error {
	g, err := cgroup.Machine().Of(rec.State.Pid, rec.ID)
	if err == nil && g.Freezable() {
		return nil
	}
	if err := cgroup.Machine().Check(cgroup.Freeze, s.opt.Userns); err != nil {
		return err
	}
	return fmt.Errorf("its processes are in no control group that can be frozen: %w", errdef.ErrUnsupported)
}

// frozenNow reports whether the container's processes stand still, whatever the record says.
func (s *Store) frozenNow(rec Record) bool {
	if !rec.State.Alive() {
		return false
	}
	g, err := cgroup.Machine().Of(rec.State.Pid, rec.ID)
	return err == nil && g.Frozen()
}

// thaw lets a frozen container go on, and its record say so. One that has ended meanwhile is no error.
func (s *Store) thaw(ctx context.Context, rec Record) error {
	if s.frozenNow(rec) {
		if err := s.resume(ctx, rec); err != nil {
			return err
		}
	}
	err := s.setStatus(ctx, rec.ID, Paused, Running)
	if errors.Is(err, errdef.ErrNotFound) {
		return nil
	}
	return err
}

// killFrozen kills the first process of a container that its supervisor left. With version 1 of control groups a frozen
// process does not die before it is thawed.
func (s *Store) killFrozen(ctx context.Context, rec Record) error {
	if !s.frozenNow(rec) {
		return nil
	}
	if err := signalProcess(rec.State, unix.SIGKILL); err != nil && !errors.Is(err, errdef.ErrNotFound) {
		return err
	}
	return s.resume(ctx, rec)
}

// resume lets the container's processes go on. Those that do so already, or have ended, are no error.
func (s *Store) resume(ctx context.Context, rec Record) error {
	if err := s.runtime(rec).Resume(ctx, rec.ID); err != nil && s.frozenNow(rec) {
		return err
	}
	return nil
}

// setStatus changes from into to, if the container is still in from: its supervisor may have recorded the end meanwhile.
func (s *Store) setStatus(ctx context.Context, id string, from, to Status) error {
	// Without the lock first: where nothing can be written there is mostly nothing to write either.
	if rec, err := s.get(id); err != nil || rec.State.Status != from {
		return err
	}
	return s.changeState(ctx, id, func(st *State) bool {
		still := st.Status == from
		st.Status = to
		return still
	})
}
