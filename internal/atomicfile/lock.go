package atomicfile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// Lock is a held flock(2).
type Lock struct{ f *os.File }

// LockExclusive makes the file path if need be, which may be a directory if it is there, and waits until no other holds it in any way, or ctx ends.
func LockExclusive(ctx context.Context, path string) (*Lock, error) {
	return lock(ctx, path, unix.LOCK_EX)
}

// LockShared makes the file path if need be, which may be a directory if it is there, and waits until nobody holds it exclusively, or ctx ends.
func LockShared(ctx context.Context, path string) (*Lock, error) {
	return lock(ctx, path, unix.LOCK_SH)
}

// TryExclusive is [LockExclusive] that does not wait: errdef.ErrConflict when another holds it.
func TryExclusive(path string) (*Lock, error) { return try(path, unix.LOCK_EX) }

// TryShared is [LockShared] that does not wait: errdef.ErrConflict when another holds it exclusively.
func TryShared(path string) (*Lock, error) { return try(path, unix.LOCK_SH) }

func try(path string, how int) (*Lock, error) {
	for {
		f, err := open(path)
		if err != nil {
			return nil, err
		}
		if err := flock(f, how|unix.LOCK_NB); err != nil {
			f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, fmt.Errorf("lock %s is held: %w", path, errdef.ErrConflict)
			}
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if named(f, path) {
			return &Lock{f}, nil
		}
		f.Close()
	}
}

// Unlock gives the lock up. It is an error to unlock twice.
func (l *Lock) Unlock() error { return l.f.Close() }

// File is the locked file, open for reading and writing: what is written into it lives as long as the file, the lock as
// long as the descriptor (a child that inherits it keeps it held).
func (l *Lock) File() *os.File { return l.f }

func open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, unix.EISDIR) {
		return os.Open(path)
	}
	return f, err
}

// lock takes the lock on the file that path names when it is granted: a sweeper may unlink a lock file while we wait,
// and a lock on a file without a name excludes nobody.
func lock(ctx context.Context, path string, how int) (*Lock, error) {
	for {
		f, err := open(path)
		if err != nil {
			return nil, err
		}
		if err := wait(ctx, f, how); err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if named(f, path) {
			return &Lock{f}, nil
		}
		f.Close()
	}
}

// wait asks without blocking first, then with growing pauses, so that ctx is obeyed.
func wait(ctx context.Context, f *os.File, how int) error {
	for pause := 200 * time.Microsecond; ; pause = min(2*pause, 20*time.Millisecond) {
		err := flock(f, how|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

func named(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
