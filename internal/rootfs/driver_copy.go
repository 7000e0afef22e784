package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/mount"
	"strata/internal/oci"
)

const (
	treeName  = "tree"       // in a writable directory: the whole tree
	indexName = "tree.index" // and how each file of it was when it was made
	maxKept   = 4            // trees that wait for the next step
)

// copies is the driver that copies: a writable view is a tree of its own, which reflinks make cheap where there are such.
// What was changed in it is found out by comparing: every file whose inode or change time is not the noted one.
//
// Where mounts can be made the tree is bound at the target, else the target becomes a symbolic link to it.
type copies struct {
	s *Stacks

	mu     sync.Mutex
	kept   []*keptTree // oldest first
	shared map[string]*keptTree
}

// keptTree is a tree that nobody writes to.
type keptTree struct {
	chain   oci.ChainID
	dir     string // has tree and tree.index
	readers int
}

func newCopies(s *Stacks) *copies { return &copies{s: s, shared: map[string]*keptTree{}} }

func (c *copies) mount(v view) error {
	switch {
	case v.Writable != "":
		if err := others(v.Writable); err != nil {
			return err
		}
		if err := c.writable(v); err != nil {
			return fmt.Errorf("copying the tree: %w", err)
		}
		return c.expose(filepath.Join(v.Writable, treeName), v.Target, false)
	case v.Over != "" && madeBy(v.Mount) == Copy:
		return c.expose(filepath.Join(v.Over, treeName), v.Target, true)
	}
	t, err := c.reader(v)
	if err != nil {
		return fmt.Errorf("copying the tree: %w", err)
	}
	return c.expose(filepath.Join(t.dir, treeName), v.Target, true)
}

// others refuses a writable directory in which another driver has kept changes.
func others(writable string) error {
	empty, err := emptyDir(filepath.Join(writable, "upper"))
	if err != nil || empty || madeBy(Mount{Writable: writable}) == Copy {
		return err
	}
	return fmt.Errorf("%s was written by overlay, which does not work here: %w", writable, errdef.ErrUnsupported)
}

// expose shows a tree at target.
func (c *copies) expose(tree, target string, readonly bool) error {
	if c.s.choice.mayMount() {
		return mount.Bind(tree, target, readonly, false)
	}
	if err := os.Remove(target); err != nil {
		return err
	}
	return os.Symlink(tree, target)
}

func (c *copies) unmount(v view) error {
	c.mu.Lock()
	if t := c.shared[v.Target]; t != nil {
		delete(c.shared, v.Target)
		t.readers--
	}
	c.mu.Unlock()
	if st, err := os.Lstat(v.Target); err == nil && st.Mode()&fs.ModeSymlink != 0 {
		return errors.Join(os.Remove(v.Target), os.Mkdir(v.Target, 0o700))
	}
	return mount.Unmount(v.Target)
}

// writable makes sure that v.Writable has its tree.
func (c *copies) writable(v view) error {
	tree := filepath.Join(v.Writable, treeName)
	if _, err := os.Lstat(tree); err == nil {
		return nil
	}
	if t := c.take(v.chain); t != nil {
		err := os.Rename(filepath.Join(t.dir, indexName), filepath.Join(v.Writable, indexName))
		return errors.Join(err, os.Rename(filepath.Join(t.dir, treeName), tree), removeTree(t.dir))
	}
	return c.make(v.lower, v.Writable)
}

// make makes tree and index in dir; a tree that is there is whole.
func (c *copies) make(lower []string, dir string) error {
	tmp := filepath.Join(dir, treeName+".new")
	if err := removeTree(tmp); err != nil {
		return err
	}
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return err
	}
	if err := unpackStack(lower, tmp, CopyOptions{IgnoreOwner: c.s.opts.IgnoreOwner}); err != nil {
		return errors.Join(err, removeTree(tmp))
	}
	if err := writeIndex(tmp, filepath.Join(dir, indexName)); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, treeName))
}

// take takes over a kept tree that nobody reads.
func (c *copies) take(chain oci.ChainID) *keptTree {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, t := range c.kept {
		if t.chain == chain && t.readers == 0 {
			c.kept = slices.Delete(c.kept, i, i+1)
			return t
		}
	}
	return nil
}

