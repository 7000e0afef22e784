package rootfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// CopyOptions say what a copy of a tree may lack.
type CopyOptions struct {
	IgnoreOwner bool // owners and device nodes that may not be made are left out
	SkipOverlay bool // overlayfs's own attributes are left out: the copy is no layer
}

// CopyTree copies the content of the directory src into the directory dst, which exists and gets src's own owner, mode,
// times and attributes too. Hard links, sparse sizes, devices (so whiteouts), and extended attributes are kept; sockets
// are left out. Names are opened one at a time relative to their directory and never followed, so that whoever changes
// the source meanwhile leads the copy nowhere else.
func CopyTree(src *os.File, dst string, o CopyOptions) error {
	d, err := os.Open(dst)
	if err != nil {
		return err
	}
	defer d.Close()
	c := &copier{o: o, top: d, links: map[inode]string{}}
	if err := c.dir(src, d, "."); err != nil {
		return fmt.Errorf("copy of %s: %w", src.Name(), err)
	}
	return nil
}

type inode struct{ dev, ino uint64 }

type copier struct {
	o   CopyOptions
	top *os.File // the destination
	// links are the places of files with several names, relative to top: the copy's tree is ours alone, its paths are safe.
	links map[inode]string
}

func (c *copier) dir(src, dst *os.File, rel string) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(src.Fd()), &st); err != nil {
		return err
	}
	for {
		names, err := src.Readdirnames(256)
		for _, name := range names {
			if err := c.entry(src, dst, name, filepath.Join(rel, name)); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	return c.meta(src, dst, &st)
}

func (c *copier) entry(src, dst *os.File, name, rel string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(src.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return nil // removed while we read
		}
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
		if done, err := c.linked(&st, dst, name, rel); done || err != nil {
			return err
		}
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return c.subdir(src, dst, name, rel)
	case unix.S_IFREG:
		return c.file(src, dst, name)
	case unix.S_IFSOCK:
		return nil
	}
	return c.special(src, dst, name, &st)
}

// linked makes name a hard link when the file was copied under another name already.
func (c *copier) linked(st *unix.Stat_t, dst *os.File, name, rel string) (bool, error) {
	key := inode{st.Dev, st.Ino}
	if first, ok := c.links[key]; ok {
		err := unix.Linkat(int(c.top.Fd()), first, int(dst.Fd()), name, 0)
		if !errors.Is(err, unix.EMLINK) && !errors.Is(err, unix.ENOENT) {
			return err == nil, err
		}
	}
	c.links[key] = rel
	return false, nil
}

func openat(dir *os.File, name string, flags int, mode uint32) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (c *copier) subdir(src, dst *os.File, name, rel string) error {
	from, err := openat(src, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer from.Close()
	if err := unix.Mkdirat(int(dst.Fd()), name, 0o700); err != nil {
		return err
	}
	to, err := openat(dst, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer to.Close()
	return c.dir(from, to, rel)
}

func (c *copier) file(src, dst *os.File, name string) error {
	from, err := openat(src, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer from.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(from.Fd()), &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("changed its type while it was copied")
	}
	to, err := openat(dst, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer to.Close()
	if err := unix.IoctlFileClone(int(to.Fd()), int(from.Fd())); err != nil {
		if err := copyData(from, to, st.Size); err != nil {
			return err
		}
	}
	return c.meta(from, to, &st)
}

// copyData copies the parts of a file that hold data; its holes stay holes.
func copyData(from, to *os.File, size int64) error {
	if err := to.Truncate(size); err != nil {
		return err
	}
	for off := int64(0); off < size; {
		start, err := unix.Seek(int(from.Fd()), off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err != nil {
			return err
		}
		end, err := unix.Seek(int(from.Fd()), start, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if _, err := from.Seek(start, io.SeekStart); err != nil {
			return err
		}
		if _, err := to.Seek(start, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.CopyN(to, from, end-start); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		off = end
	}
	return nil
}

// special copies symbolic links, devices and fifos.
func (c *copier) special(src, dst *os.File, name string, st *unix.Stat_t) error {
	var err error
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		buf := make([]byte, unix.PathMax)
		n, e := unix.Readlinkat(int(src.Fd()), name, buf)
		if e != nil {
			return e
		}
		err = unix.Symlinkat(string(buf[:n]), int(dst.Fd()), name)
	} else {
		err = unix.Mknodat(int(dst.Fd()), name, st.Mode, int(st.Rdev))
		if c.o.IgnoreOwner && errors.Is(err, unix.EPERM) {
			return nil
		}
	}
	if err != nil {
		return err
	}
	if err := c.chown(unix.Fchownat(int(dst.Fd()), name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW)); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Fchmodat(int(dst.Fd()), name, st.Mode&0o7777, 0); err != nil {
			return err
		}
	}
	return unix.UtimesNanoAt(int(dst.Fd()), name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

func (c *copier) chown(err error) error {
	if c.o.IgnoreOwner && (errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL)) {
		return nil
	}
	return err
}

// meta gives dst the owner, attributes, mode and times of src. The order matters: chown drops set-id bits and file
// capabilities.
func (c *copier) meta(src, dst *os.File, st *unix.Stat_t) error {
	fd := int(dst.Fd())
	if err := c.chown(unix.Fchown(fd, int(st.Uid), int(st.Gid))); err != nil {
		return err
	}
	if err := c.xattrs(int(src.Fd()), fd); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, st.Mode&0o7777); err != nil {
		return err
	}
	return unix.UtimesNanoAt(fd, "", []unix.Timespec{st.Atim, st.Mtim}, unix.AT_EMPTY_PATH)
}

func (c *copier) xattrs(src, dst int) error {
	list := make([]byte, 64<<10)
	n, err := unix.Flistxattr(src, list)
	if errors.Is(err, unix.ENOTSUP) || n == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	var value []byte
	for raw := range bytes.SplitSeq(bytes.TrimSuffix(list[:n], []byte{0}), []byte{0}) {
		name := string(raw)
		if c.o.SkipOverlay && (overlayXattr(name)) {
			continue
		}
		if value == nil {
			value = make([]byte, 64<<10)
		}
		n, err := unix.Fgetxattr(src, name, value)
		if err != nil {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
		err = unix.Fsetxattr(dst, name, value[:n], 0)
		tolerable := errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) && !strings.HasPrefix(name, "user.")
		if err != nil && !tolerable {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
	}
	return nil
}
