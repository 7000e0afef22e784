package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/atomicfile"
	"strata/internal/errdef"
)

// lockWait is how long an operation waits for another short one on the same container. A supervisor that has reported
// the exit holds its lock for milliseconds more.
const lockWait = 10 * time.Second

// errTaken: somebody else has the container's lock.
var errTaken = fmt.Errorf("another operation holds it: %w", errdef.ErrConflict)

// verdict is what a supervisor leaves in its lock file at the end, for those who wait on the lock: the record of an
// auto-removed container is gone by then.
type verdict struct {
	Done  bool
	Code  int
	Error string `json:",omitempty"`
}

func (s *Store) lockPath(id string) string { return filepath.Join(s.RunDir(id), "lock") }

// claim is a container's lock, held. It keeps the id it was taken for: the record by which a holder came to it may be gone
// by the time the lock is given up.
type claim struct {
	s    *Store
	id   string
	file *atomicfile.Lock
}

// lock makes the run directory and takes the container's lock.
func (s *Store) lock(ctx context.Context, id string) (*claim, error) {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	l, err := s.lockBy(ctx, id, func() (*atomicfile.Lock, error) { return atomicfile.LockExclusive(ctx, s.lockPath(id)) })
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("container %s: %w", ShortID(id), errTaken)
	}
	return l, err
}

// tryLock is [Store.lock] that does not wait for another holder: errdef.ErrConflict.
func (s *Store) tryLock(ctx context.Context, id string) (*claim, error) {
	return s.lockBy(ctx, id, func() (*atomicfile.Lock, error) { return atomicfile.TryExclusive(s.lockPath(id)) })
}

func (s *Store) lockBy(ctx context.Context, id string, take func() (*atomicfile.Lock, error)) (*claim, error) {
	if !validID(id) {
		return nil, fmt.Errorf("container id %q: %w", id, errdef.ErrInvalid)
	}
	for {
		l, err := take()
		if err == nil {
			return &claim{s: s, id: id, file: l}, nil
		}
		if !errors.Is(err, os.ErrNotExist) || ctx.Err() != nil {
			return nil, err
		}
		// None is there yet, or the last holder has just removed it.
		if err := os.MkdirAll(s.RunDir(id), 0o711); err != nil {
			return nil, err
		}
	}
}

// release removes the run directory, publishes v to those who wait, and gives the lock up.
func (c *claim) release(v verdict) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if _, err := c.file.File().WriteAt(raw, 0); err != nil {
		return err
	}
	c.s.emptyRunDir(c.id, keptName)
	// The lock's name goes while it is held: whoever waits for it notices and starts anew.
	err = os.Remove(c.s.lockPath(c.id))
	os.Remove(c.s.RunDir(c.id))
	return errors.Join(err, c.file.Unlock())
}

// emptyRunDir removes what is in the run directory but the lock, which the caller holds, and a file of the name keep.
func (s *Store) emptyRunDir(id, keep string) {
	entries, _ := os.ReadDir(s.RunDir(id))
	for _, e := range entries {
		if e.Name() != "lock" && e.Name() != keep {
			os.RemoveAll(filepath.Join(s.RunDir(id), e.Name()))
		}
	}
}

// held reports whether a process holds the container's lock.
func (s *Store) held(id string) bool { return locked(s.lockPath(id)) }

// locked reports whether a process holds the lock on a file.
func locked(path string) bool {
	f, err := os.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(flock(f, unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// await blocks until nobody holds the container's lock and returns what its last holder left there.
func (s *Store) await(ctx context.Context, id string) (verdict, error) {
	f, err := os.OpenFile(s.lockPath(id), os.O_RDONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return verdict{}, nil
	}
	if err != nil {
		return verdict{}, err
	}
	type answer struct {
		v   verdict
		err error
	}
	done := make(chan answer, 1)
	// flock(2) cannot be interrupted: when ctx ends first, the goroutine stays until the container ends or we do.
	go func() {
		var a answer
		if a.err = flock(f, unix.LOCK_SH); a.err == nil {
			raw, _ := io.ReadAll(io.LimitReader(f, 1<<16))
			_ = json.Unmarshal(raw, &a.v) // empty when the holder was killed: not Done
		}
		f.Close() // before anybody goes on: our own lock would pass for a supervisor's
		done <- a
	}()
	select {
	case a := <-done:
		return a.v, a.err
	case <-ctx.Done():
		return verdict{}, ctx.Err()
	}
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
