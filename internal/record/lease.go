package record

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"strata/internal/atomicfile"
	"strata/internal/disk"
	"strata/internal/errdef"
)

// Guard is the store's gc.lock: shared by those who make references, for microseconds; exclusive for the sweep's last look and its renames.
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

// Release ends the lease and removes its temporary directory. While a sweep is under way its file stays, for the sweep to find and remove:
// what refers to these names may be younger than the sweep's look at the records.
func (l *Lease) Release() error {
	err := disk.RemoveAll(l.path + tmpSuffix)
	idle, busy := atomicfile.TryShared(l.leases.sweepLock())
	if !errors.Is(busy, errdef.ErrConflict) {
		err = errors.Join(err, busy, os.Remove(l.path))
	}
	if busy == nil {
		err = errors.Join(err, idle.Unlock())
	}
	return errors.Join(err, l.lock.Unlock())
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

// Live returns the names in the leases of living processes.
func (l *Leases) Live() (map[string]bool, error) {
	live := map[string]bool{}
	err := l.each(func(path string) error {
		if l.Alive(filepath.Base(path)) {
			return readNames(path, live)
		}
		return nil
	})
	return live, err
}

// each calls fn with the file of each lease.
func (l *Leases) each(fn func(path string) error) error {
	entries, err := os.ReadDir(l.dir)
	for _, e := range entries {
		if err == nil && !e.IsDir() {
			err = fn(filepath.Join(l.dir, e.Name()))
		}
	}
	return err
}

// readNames adds the names in a lease's file to names.
func readNames(path string, names map[string]bool) error {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for name := range strings.Lines(string(raw)) {
		names[strings.TrimSpace(name)] = true
	}
	return err
}

// Sweep finds what nothing refers to and discards it. find reads the records, which takes long, while references are made as ever, and gives
// the names of what none refers to. discard then gets those of them that are in no lease either, while no reference is made. In a lease
// they are, too, whose process made a reference behind find's back and ended. The leases of the dead go, with what they left.
func (l *Leases) Sweep(ctx context.Context, find func() (names []string, err error), discard func(free []string) error) error {
	lock, err := atomicfile.LockExclusive(ctx, l.sweepLock())
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if err := l.bury(); err != nil { // what these referred to find sees
		return err
	}
	found, err := find()
	if err == nil && len(found) > 0 {
		err = l.guard.Exclusive(ctx, func() error {
			held := map[string]bool{}
			if err := l.each(func(path string) error { return readNames(path, held) }); err != nil {
				return err
			}
			return discard(slices.DeleteFunc(found, func(name string) bool { return held[name] }))
		})
	}
	return errors.Join(err, l.bury())
}

// sweepLock is held exclusively by a sweep from its first look at a record on. It is a thing that is there, since a sweep makes room on full
// disks: with the slash it is the directory, and nothing is made where that is gone.
func (l *Leases) sweepLock() string { return l.dir + "/" }

// bury removes the leases of the dead with what they left.
func (l *Leases) bury() error {
	err := l.each(func(path string) error {
		lock, err := atomicfile.TryExclusive(path)
		if errors.Is(err, errdef.ErrConflict) {
			return nil
		}
		if err != nil {
			return err
		}
		return errors.Join(disk.RemoveAll(path+tmpSuffix), os.Remove(path), lock.Unlock())
	})
	entries, lerr := os.ReadDir(l.dir)
	for _, e := range entries {
		if path := filepath.Join(l.dir, e.Name()); e.IsDir() {
			// Its lease is gone: left by a process that died between the two removals.
			if _, err := os.Stat(strings.TrimSuffix(path, tmpSuffix)); errors.Is(err, fs.ErrNotExist) {
				_ = disk.RemoveAll(path) // the next sweep tries again
			}
		}
	}
	return errors.Join(err, lerr)
}
