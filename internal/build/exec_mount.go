package build

import (
	"errors"
	"os"
	"path/filepath"
	"sync"

	"strata/internal/layer"
	"strata/internal/oci"
	"strata/internal/rootfs"
)

// workspace gives steps directories of their own below the process's temporary directory.
type workspace struct {
	mu   sync.Mutex
	base string
}

// dir makes a new directory; the step removes it.
func (w *workspace) dir(temp func() (string, error)) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.base == "" {
		parent, err := temp()
		if err != nil {
			return "", err
		}
		if w.base, err = os.MkdirTemp(parent, "build-"); err != nil {
			return "", err
		}
	}
	return os.MkdirTemp(w.base, "step-")
}

func (w *workspace) close() {
	if w.base != "" {
		os.RemoveAll(w.base)
	}
}

// mounted is a stack of layers while a step works on it.
type mounted struct {
	dir    string // the step's directory
	stacks Stacks
	layers []oci.DiffID

	root *rootfs.Root // the writable tree
	drop []string     // mount points made, not part of the step's work

	later *laterFiles // what goes into the layer besides; nil: nothing
}

// files are what goes into the layer besides the tree.
func (t *mounted) files() map[string]*layer.File {
	if t.later == nil {
		return nil
	}
	return t.later.files
}

// release gives back what files need.
func (t *mounted) release() {
	if t.later != nil {
		t.later.close()
	}
}

// target is where the tree is mounted, seen only inside with.
func (t *mounted) target() string { return filepath.Join(t.dir, "tree") }

// mount is how the writable tree is mounted.
func (t *mounted) mount() rootfs.Mount {
	return rootfs.Mount{Target: t.target(), Writable: filepath.Join(t.dir, "rw"), Volatile: true}
}

// with runs fn in a mount namespace of its own in which the stack is mounted writable. When it returns nothing is mounted.
func (t *mounted) with(fn func(t *mounted) error) error {
	if err := os.MkdirAll(t.target(), 0o700); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(t.dir, "rw"), 0o700); err != nil {
		return err
	}
	return t.stacks.Private(func() (err error) {
		if err := t.stacks.Mount(t.layers, t.mount()); err != nil {
			return err
		}
		// The upper directory becomes the layer, so the mount must be gone before anybody goes on with it.
		defer func() { err = errors.Join(err, t.stacks.Unmount(t.mount())) }()
		if t.root, err = rootfs.OpenRoot(t.target()); err != nil {
			return err
		}
		defer t.root.Close()
		return fn(t)
	})
}

// readOnly mounts another stack for fn to look at; called inside with.
func (t *mounted) readOnly(layers []oci.DiffID, fn func(root *rootfs.Root) error) (err error) {
	target := filepath.Join(t.dir, "from")
	if err := os.MkdirAll(target, 0o700); err != nil {
		return err
	}
	m := rootfs.Mount{Target: target}
	if err := t.stacks.Mount(layers, m); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.stacks.Unmount(m)) }()
	root, err := rootfs.OpenRoot(target)
	if err != nil {
		return err
	}
	defer root.Close()
	return fn(root)
}
