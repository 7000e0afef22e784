package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/cgroup"
	"strata/internal/record"
	"strata/internal/runtime"
)

// runTemp is a directory for running state of this engine's own, removed with its lease. What a killed process left in
// its directory the next one that makes such a directory clears away, with what still runs of it.
func (e *Engine) runTemp(ctx context.Context) (string, error) {
	l, err := e.acquire()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(e.runTemps(), l.Name())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	return dir, e.clearDead(ctx)
}

// runTemps is where the engines of this store have their directories: other stores may share the run directory.
func (e *Engine) runTemps() string {
	sum := sha256.Sum256([]byte(e.opts.Root))
	return filepath.Join(e.opts.Run, "tmp", hex.EncodeToString(sum[:6]))
}

func (e *Engine) clearDead(ctx context.Context) error {
	entries, err := os.ReadDir(e.runTemps())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range entries {
		if !e.leases.Alive(entry.Name()) {
			errs = append(errs, e.clearRun(ctx, filepath.Join(e.runTemps(), entry.Name())))
		}
	}
	return errors.Join(errs...)
}

// clearings is how often it is tried to clear one directory.
const clearings = 5

// clearRun ends the build steps that a killed process left in dir and removes it. A helper of that process, which notices its end a moment
// later, may still be writing there; who comes next removes what is left then.
func (e *Engine) clearRun(ctx context.Context, dir string) error {
	for range clearings {
		e.clearSteps(ctx, dir)
		if err := os.RemoveAll(dir); !errors.Is(err, unix.ENOTEMPTY) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

func (e *Engine) clearSteps(ctx context.Context, dir string) {
	state := stepState(dir)
	if ids := stepIDs(dir, state); len(ids) > 0 {
		if r, err := e.findRuntime(); err == nil {
			own := runtime.Runtime{Path: r.Path, State: state}
			for _, id := range ids {
				groups, _ := cgroup.Machine().Made(id, "")
				_ = own.Clear(ctx, id, groups) // half made ones have nothing that runs
			}
		}
	}
}

// stepIDs are the containers of steps of which there is a bundle in dir, or which the runtime that has its state there knows.
func stepIDs(dir, state string) (ids []string) {
	for _, place := range []string{dir, state} {
		entries, _ := os.ReadDir(place)
		for _, e := range entries {
			if e.IsDir() && strings.HasPrefix(e.Name(), "build-") && !slices.Contains(ids, e.Name()) {
				ids = append(ids, e.Name())
			}
		}
	}
	return ids
}

// stepState is where the runtime keeps what it knows of a build's steps.
func stepState(dir string) string { return filepath.Join(dir, "runtime") }

// release ends the lease and removes the running state that went with it.
func (e *Engine) release(l *record.Lease) error {
	return errors.Join(os.RemoveAll(filepath.Join(e.runTemps(), l.Name())), l.Release())
}
