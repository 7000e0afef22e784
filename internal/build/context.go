package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/dockerfile"
	"strata/internal/errdef"
	"strata/internal/progress"
	"strata/internal/rootfs"
)

// Context is a build context: a directory that COPY and ADD take from, less what its ignore file leaves out. It is walked
// in place, at most once, when the first step asks; nothing is ever copied that no step selects.
type Context struct {
	dir        string
	ignore     *dockerfile.Ignore
	ignoreName string
	index      *statIndex
	// from is where it was fetched from, "" for a directory of the user's own.
	from string

	plainModes bool // only whether a file can be executed counts

	walk func() error
	// Of the build that walks it: where progress goes, and the Dockerfile's name for messages.
	sink       progress.Sink
	dockerfile string
	// What progress calls the walk, in buildx's words.
	vertex, title string

	root *rootfs.Root
	tree *tree
}

// NewContext is the context in dir without what ignore, read from the file ignoreName, leaves out. cacheDir is where the
// digests of files are remembered: R/cache/context.
func NewContext(dir string, ignore *dockerfile.Ignore, ignoreName, cacheDir string) (*Context, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("build context %q: %w", dir, err)
	}
	info, err := os.Stat(abs)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("build context %q: %w", dir, errdef.ErrNotFound)
	case err != nil:
		return nil, fmt.Errorf("build context %q: %w", dir, err)
	case !info.IsDir():
		return nil, fmt.Errorf("build context %q is not a directory: %w", dir, errdef.ErrInvalid)
	}
	c := &Context{dir: abs, ignore: ignore, ignoreName: ignoreName, index: newStatIndex(cacheDir, abs), sink: progress.Discard, vertex: contextVertex, title: contextName}
	c.walk = sync.OnceValue(c.reported)
	return c, nil
}

// NewFetchedContext is [NewContext] for what was fetched from somewhere into dir, for this build alone.
func NewFetchedContext(dir, from string, ignore *dockerfile.Ignore, ignoreName string) (*Context, error) {
	c, err := NewContext(dir, ignore, ignoreName, "")
	if err != nil {
		return nil, err
	}
	c.index, c.from = newFetchedIndex(), from
	return c, nil
}

// The build's own context in the progress.
const (
	contextVertex = "context"
	contextName   = "[internal] load build context"
)

// reported is load, told to the sink: how many files there are, and how large they are. None of them is moved.
func (c *Context) reported() error {
	emit := func(e progress.Event) {
		e.Time, e.Vertex, e.Name = time.Now(), c.vertex, c.title
		c.sink.Emit(e)
	}
	emit(progress.Event{State: progress.Started})
	if err := c.load(); err != nil {
		emit(progress.Event{State: progress.Failed, Error: err.Error()})
		return err
	}
	files, size := c.tree.size()
	emit(progress.Event{State: progress.Status, Current: size, Note: fmt.Sprintf("%d files:", files)})
	emit(progress.Event{State: progress.Done})
	return nil
}

// Close gives up the context's directory. Nothing is read any more.
func (c *Context) Close() {
	if c != nil && c.root != nil {
		c.root.Close()
	}
}

// load opens the root and lists the tree.
func (c *Context) load() error {
	root, err := rootfs.OpenRoot(c.dir)
	if err != nil {
		return fmt.Errorf("build context: %w", err)
	}
	c.root = root
	now := time.Now()
	var reading sync.WaitGroup
	reading.Go(func() { c.index.begin(now) })
	defer reading.Wait()
	w := &walker{context: c, tree: newTree(c.index.about())}
	if err := w.dir(nil, ".", dockerfile.Verdict{}, nil); err != nil {
		return fmt.Errorf("build context: %w", err)
	}
	c.tree = w.tree
	return nil
}

// item is a file, directory or link of a source tree.
type item struct {
	path string // relative to the tree's root, slash-separated; "." is the root
	stat unix.Stat_t
	link string // target of a symbolic link

	implied bool     // a directory that is there only because of what is in it
	open    *os.File // the file itself, where there is no tree to find it in
}

func (i *item) kind() uint32 { return i.stat.Mode & unix.S_IFMT }
func (i *item) isDir() bool  { return i.kind() == unix.S_IFDIR }
func (i *item) perm() uint32 { return i.stat.Mode & 0o7777 }