// reader gives a tree to read, made if there is none, until the view's target is unmounted.
func (c *copies) reader(v view) (*keptTree, error) {
	c.mu.Lock()
	for _, t := range c.kept {
		if t.chain == v.chain {
			t.readers++
			c.shared[v.Target] = t
			c.mu.Unlock()
			return t, nil
		}
	}
	c.mu.Unlock()
	t := &keptTree{chain: v.chain, readers: 1}
	var err error
	if t.dir, err = c.place(v.Target); err != nil {
		return nil, err
	}
	if err := c.make(v.lower, t.dir); err != nil {
		return nil, errors.Join(err, removeTree(t.dir))
	}
	c.add(t, v.Target)
	return t, nil
}

// place makes a directory for a tree: below the process's temporary directory, or beside the target.
func (c *copies) place(target string) (string, error) {
	parent := filepath.Dir(target)
	if c.s.opts.TempDir != nil {
		var err error
		if parent, err = c.s.opts.TempDir(); err != nil {
			return "", err
		}
	}
	return os.MkdirTemp(parent, "tree-")
}

// add keeps a tree and throws the oldest away that are too many.
func (c *copies) add(t *keptTree, target string) {
	for _, old := range c.insert(t, target) {
		_ = removeTree(old.dir) // what is left of it goes with the process
	}
}

// insert is add that gives what is to be thrown away.
func (c *copies) insert(t *keptTree, target string) (old []*keptTree) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if target != "" {
		c.shared[target] = t
	}
	c.kept = append(c.kept, t)
	for i := 0; len(c.kept) > maxKept && i < len(c.kept); {
		if c.kept[i].readers > 0 {
			i++
			continue
		}
		old = append(old, c.kept[i])
		c.kept = slices.Delete(c.kept, i, i+1)
	}
	return old
}

// keep takes the tree of a writable directory whose changes have become the last layer of ids.
func (c *copies) keep(writable string, ids []oci.DiffID, stubs []string) {
	if c.s.opts.TempDir == nil || len(ids) == 0 {
		return
	}
	dir, err := c.place("")
	if err != nil {
		return
	}
	if err := c.moveTree(writable, dir, ids, stubs); err != nil {
		_ = removeTree(dir) // the next step copies its tree anew
		return
	}
	c.add(&keptTree{chain: chainOf(ids), dir: dir}, "")
}

func (c *copies) moveTree(writable, dir string, ids []oci.DiffID, stubs []string) error {
	tree := filepath.Join(dir, treeName)
	if err := os.Rename(filepath.Join(writable, treeName), tree); err != nil {
		return err
	}
	if len(stubs) > 0 {
		lower, err := c.s.Lower(ids)
		if err != nil {
			return err
		}
		if err := dropStubs(tree, lower, stubs); err != nil {
			return err
		}
	}
	return writeIndex(tree, filepath.Join(dir, indexName))
}

// dropStubs removes the stubs that nothing was put in, and gives the directories they were in the times that the stack,
// whose layers lack the stubs, has for them.
func dropStubs(tree string, lower, stubs []string) error {
	root, err := OpenRoot(tree)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, stub := range slices.Backward(stubs) {
		st, err := root.Lstat(stub)
		if err != nil || st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size > 0 {
			continue // it has become something, or is gone
		}
		if root.Remove(stub) != nil {
			continue // it is not empty
		}
		parent := filepath.Dir(filepath.Clean("/" + stub))
		for _, dir := range lower {
			var model unix.Stat_t
			if unix.Lstat(filepath.Join(dir, parent), &model) != nil {
				continue
			}
			mtime := time.Unix(model.Mtim.Sec, model.Mtim.Nsec)
			if err := root.Chtimes(parent, time.Time{}, mtime); err != nil {
				return err
			}
			break
		}
	}
	return nil
}

func (c *copies) changes(v view, temp string) (string, error) {
	tree := filepath.Join(v.Writable, treeName)
	if _, err := os.Lstat(tree); errors.Is(err, os.ErrNotExist) {
		return filepath.Join(v.Writable, "upper"), nil // never mounted
	}
	upper := temp
	if temp == "" {
		upper = filepath.Join(v.Writable, "upper")
		if err := os.Mkdir(upper, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return "", err
		}
	}
	index, err := readIndex(filepath.Join(v.Writable, indexName))
	if err != nil {
		return "", err
	}
	if err := c.s.compare(v.lower, tree, index, upper); err != nil {
		return "", err
	}
	return upper, nil
}

// removeTree removes a tree in which directories may have lost their permissions, as they do for who is not root.
func removeTree(dir string) error {
	err := os.RemoveAll(dir)
	if !errors.Is(err, os.ErrPermission) {
		return err
	}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, _ error) error {
		if d != nil && d.IsDir() {
			_ = unix.Chmod(path, 0o700) // RemoveAll says what it could not remove
		}
		return nil
	})
	return os.RemoveAll(dir)
}
