package engine

import (
	"context"
	"errors"
	"fmt"
	"os"

	"strata/internal/layer"
	"strata/internal/rootfs"
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
	temp, err := e.tempDir()
	if err == nil {
		temp, err = os.MkdirTemp(temp, "diff-")
	}
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(temp)
	c, err := e.stacks.Changes(rec.Layers, rootfs.Mount{Writable: s.Dir(rec.ID)}, temp)
	if err != nil {
		return nil, fmt.Errorf("diff %q: %w", rec.Name, err)
	}
	changes, err := e.layers.Changes(ctx, c.Upper, layer.CommitOptions{Lower: c.Lower, Sockets: c.Sockets, Drop: rec.Stubs})
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // never started
	}
	if err != nil {
		return nil, fmt.Errorf("diff %q: %w", rec.Name, err)
	}
	return changes, nil
}
