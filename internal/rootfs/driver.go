package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/mount"
	"strata/internal/oci"
)

// The drivers by name, best first. Each gives the same trees.
const (
	Overlay = "overlay"        // the kernel's
	Fuse    = "fuse-overlayfs" // a program's, by /dev/fuse
	Copy    = "copy"           // all files copied: for whoever may mount nothing
)

// Drivers are the names in the order in which they are tried.
func Drivers() []string { return []string{Overlay, Fuse, Copy} }

// driver shows stacks as trees.
type driver interface {
	// mount shows v at its target.
	mount(v view) error
	// unmount takes it away again.
	unmount(v view) error
	// changes gives what was written below v.writable as the upper directory of a native overlay. temp is an empty directory
	// to make it in while the tree may be in use; without one nobody uses it any more, and it may be taken apart.
	changes(v view, temp string) (upper string, err error)
}

// view is one stack at one place.
type view struct {
	Mount
	lower []string // topmost first, at least two
	chain oci.ChainID
}

// choice is the driver that this process uses, found out when the first stack is mounted.
type choice struct {
	mu     sync.Mutex
	chosen string
	copies *copies

	mounts atomic.Int32 // whether this process may mount: 0 is not known yet
}

const (
	mountsYes = 1
	mountsNo  = 2
)

// mayMount tells whether this process gets a mount namespace of its own.
func (c *choice) mayMount() bool {
	if c.mounts.Load() == 0 {
		_ = c.private(func() error { return nil })
	}
	return c.mounts.Load() == mountsYes
}

func (c *choice) private(fn func() error) error {
	if c.mounts.Load() == mountsNo {
		return fn()
	}
	entered := false
	err := mount.Private(func() error {
		entered = true
		c.mounts.Store(mountsYes)
		return fn()
	})
	if entered || c.mounts.Load() == mountsYes {
		return err
	}
	c.mounts.Store(mountsNo)
	return fn()
}

// Private runs fn where [Stacks.Mount] may be called: in mount.Private, or as it is where this process may not mount.
func (s *Stacks) Private(fn func() error) error { return s.choice.private(fn) }

// Mounts tells whether this process may mount anything.
func (s *Stacks) Mounts() bool { return s.choice.mayMount() }

// Driver names the driver in use; "" as long as nothing was mounted.
func (s *Stacks) Driver() string {
	s.choice.mu.Lock()
	defer s.choice.mu.Unlock()
	return s.choice.chosen
}

// show mounts v with the driver that was chosen, or chooses: the first that works.
func (s *Stacks) show(v view) error {
	if v.Users != nil {
		return s.showMapped(v)
	}
	if made := madeBy(v.Mount); made != "" {
		return s.driver(made).mount(v)
	}
	name := s.Driver()
	if name == "" {
		name = s.opts.Driver
	}
	if name != "" {
		return s.driver(name).mount(v)
	}
	var refused []error
	for _, name := range Drivers() {
		err := s.driver(name).mount(v)
		if err == nil {
			s.choose(name, errors.Join(refused...))
			return nil
		}
		refused = append(refused, fmt.Errorf("%s: %w", name, err))
		if !s.next(v, err) {
			break
		}
	}
	return errors.Join(refused...)
}

// showMapped mounts v with the one driver that can show owners mapped.
func (s *Stacks) showMapped(v view) error {
	for _, other := range []string{madeBy(v.Mount), s.Driver(), s.opts.Driver} {
		if other != "" && other != Overlay {
			return fmt.Errorf("storage driver %s cannot show owners as a user namespace has them, only %s can: %w", other, Overlay, errdef.ErrUnsupported)
		}
	}
	return kernelOverlay{s}.mount(v)
}

// next says whether another driver may do what one refused: not where a layer is missing or the stack is too high, nor over
// changes that only overlay can read.
func (s *Stacks) next(v view, err error) bool {
	if v.Writable != "" {
		if empty, e := emptyDir(filepath.Join(v.Writable, "upper")); e != nil || !empty {
			return false
		}
	}
	return !errors.Is(err, errdef.ErrLimit) && !errors.Is(err, errdef.ErrNotFound) && !errors.Is(err, unix.ENOSPC)
}

func emptyDir(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	return len(entries) == 0, err
}

func (s *Stacks) choose(name string, refused error) {
	s.choice.mu.Lock()
	defer s.choice.mu.Unlock()
	if s.choice.chosen == "" && name != Overlay && s.opts.Notice != nil {
		s.opts.Notice(name, refused)
	}
	s.choice.chosen = name
}

