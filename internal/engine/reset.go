package engine

import (
	"context"
	"errors"
	"path/filepath"

	"strata/internal/disk"
)

// Reset removes the whole store and the running state. Containers must be gone.
func (e *Engine) Reset(ctx context.Context) error {
	s, err := e.Containers()
	if err != nil {
		return err
	}
	all, err := s.List(ctx)
	if err != nil {
		return err
	}
	if len(all) > 0 {
		return conflictf("store %s has %d containers", e.opts.Root, len(all))
	}
	if err := e.Close(); err != nil {
		return err
	}
	e.lease = nil
	errs := []error{e.Networks().Clear(ctx)}
	for name := range storeDirs {
		errs = append(errs, disk.RemoveAll(filepath.Join(e.opts.Root, name)))
	}
	return errors.Join(errs...)
}
