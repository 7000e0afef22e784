package engine

import (
	"context"
	"errors"
	"os"

	"strata/internal/build"
	"strata/internal/dockerfile"
	"strata/internal/oci"
	"strata/internal/rootfs"
)

// checkCommand warns of a command that cannot be executed in the image just built. What cannot be looked at is not warned of.
func (e *Engine) checkCommand(ctx context.Context, plan *build.Plan, img *oci.Image) (warnings []dockerfile.Warning) {
	if ctx.Err() != nil || !plan.ChecksCommand() {
		return nil
	}
	_ = e.look(img.RootFS.DiffIDs, func(root *rootfs.Root) error {
		warnings = plan.CheckCommand(root, img)
		return nil
	})
	return warnings
}

// look mounts a stack of layers for fn, seen by nobody else.
func (e *Engine) look(layers []oci.DiffID, fn func(root *rootfs.Root) error) error {
	dir, err := e.tempDir()
	if err != nil {
		return err
	}
	target, err := os.MkdirTemp(dir, "look-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(target)
	return e.stacks.Private(func() error {
		m := rootfs.Mount{Target: target}
		if err := e.stacks.Mount(layers, m); err != nil {
			return err
		}
		root, err := rootfs.OpenRoot(target)
		if err == nil {
			err = errors.Join(fn(root), root.Close())
		}
		return errors.Join(err, e.stacks.Unmount(m))
	})
}