// driver gives a driver by its name.
func (s *Stacks) driver(name string) driver {
	switch name {
	case Overlay:
		return kernelOverlay{s}
	case Fuse:
		return fuseOverlay{s}
	case Copy:
		s.choice.mu.Lock()
		defer s.choice.mu.Unlock()
		if s.choice.copies == nil {
			s.choice.copies = newCopies(s)
		}
		return s.choice.copies
	}
	return unknown(name)
}

// madeBy tells who made what is in the writable directory of a view, where no other driver understands it; else "".
func madeBy(m Mount) string {
	for _, dir := range []string{m.Writable, m.Over} {
		if dir == "" {
			continue
		}
		if _, err := os.Lstat(filepath.Join(dir, treeName)); err == nil {
			return Copy
		}
		if _, err := os.Lstat(filepath.Join(dir, fuseName)); err == nil {
			return Fuse
		}
	}
	return ""
}

// using is the driver that shows what is mounted.
func (s *Stacks) using(m Mount) driver {
	if made := madeBy(m); made != "" {
		return s.driver(made)
	}
	if name := s.Driver(); name != "" {
		return s.driver(name)
	}
	if s.opts.Driver != "" {
		return s.driver(s.opts.Driver)
	}
	return s.driver(Overlay)
}

// unknown is the driver of a name that there is not.
type unknown string

func (u unknown) err() error {
	return errdef.WithHint(fmt.Errorf("storage driver %q: %w", string(u), errdef.ErrInvalid), "one of: "+strings.Join(Drivers(), ", "))
}

func (u unknown) mount(view) error                     { return u.err() }
func (u unknown) unmount(view) error                   { return u.err() }
func (u unknown) changes(view, string) (string, error) { return "", u.err() }

// kernelOverlay is the kernel's own.
type kernelOverlay struct{ s *Stacks }

func (k kernelOverlay) mount(v view) error {
	o := mount.Overlay{Lower: v.lower, Userxattr: k.s.opts.Userxattr, Volatile: v.Volatile, Users: v.Users}
	if v.Over != "" {
		o.Lower = append([]string{filepath.Join(v.Over, "upper")}, v.lower...)
	}
	if v.Writable != "" {
		o.Upper, o.Work = filepath.Join(v.Writable, "upper"), filepath.Join(v.Writable, "work")
	}
	return o.Mount(v.Target)
}

func (kernelOverlay) unmount(v view) error { return mount.Unmount(v.Target) }

func (kernelOverlay) changes(v view, _ string) (string, error) {
	return filepath.Join(v.Writable, "upper"), nil
}

// Changes are what was written over a stack, as layer.Store takes it.
type Changes struct {
	// Upper is an overlay upper directory; it is not there if nothing was ever written.
	Upper string
	// Lower are the directories below it, topmost first.
	Lower []string
	// Sockets in Upper are whiteouts: layer.MakeWhiteout made them.
	Sockets bool

	keep func(ids []oci.DiffID, stubs []string)
}

// Keep tells that the changes, without the stubs, have become the last layer of ids: a driver that copies goes on from the
// tree it has when that stack is mounted next.
func (c Changes) Keep(ids []oci.DiffID, stubs []string) {
	if c.keep != nil {
		c.keep(ids, stubs)
	}
}

// Changes gives what was written in m.Writable over the stack ids. temp is an empty directory to make a copy in if the tree
// may be in use; "" says that it was unmounted, for good: then Upper belongs to the caller, who may rename it away.
func (s *Stacks) Changes(ids []oci.DiffID, m Mount, temp string) (Changes, error) {
	lower, err := s.Lower(ids)
	if err != nil {
		return Changes{}, err
	}
	v := view{Mount: m, lower: lower, chain: chainOf(ids)}
	d := s.using(m)
	upper, err := d.changes(v, temp)
	if err != nil {
		return Changes{}, fmt.Errorf("changes in %s: %w", m.Writable, err)
	}
	copies, ok := d.(*copies)
	c := Changes{Upper: upper, Lower: lower, Sockets: ok}
	if ok && temp == "" {
		c.keep = func(ids []oci.DiffID, stubs []string) { copies.keep(m.Writable, ids, stubs) }
	}
	return c, nil
}

func chainOf(ids []oci.DiffID) oci.ChainID {
	if len(ids) == 0 {
		return ""
	}
	return oci.Chain(slices.Clone(ids))
}
