package rootfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/layer"
	"strata/internal/mount"
	"strata/internal/oci"
)

// Layers is what stacks are made of; *layer.Store is one.
type Layers interface {
	// Place says where the layer's tree lies.
	Place(id oci.DiffID) (layer.Place, error)
	Stat(id oci.DiffID) (layer.Meta, error)
	// Unpack makes a directory of a layer whose tree lies in an image.
	Unpack(ctx context.Context, id oci.DiffID) error
}

// Options say what this process may do.
type Options struct {
	// Userxattr: overlay marks are user.overlay.* (inside a user namespace).
	Userxattr bool
	// IgnoreOwner tolerates that owners and attributes cannot be set (only one user id is mapped).
	IgnoreOwner bool
	// Driver is the driver to use, one of [Drivers]; "" takes the first that works.
	Driver string
	// Notice is told, once, that another driver than overlay was chosen, and why; nil says nothing.
	Notice func(driver string, why error)
	// TempDir gives a directory on the layers' file system that goes when this process does. Nil: the driver that copies
	// makes what it needs beside its target, and keeps no tree for later.
	TempDir func() (string, error)
	// Shared is a directory of the running machine's, in which processes find the layers that others have mounted; "" mounts each anew.
	Shared string
}

// Stacks turns stacks of layers into mounts. Safe for concurrent use. It remembers what it learned about layers: they
// never change, and whoever asks for one holds it against removal.
type Stacks struct {
	layers Layers
	dir    string
	opts   Options
	choice choice

	mu    sync.Mutex
	known map[oci.DiffID]*known
	fixed map[oci.ChainID]string // the fix-up layer above the topmost layer of this chain; "" = none is needed
}

// known is what the stack algorithms need of one layer.
type known struct {
	dir      string
	mounted  *os.File // holds the mount that dir is in, of a layer in tar form
	implicit map[string]bool
	root     bool // the tar has an entry for the root directory
	opaque   bool // the layer hides all below it
}

// New keeps fix-up layers under dir, which is made when one is needed. It must be on the layers' file system.
func New(layers Layers, dir string, o Options) *Stacks {
	return &Stacks{layers: layers, dir: dir, opts: o, known: map[oci.DiffID]*known{}, fixed: map[oci.ChainID]string{}}
}

func (s *Stacks) layer(id oci.DiffID) (*known, error) {
	s.mu.Lock()
	k := s.known[id]
	s.mu.Unlock()
	if k != nil {
		return k, nil
	}
	k, err := s.learn(id)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if first := s.known[id]; first != nil { // another was faster; our mount goes with k
		return first, nil
	}
	s.known[id] = k
	return k, nil
}

func (s *Stacks) learn(id oci.DiffID) (*known, error) {
	meta, err := s.layers.Stat(id)
	if err != nil {
		return nil, err
	}
	place, err := s.layers.Place(id)
	if err != nil {
		return nil, err
	}
	k := &known{dir: place.Dir, root: meta.Root, opaque: meta.Opaque}
	if place.Dir == "" {
		if err := s.reach(id, place, k); err != nil {
			return nil, fmt.Errorf("layer %s: %w", id, err)
		}
	}
	if len(meta.Implicit) > 0 {
		k.implicit = make(map[string]bool, len(meta.Implicit))
		for _, name := range meta.Implicit {
			k.implicit[name] = true
		}
	}
	return k, nil
}

// reach mounts a layer's image. Where that cannot be, on a store that came here from elsewhere, the layer is unpacked for good.
func (s *Stacks) reach(id oci.DiffID, place layer.Place, k *known) (err error) {
	k.mounted, err = shared(s.opts.Shared).mount(id, place)
	if errors.Is(err, errdef.ErrUnsupported) || errors.Is(err, errdef.ErrDenied) {
		if uerr := s.layers.Unpack(context.Background(), id); uerr != nil { //nolint:forbidigo // for all who want the layer
			return errors.Join(err, uerr)
		}
		place, err = s.layers.Place(id)
		k.dir = place.Dir
		return err
	}
	if err != nil {
		return err
	}
	k.dir = inMount(k.mounted)
	return nil
}

// Tidy forgets what processes that have ended told of layers that they had mounted.
func (s *Stacks) Tidy() error { return shared(s.opts.Shared).tidy() }

// inMount is the root of a mount that is nowhere. It is reached through its descriptor, by every thread of this process in
// whatever namespace it is; "/." has even lstat see the directory rather than the link in /proc.
func inMount(m *os.File) string { return fmt.Sprintf("/proc/self/fd/%d/.", m.Fd()) }

func (s *Stacks) stack(ids []oci.DiffID) ([]*known, error) {
	stack := make([]*known, len(ids))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0)) // most of it is mounting images of layers
	for i, id := range ids {
		g.Go(func() (err error) {
			stack[i], err = s.layer(id)
			return err
		})
	}
	return stack, g.Wait()
}

