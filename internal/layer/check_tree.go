package layer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// sameTree compares a layer's directory with one that its tar gave just now, and names the first path that differs.
func sameTree(ctx context.Context, have, want string) error {
	c := treeComparer{links: map[inode]string{}, other: map[inode]string{}}
	for i, dir := range []string{have, want} {
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
				err = fmt.Errorf("%w: %w", errdef.ErrCorrupt, err)
			}
			return fmt.Errorf("%s: %w", dir, err)
		}
		defer unix.Close(fd)
		c.roots[i] = fd
	}
	return c.dir(ctx, c.roots, "")
}

// treeComparer walks two trees at once; the first is the one in question.
type treeComparer struct {
	roots        [2]int
	links, other map[inode]string // the first name of what has several
	bufs         [2][]byte
}

func differs(p, what string) error {
	return fmt.Errorf("file %q: its %s is not what the tar says: %w", fsName+"/"+p, what, errdef.ErrCorrupt)
}

func (c *treeComparer) dir(ctx context.Context, fds [2]int, rel string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var names [2][]string
	for i, fd := range fds {
		entries, err := listDir(fd)
		if err != nil {
			return err
		}
		for _, e := range entries {
			names[i] = append(names[i], e.Name())
		}
		slices.Sort(names[i])
	}
	for _, name := range names[0] {
		if _, ok := slices.BinarySearch(names[1], name); !ok {
			return fmt.Errorf("file %q: the tar has no such file: %w", fsName+"/"+path.Join(rel, name), errdef.ErrCorrupt)
		}
	}
	for _, name := range names[1] {
		if _, ok := slices.BinarySearch(names[0], name); !ok {
			return fmt.Errorf("file %q is missing: %w", fsName+"/"+path.Join(rel, name), errdef.ErrCorrupt)
		}
		if err := c.child(ctx, fds, rel, name); err != nil {
			return err
		}
	}
	return c.attributes(fds, ".", rel) // last: of what is below, its modification time tells less
}

func (c *treeComparer) child(ctx context.Context, dirs [2]int, rel, name string) error {
	p := path.Join(rel, name)
	var st [2]unix.Stat_t
	for i, fd := range dirs {
		if err := unix.Fstatat(fd, name, &st[i], unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	if st[0].Mode&unix.S_IFMT != st[1].Mode&unix.S_IFMT {
		return differs(p, "type")
	}
	switch st[0].Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return c.both(dirs, name, unix.O_DIRECTORY, func(fds [2]int) error { return c.dir(ctx, fds, p) })
	case unix.S_IFREG:
		if err := c.attributes(dirs, name, p); err != nil {
			return err
		}
		return c.both(dirs, name, 0, func(fds [2]int) error { return c.content(ctx, fds, p) })
	case unix.S_IFLNK:
		var target [2]string
		for i, fd := range dirs {
			var err error
			if target[i], err = readlinkat(fd, name); err != nil {
				return err
			}
		}
		if target[0] != target[1] {
			return differs(p, "target")
		}
	}
	return c.attributes(dirs, name, p)
}

// both opens a name in both directories for fn.
func (c *treeComparer) both(dirs [2]int, name string, flags int, fn func(fds [2]int) error) error {
	var fds [2]int
	for i, fd := range dirs {
		var err error
		if fds[i], err = openat(fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK|flags, 0); err != nil {
			return err
		}
		defer unix.Close(fds[i])
	}
	return fn(fds)
}

// attributes compares what a name's inode says.
func (c *treeComparer) attributes(dirs [2]int, name, p string) error {
	var st [2]unix.Stat_t
	for i, fd := range dirs {
		if err := unix.Fstatat(fd, name, &st[i], unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	a, b := st[0], st[1]
	kind := a.Mode & unix.S_IFMT
	switch {
	case a.Mode != b.Mode:
		return differs(p, "mode")
	case a.Uid != b.Uid || a.Gid != b.Gid:
		return differs(p, "owner")
	case a.Mtim != b.Mtim && !IsWhiteout(&a):
		return differs(p, "modification time")
	case a.Rdev != b.Rdev:
		return differs(p, "device number")
	case kind == unix.S_IFREG && a.Size != b.Size:
		return differs(p, "size")
	case kind != unix.S_IFDIR && c.first(c.links, &a, p) != c.first(c.other, &b, p):
		return differs(p, "hard link")
	case kind == unix.S_IFREG || kind == unix.S_IFDIR:
		return c.xattrs(dirs, name, p)
	}
	return nil
}

// first gives the name under which an inode was met first.
func (c *treeComparer) first(met map[inode]string, st *unix.Stat_t, p string) string {
	if st.Nlink < 2 || IsWhiteout(st) { // overlay gives all whiteouts of a directory one inode, and a tar each its own
		return p
	}
	id := inode{st.Dev, st.Ino}
	if met[id] == "" {
		met[id] = p
	}
	return met[id]
}

func (c *treeComparer) xattrs(dirs [2]int, name, p string) error {
	var all [2]map[string]string
	err := c.both(dirs, name, 0, func(fds [2]int) error {
		for i, fd := range fds {
			keep, overlay, err := xattrsOf(fd)
			if err != nil {
				return err
			}
			all[i] = keep
			for _, name := range overlay {
				if all[i] == nil {
					all[i] = map[string]string{}
				}
				all[i][name] = ""
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for name, value := range all[1] {
		if got, ok := all[0][name]; !ok || got != value {
			return differs(p, "attribute "+name)
		}
	}
	if len(all[0]) != len(all[1]) {
		return differs(p, "list of attributes")
	}
	return nil
}

func (c *treeComparer) content(ctx context.Context, fds [2]int, p string) error {
	if c.bufs[0] == nil {
		c.bufs = [2][]byte{make([]byte, chunkSize), make([]byte, chunkSize)}
	}
	var files [2]*os.File
	for i, fd := range fds {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return err
		}
		files[i] = os.NewFile(uintptr(dup), p)
		defer files[i].Close()
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(files[0], c.bufs[0])
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return err
		}
		m, werr := io.ReadFull(files[1], c.bufs[1])
		if werr != nil && werr != io.EOF && werr != io.ErrUnexpectedEOF {
			return werr
		}
		if !bytes.Equal(c.bufs[0][:n], c.bufs[1][:m]) {
			return differs(p, "content")
		}
		if err != nil {
			return nil
		}
	}
}