// tree lists items in the order of a walk: a directory before what is in it, all that is below it in one run.
type tree struct {
	items  []item
	byPath map[string]int
}

// newTree is an empty tree that will have about size items.
func newTree(size int) *tree {
	return &tree{items: make([]item, 0, size), byPath: make(map[string]int, size)}
}

func (t *tree) add(i item) {
	t.byPath[i.path] = len(t.items)
	t.items = append(t.items, i)
}

// size counts the regular files and their bytes.
func (t *tree) size() (files int, bytes int64) {
	for i := range t.items {
		if t.items[i].kind() == unix.S_IFREG {
			files++
			bytes += t.items[i].stat.Size
		}
	}
	return files, bytes
}

func (t *tree) get(name string) *item {
	n, ok := t.byPath[name]
	if !ok {
		return nil
	}
	return &t.items[n]
}

// below lists what stands under the directory name, itself not included.
func (t *tree) below(name string) []item {
	if name == "." {
		return t.items[1:]
	}
	first := t.byPath[name] + 1
	end := first
	for end < len(t.items) && strings.HasPrefix(t.items[end].path, name+"/") {
		end++
	}
	return t.items[first:end]
}

type walker struct {
	context *Context
	tree    *tree
}

// dir lists one directory, which is name in the directory in. pending are the ignored directories on the way to it that come
// into the tree only when something below them does.
func (w *walker) dir(in *os.File, name string, verdict dockerfile.Verdict, pending []item) error {
	dir, self, err := w.open(in, name)
	if err != nil {
		return err
	}
	defer dir.Close()
	if verdict.Ignored {
		pending = append(pending[:len(pending):len(pending)], self)
	} else {
		w.add(self, &pending)
	}
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return err
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	for _, e := range entries {
		child := path.Join(name, e.Name())
		v := w.context.ignore.Child(verdict, child)
		switch {
		case e.IsDir():
			if w.context.ignore.SkipDir(child, v) {
				continue
			}
			err = w.dir(dir, child, v, pending)
		case !v.Ignored:
			err = w.file(dir, child, &pending)
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = nil // gone while we walked
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// open opens a directory and describes it. The context's own may be given by a link.
func (w *walker) open(in *os.File, name string) (*os.File, item, error) {
	i := item{path: name}
	at, rel, flags := unix.AT_FDCWD, w.context.dir, 0
	if in != nil {
		at, rel, flags = int(in.Fd()), path.Base(name), unix.O_NOFOLLOW
	}
	full := filepath.Join(w.context.dir, filepath.FromSlash(name))
	fd, err := unix.Openat(at, rel, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|flags, 0)
	if err != nil {
		return nil, i, &fs.PathError{Op: "open", Path: full, Err: err}
	}
	dir := os.NewFile(uintptr(fd), full)
	if err := unix.Fstat(fd, &i.stat); err != nil {
		dir.Close()
		return nil, i, &fs.PathError{Op: "stat", Path: full, Err: err}
	}
	if w.context.plainModes {
		i.plainMode()
	}
	return dir, i, nil
}

func (w *walker) file(in *os.File, name string, pending *[]item) error {
	i := item{path: name}
	base := path.Base(name)
	if err := unix.Fstatat(int(in.Fd()), base, &i.stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "lstat", Path: filepath.Join(w.context.dir, filepath.FromSlash(name)), Err: err}
	}
	if i.kind() == unix.S_IFLNK {
		link, err := os.Readlink(filepath.Join(w.context.dir, filepath.FromSlash(name)))
		if err != nil {
			return err
		}
		i.link = link
	}
	if w.context.plainModes {
		i.plainMode()
	}
	w.add(i, pending)
	return nil
}

// add lists an item after the ignored directories that it needs.
func (w *walker) add(i item, pending *[]item) {
	for _, p := range *pending {
		if w.tree.get(p.path) == nil {
			w.tree.add(p)
		}
	}
	*pending = nil
	w.tree.add(i)
}

// digests gives the sha256 of each regular file in items, by path, hashed in parallel where the index does not know it.
func (c *Context) digests(ctx context.Context, items []*item) (map[string]string, error) {
	return c.index.digests(ctx, c.root, "", items)
}
