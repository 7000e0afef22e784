package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"strata/internal/atomicfile"
)

// Restart stops the container, if it runs, and starts it again. One that would remove itself when it ends is kept.
func (s *Store) Restart(ctx context.Context, rec Record, o StopOptions) error {
	err := s.restart(ctx, rec, o)
	// A start that failed leaves a container that removes itself to us.
	if err = errors.Join(err, s.settle(context.WithoutCancel(ctx), rec.ID)); err != nil {
		return fmt.Errorf("cannot restart container %s: %w", rec.Name, err)
	}
	s.Emit(rec, "restart")
	return nil
}

func (s *Store) restart(ctx context.Context, rec Record, o StopOptions) error {
	l, err := atomicfile.LockExclusive(ctx, s.restartLock(rec.ID))
	if errors.Is(err, os.ErrNotExist) {
		return noSuch(rec.ID) // removed since it was looked up
	}
	if err != nil {
		return err
	}
	defer func() {
		os.Remove(s.restartLock(rec.ID))
		l.Unlock()
	}()
	if rec, err = s.Lookup(ctx, rec.ID); err != nil {
		return err
	}
	if err := s.Stop(ctx, rec, o); err != nil {
		return err
	}
	if rec, err = s.Lookup(ctx, rec.ID); err != nil {
		return err
	}
	_, err = s.Start(ctx, rec, StartOptions{})
	return err
}

// restartLock is held by whoever restarts the container, and dies with that process.
func (s *Store) restartLock(id string) string { return filepath.Join(s.Dir(id), "restart.lock") }

// restarting reports whether the container is to be started again by somebody when it has ended.
func (s *Store) restarting(id string) bool { return locked(s.restartLock(id)) }
