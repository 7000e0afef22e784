package build

import (
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/layer"
	"strata/internal/rootfs"
)

// laterFiles are the regular files of a COPY that are not copied into its tree: they go from where they are straight into
// the layer, which is kept as a tar. In the tree are their directories only.
type laterFiles struct {
	files map[string]*layer.File // by real path, without leading slash
	items map[*layer.File]laterItem
	dirs  map[string]string // real paths of directories by the paths that were asked for; "" takes no such files
	roots map[*rootfs.Root]*rootfs.Root
}

// laterItem is where a file is.
type laterItem struct {
	*item
	from *rootfs.Root
}

func newLaterFiles() *laterFiles {
	return &laterFiles{
		files: map[string]*layer.File{}, items: map[*layer.File]laterItem{}, dirs: map[string]string{}, roots: map[*rootfs.Root]*rootfs.Root{},
	}
}

func (l *laterFiles) close() {
	for _, r := range l.roots {
		r.Close()
	}
}

// later says whether the step's files can go into the layer without being copied first: it must be known beforehand that
// nothing else needs to see them in the tree, and their sources must outlive the step's work on it. What the kernel mounts
// stays as long as somebody has it open; a copy of a stack, or one that a program shows, does not.
func (o *copyOp) later(t *mounted) (*laterFiles, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(t.target(), &st); err != nil || st.Type != unix.OVERLAYFS_SUPER_MAGIC || o.x.leaks != nil {
		return nil, err
	}
	for _, s := range o.copy.Sources {
		if s.Repo != nil {
			return nil, nil
		}
	}
	asTar, err := o.x.deps.Layers.AsTar()
	if err != nil || !asTar {
		return nil, err
	}
	return newLaterFiles(), nil
}

// laterKey is the name of a file in the tree, made ready to have it, or "" where it must be copied.
func (c *copier) laterKey(target string) (string, error) {
	if c.later == nil {
		return "", nil
	}
	asked := path.Dir(target)
	dir, known := c.later.dirs[asked]
	if !known {
		var err error
		if dir, err = c.laterDir(asked); err != nil {
			return "", err
		}
		c.later.dirs[asked] = dir
	}
	if dir == "" {
		return "", nil
	}
	return strings.TrimPrefix(path.Join(dir, path.Base(target)), "/"), nil
}

// laterDir gives a directory the modification time that making a file in it would. One with a default ACL gives files
// what only the kernel knows.
func (c *copier) laterDir(dir string) (string, error) {
	real, err := c.to.Resolve(dir)
	if err != nil {
		return "", err
	}
	attrs, err := c.to.Xattrs(real)
	if err != nil {
		return "", err
	}
	if _, ok := attrs["system.posix_acl_default"]; ok {
		return "", nil
	}
	return real, c.to.Chtimes(real, time.Time{}, time.Now())
}

// forget says that something else has, or had, the name.
func (c *copier) forget(target string) error {
	key, err := c.laterKey(target)
	if key != "" {
		delete(c.later.files, key)
	}
	return err
}

// putLater takes a regular file for the layer, or gives false when it must be copied.
func (c *copier) putLater(i *item, target string) (bool, error) {
	key, err := c.laterKey(target)
	if key == "" || err != nil {
		return false, err
	}
	if _, err := c.to.Lstat("/" + key); err == nil {
		if err := c.to.Remove("/" + key); err != nil {
			return false, err
		}
	}
	from := c.later.roots[c.from]
	if from == nil && i.open == nil {
		if from, err = c.from.Dup(); err != nil {
			return false, err
		}
		c.later.roots[c.from] = from
	}
	uid, gid := c.owner(i)
	capabilities := c.capabilities
	file := &layer.File{
		Mode: c.mode(i), UID: uid, GID: gid, MTime: c.mtime(i), Size: i.stat.Size,
		Open: func() (io.ReadCloser, map[string][]byte, error) {
			f, err := openUnchanged(from, i)
			if err != nil {
				return nil, nil, err
			}
			attrs, err := carriedXattrs(f, capabilities)
			if err != nil {
				f.Close()
				return nil, nil, err
			}
			return &sourceFile{f, i}, attrs, nil
		},
	}
	c.later.files[key], c.later.items[file] = file, laterItem{i, from}
	return true, nil
}

// allNow copies what was to go into the layer later: an archive is unpacked upon it. Times of directories stay.
func (c *copier) allNow() error {
	if c.later == nil {
		return nil
	}
	later, from := c.later, c.from
	c.later = nil
	defer func() { c.from = from }()
	times, made := map[string]time.Time{}, map[*layer.File]string{}
	for key, file := range later.files {
		target := "/" + key
		if st, err := c.to.Stat(path.Dir(target)); err != nil {
			return err
		} else if dir := path.Dir(target); times[dir].IsZero() {
			times[dir] = time.Unix(st.Mtim.Unix())
		}
		it := later.items[file]
		c.from = it.from
		var err error
		if made[file] != "" {
			err = c.to.Link(made[file], target)
		} else {
			err = c.file(it.item, target)
		}
		if err != nil {
			return fmt.Errorf("copying %q to %q: %w", it.path, target, err)
		}
		made[file] = target
	}
	clear(later.files)
	for dir, at := range times {
		if err := c.to.Chtimes(dir, time.Time{}, at); err != nil {
			return err
		}
	}
	return nil
}

// linkLater gives a file that goes into the layer later another name, or false when first is not such a file.
func (c *copier) linkLater(i *item, first, target string) (bool, error) {
	from, err := c.laterKey(first)
	if from == "" || err != nil || c.later.files[from] == nil {
		return false, err
	}
	key, err := c.laterKey(target)
	if err != nil {
		return false, err
	}
	if key == "" { // where a file must be copied it cannot be a name of one that is not
		return true, c.file(i, target)
	}
	c.later.files[key] = c.later.files[from]
	return true, nil
}

// hasLater says whether a file goes to target later.
func (c *copier) hasLater(target string) (bool, error) {
	if c.later == nil || len(c.later.files) == 0 {
		return false, nil
	}
	key, err := c.laterKey(target)
	return c.later.files[key] != nil, err
}

// wayFree fails where a directory would stand at or below a file that goes into the layer later.
func (c *copier) wayFree(dir string) error {
	if c.later == nil || len(c.later.files) == 0 {
		return nil
	}
	real, err := c.to.Landing(dir)
	if err != nil {
		return err
	}
	for p := strings.Trim(real, "/"); p != "" && p != "."; p = path.Dir(p) {
		if c.later.files[p] != nil {
			return fmt.Errorf("/%s is a file: cannot copy a directory to what is none: %w", p, errdef.ErrConflict)
		}
	}
	return nil
}

// sourceFile is a file of a source tree whose end must be that of the file that was listed.
type sourceFile struct {
	*os.File
	item *item
}

func (s *sourceFile) Close() error {
	var now unix.Stat_t
	err := unix.Fstat(int(s.Fd()), &now)
	if err == nil && idOf(&now) != idOf(&s.item.stat) {
		err = changed(s.item.path)
	}
	if cerr := s.File.Close(); err == nil {
		err = cerr
	}
	return err
}