// Lower gives the overlay lower directories of the stack ids (base first), topmost first, fix-up layers included. They are
// there, for this process, as long as the Stacks is: those of layers in tar form are mounts that end with it. A
// stack of fewer than two layers is filled up with an empty directory, so that the result is never a plain bind, in
// which whiteouts would be seen as files.
func (s *Stacks) Lower(ids []oci.DiffID) ([]string, error) {
	stack, err := s.stack(ids)
	if err != nil {
		return nil, err
	}
	lower := make([]string, 0, len(ids)+1)
	find := &finder{stack: stack, known: make([]map[string]string, len(stack))}
	for i, k := range stack {
		if k.opaque {
			lower = lower[:0] // overlay does not look for the mark in a root
		}
		if twice := slices.Index(lower, k.dir); twice >= 0 {
			// Overlay takes no directory twice. The upper of the two shows and hides all that the lower one does.
			lower = slices.Delete(lower, twice, twice+1)
		}
		lower = append(lower, k.dir)
		if len(k.implicit) == 0 || i == 0 {
			continue
		}
		fix, err := s.fixup(oci.Chain(ids[:i+1]), find, i)
		if err != nil {
			return nil, fmt.Errorf("directories of layer %s: %w", ids[i], err)
		}
		if fix != "" {
			lower = append(lower, fix)
		}
	}
	slices.Reverse(lower)
	for len(lower) < 2 {
		empty := filepath.Join(s.dir, fmt.Sprintf("empty%d", len(lower)))
		if err := os.MkdirAll(empty, 0o755); err != nil {
			return nil, fmt.Errorf("empty layer: %w", err)
		}
		lower = append(lower, empty)
	}
	return lower, nil
}

// Mount says where and how a stack is mounted.
type Mount struct {
	// Target is an existing directory.
	Target string
	// Writable is a directory that gets (or has) upper/, what is written, and work/, on the layers' file system.
	// Empty: the mount is read-only.
	Writable string
	// Over is a writable directory, of a container that may run, whose tree is shown read-only instead of the stack alone.
	Over string
	// Volatile leaves out every sync, for what is thrown away or sealed otherwise when something crashes.
	Volatile bool
	// Users shows the tree as one whose owners are ids of that user namespace. In the layers and in Writable they are what they
	// are without it. errdef.ErrUnsupported says that kernel, file system or driver cannot do it.
	Users *mount.Users
}

// Mount shows the stack ids, base first, at m.Target. Call it inside [Stacks.Private].
func (s *Stacks) Mount(ids []oci.DiffID, m Mount) error {
	lower, err := s.Lower(ids)
	if err != nil {
		return err
	}
	if m.Writable != "" {
		if err := s.prepare(ids, filepath.Join(m.Writable, "upper"), filepath.Join(m.Writable, "work")); err != nil {
			return fmt.Errorf("writable layer %s: %w", m.Writable, err)
		}
	}
	if m.Over != "" && madeBy(m) == "" {
		if _, err := os.Lstat(filepath.Join(m.Over, "upper")); errors.Is(err, os.ErrNotExist) {
			m.Over = "" // nothing was written yet
		}
	}
	return s.show(view{Mount: m, lower: lower, chain: chainOf(ids)})
}

// Unmount takes away what [Stacks.Mount] showed. All that was written in it has arrived.
func (s *Stacks) Unmount(m Mount) error { return s.using(m).unmount(view{Mount: m}) }

// prepare makes the upper directory with the stack's root directory as its model, because overlay shows the upper one,
// and a fresh work directory: a volatile mount leaves a mark in it that forbids the next mount.
func (s *Stacks) prepare(ids []oci.DiffID, upper, work string) error {
	if err := os.RemoveAll(work); err != nil {
		return err
	}
	if err := os.MkdirAll(work, 0o700); err != nil {
		return err
	}
	if err := os.Mkdir(upper, 0o755); errors.Is(err, os.ErrExist) {
		return nil
	} else if err != nil {
		return err
	}
	stack, err := s.stack(ids)
	if err != nil {
		return err
	}
	if err := os.Chmod(upper, 0o755); err != nil { // whatever the umask
		return err
	}
	if model := rootOf(stack); model != "" {
		return s.copyMeta(model, upper)
	}
	return nil
}

// rootOf gives the directory whose root has the metadata that the stack's tars give it, or "".
func rootOf(stack []*known) string {
	for i := len(stack) - 1; i >= 0; i-- {
		if stack[i].root {
			return stack[i].dir
		}
	}
	return ""
}

// denied reports whether err is the refusal that IgnoreOwner tolerates.
func (s *Stacks) denied(err error) bool {
	return s.opts.IgnoreOwner && (errors.Is(err, os.ErrPermission) || errors.Is(err, unix.EINVAL))
}
