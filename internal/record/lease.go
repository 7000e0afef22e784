package record

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"strata/internal/atomicfile"
	"strata/internal/errdef"
)

// Guard is the store's gc.lock: shared by those who make references, for microseconds; exclusive for the sweep.
type Guard struct{ path string }

// NewGuard is the guard whose lock file is path.
func NewGuard(path string) *Guard { return &Guard{path} }

// Shared runs fn while no sweep runs.
func (g *Guard) Shared(ctx context.Context, fn func() error) error {
	return g.with(ctx, fn, atomicfile.LockShared)
}

// Exclusive runs fn while nobody makes a reference.
func (g *Guard) Exclusive(ctx context.Context, fn func() error) error {
	return g.with(ctx, fn, atomicfile.LockExclusive)
}

func (g *Guard) with(ctx context.Context, fn func() error, take func(context.Context, string) (*atomicfile.Lock, error)) error {
	lock, err := take(ctx, g.path)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	return fn()
}

// Leases is the directory of what running processes rely on.
type Leases struct {
	dir   string
	guard *Guard
}

// OpenLeases opens the directory dir, making it if need be.
func OpenLeases(dir string, guard *Guard) (*Leases, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return &Leases{dir, guard}, nil
}

// Lease names things that must not be collected while its process lives. It is a locked file with one name a line;
// beside it stands a directory for what the process has not finished.
type Lease struct {
	leases *Leases
	lock   *atomicfile.Lock
	path   string
	mu     sync.Mutex // of the file's offset
}

const tmpSuffix = ".tmp"

// Acquire makes a lease that ends with [Lease.Release] or with the process.
func (l *Leases) Acquire() (*Lease, error) {
	for range 100 {
		f, err := os.CreateTemp(l.dir, "lease-*")
		if err != nil {
			return nil, fmt.Errorf("lease: %w", err)
		}
		path := f.Name()
		f.Close()
		// Between creation and lock a sweep may take the file for one of a dead process and remove it; then the lock
		// is on a new file of the same name, which is as good.
		lock, err := atomicfile.TryExclusive(path)
		if errors.Is(err, errdef.ErrConflict) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("lease: %w", err)
		}
		return &Lease{leases: l, lock: lock, path: path}, nil
	}
	return nil, fmt.Errorf("lease: %w", errdef.ErrConflict)
}

// Hold may be called from several goroutines. It adds names to the lease. When it returns, what exists under these names stays until the lease ends.
func (l *Lease) Hold(ctx context.Context, names ...string) error {
	return l.leases.guard.Shared(ctx, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		f := l.lock.File()
		if _, err := f.Seek(0, 2); err != nil {
			return err
		}
		_, err := f.WriteString(strings.Join(names, "\n") + "\n")
		return err
	})
}

// Name tells this lease from all others of its store, dead ones included.
func (l *Lease) Name() string { return filepath.Base(l.path) }

// Alive reports whether the process that holds the lease of that name lives.
func (l *Leases) Alive(name string) bool {
	path := filepath.Join(l.dir, filepath.Base(name))
	if _, err := os.Stat(path); err != nil {
		return false
	}
	lock, err := atomicfile.TryExclusive(path)
	if err != nil {
		return true
	}
	_ = lock.Unlock() // whoever sweeps removes the file
	return false
}

// TempDir is a directory of this lease's own, made on first use, removed with it.
func (l *Lease) TempDir() (string, error) {
	dir := l.path + tmpSuffix
	return dir, os.MkdirAll(dir, 0o700)
}

// Release ends the lease and removes its temporary directory.
func (l *Lease) Release() error {
	err := os.RemoveAll(l.path + tmpSuffix)
	if e := os.Remove(l.path); err == nil {
		err = e
	}
	if e := l.lock.Unlock(); err == nil {
		err = e
	}
	return err
}

// Busy reports whether any process holds a lease.
func (l *Leases) Busy() (bool, error) {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if !e.IsDir() && l.Alive(e.Name()) {
			return true, nil
		}
	}
	return false, nil
}

// Holds reports whether a living process has name in its lease.
func (l *Leases) Holds(name string) (bool, error) {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(l.dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, err
		}
		if strings.Contains("\n"+string(raw), "\n"+name+"\n") && l.Alive(e.Name()) {
			return true, nil
		}
	}
	return false, nil
}

// Live returns the names in the leases of living processes, and removes the leases of the dead with what they left.
// The sweep calls it under the exclusive guard.
func (l *Leases) Live() (map[string]bool, error) {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return nil, err
	}
	live := map[string]bool{}
	for _, e := range entries {
		path := filepath.Join(l.dir, e.Name())
		if e.IsDir() {
			// Its lease is gone: left by a process that died between the two removals.
			if _, err := os.Stat(strings.TrimSuffix(path, tmpSuffix)); errors.Is(err, fs.ErrNotExist) {
				os.RemoveAll(path)
			}
			continue
		}
		lock, err := atomicfile.TryExclusive(path)
		if err == nil {
			dead := &Lease{leases: l, lock: lock, path: path}
			if err := dead.Release(); err != nil {
				return nil, err
			}
			continue
		}
		if !errors.Is(err, errdef.ErrConflict) {
			return nil, err
		}
		raw, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for name := range strings.Lines(string(raw)) {
			live[strings.TrimSpace(name)] = true
		}
	}
	return live, nil
}
