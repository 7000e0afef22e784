package engine

import (
	"context"
	"errors"
	"fmt"
	"os"

	"strata/internal/layer"
)

// Diff tells what a container changed in its image's tree, sorted by path. What strata put there itself is no change.
func (e *Engine) Diff(ctx context.Context, ref string) ([]layer.Change, error) {
	s, err := e.Containers()
	if err != nil {
		return nil, err
	}
	rec, err := s.Lookup(ctx, ref)
	if err != nil {
		return nil, err
	}
	lower, err := e.stacks.Lower(rec.Layers)
	if err != nil {
		return nil, err
	}
	changes, err := e.layers.Changes(ctx, s.Upper(rec.ID), layer.CommitOptions{Lower: lower, Drop: rec.Stubs})
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // never started
	}
	if err != nil {
		return nil, fmt.Errorf("diff %q: %w", rec.Name, err)
	}
	return changes, nil
}
