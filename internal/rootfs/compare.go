package rootfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"strata/internal/layer"
)

// comparison finds what a tree has that the stack it was copied from has not, and makes an overlay's upper directory of it.
type comparison struct {
	copier // into the upper directory
	s      *Stacks
	index  map[string]stamp
}

// compare fills the empty directory upper with what was changed in tree since index was written.
func (s *Stacks) compare(lower []string, tree string, index map[string]stamp, upper string) error {
	top, err := os.Open(upper)
	if err != nil {
		return err
	}
	defer top.Close()
	src, err := os.Open(tree)
	if err != nil {
		return err
	}
	defer src.Close()
	c := &comparison{copier{o: CopyOptions{IgnoreOwner: s.opts.IgnoreOwner}, top: top, links: map[inode]string{}}, s, index}
	var st unix.Stat_t
	if err := unix.Fstat(int(src.Fd()), &st); err != nil {
		return err
	}
	if err := c.dir(src, ".", lower, &place{f: top}); err != nil {
		return fmt.Errorf("comparing %s: %w", tree, err)
	}
	return c.meta(src, top, &st)
}

// place is a directory of the upper tree, made when something in it has changed.
type place struct {
	parent *place
	name   string
	f      *os.File
}

func (p *place) open() (*os.File, error) {
	if p.f != nil {
		return p.f, nil
	}
	parent, err := p.parent.open()
	if err != nil {
		return nil, err
	}
	if err := unix.Mkdirat(int(parent.Fd()), p.name, 0o700); err != nil {
		return nil, err
	}
	p.f, err = openat(parent, p.name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	return p.f, err
}

// dir compares one directory of the tree with the directories merged there, topmost first.
func (c *comparison) dir(src *os.File, rel string, lower []string, up *place) error {
	below, err := merged(lower)
	if err != nil {
		return err
	}
	names, err := src.Readdirnames(-1)
	if err != nil {
		return err
	}
	here := make(map[string]bool, len(names))
	for _, name := range names {
		here[name] = true
		if err := c.child(src, name, filepath.Join(rel, name), below[name], up); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for name := range below {
		_, copied := c.index[filepath.Join(rel, name)]
		if here[name] || !copied { // what could not be copied is not gone
			continue
		}
		d, err := up.open()
		if err != nil {
			return err
		}
		if err := layer.MakeWhiteout(int(d.Fd()), name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (c *comparison) child(src *os.File, name, rel string, below *node, up *place) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(src.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return nil // removed meanwhile
		}
		return err
	}
	was, known := c.index[rel]
	now, err := stampOf(int(src.Fd()), name)
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return c.subdir(src, name, rel, &st, judgement{known && was == now, known && was.file == now.file}, below, up)
	}
	if known && was == now {
		return nil
	}
	if known && was.file == now.file && below != nil {
		same, err := c.same(src, name, &st, below)
		if same || err != nil {
			return err
		}
	}
	d, err := up.open()
	if err != nil {
		return err
	}
	return c.entry(src, d, name, rel)
}

// judgement says what became of a file.
type judgement struct {
	same  bool // nothing touched it
	still bool // it is the file that it was
}

// subdir compares a directory. One that stands where the stack has something else, or another directory, hides that.
func (c *comparison) subdir(src *os.File, name, rel string, st *unix.Stat_t, is judgement, below *node, up *place) error {
	dir, err := openat(src, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	own := &place{parent: up, name: name}
	defer func() {
		if own.f != nil {
			own.f.Close()
		}
	}()
	over := below != nil && below.st.Mode&unix.S_IFMT == unix.S_IFDIR
	var lower []string
	opaque := false
	switch {
	case over && is.still:
		lower = below.sub
	case over:
		if opaque, err = c.hide(own); err != nil {
			return err
		}
		if !opaque {
			lower = below.sub
		}
	}
	if !is.same {
		if _, err := own.open(); err != nil {
			return err
		}
	}
	if err := c.dir(dir, rel, lower, own); err != nil {
		return err
	}
	if own.f == nil {
		return nil
	}
	if err := c.meta(dir, own.f, st); err != nil || !opaque {
		return err
	}
	return c.setOpaque(own)
}

// hide marks a directory so that nothing below it shows. It is false where the file system has no such marks: then each name
// needs a whiteout.
func (c *comparison) hide(p *place) (bool, error) {
	if _, err := p.open(); err != nil {
		return false, err
	}
	err := c.setOpaque(p)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return false, nil
	}
	return err == nil, err
}

func (c *comparison) setOpaque(p *place) error {
	return pathError("setxattr", p.name, unix.Fsetxattr(int(p.f.Fd()), c.s.mark(overlayOpaque), []byte("y"), 0))
}

// same looks whether a file that was touched is as the stack has it after all: so is another name of one that was removed.
func (c *comparison) same(src *os.File, name string, st *unix.Stat_t, below *node) (bool, error) {
	low := &below.st
	if st.Mode != low.Mode || st.Size != low.Size || st.Mtim != low.Mtim || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return false, nil
	}
	if !c.o.IgnoreOwner && (st.Uid != low.Uid || st.Gid != low.Gid) {
		return false, nil
	}
	now, err := openat(src, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false, err
	}
	defer now.Close()
	before, err := os.Open(below.path)
	if err != nil {
		return false, err
	}
	defer before.Close()
	mine, err := Xattrs(now)
	if err != nil {
		return false, err
	}
	theirs, err := Xattrs(before)
	if err != nil || !maps.EqualFunc(mine, theirs, bytes.Equal) {
		return false, err
	}
	return sameBytes(now, before)
}

func sameBytes(a, b io.Reader) (bool, error) {
	x, y := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(a, x)
		m, other := io.ReadFull(b, y)
		if n != m || !bytes.Equal(x[:n], y[:m]) {
			return false, nil
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return true, nil
		}
		if err = errors.Join(err, other); err != nil {
			return false, err
		}
	}
}
