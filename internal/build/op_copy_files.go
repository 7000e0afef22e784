package build

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/rootfs"
)

// copier copies selections from one tree into another, as BuildKit does it:
//
//   - what is in a directory is copied, not the directory itself: of that the destination gets the time only;
//   - a file goes into the destination if that is written with a slash or is a directory, else becomes it;
//   - directories made for the destination are 0755 or what --chmod says; those copied become like their source, whether
//     they exist or not;
//   - a file replaces what is no directory, links included, which are never followed inside a copied tree;
//   - links in the way to the destination are followed, inside the root;
//   - several names of one file stay that within one source;
//   - a socket becomes an empty file.
type copier struct {
	ctx      func() error
	from, to *rootfs.Root
	dest     string
	uid, gid int
	chmod    *Chmod
	epoch    *time.Time

	keepOwner    bool // owners as in the source
	capabilities bool // capabilities as in the source, like the other attributes
	anyOwner     bool // a chown that fails does not matter

	links map[fileID]string // files with several names, by what was made of the first
	times []dirTime
	files errgroup.Group // files on their way
	later *laterFiles    // files that are not copied here; nil: all are
}

// dirTime is a modification time that a directory gets once nothing is put into it any more.
type dirTime struct {
	path string
	at   time.Time
}

// selection copies one source.
func (c *copier) selection(s *selection) error {
	c.links = map[fileID]string{}
	if !s.top.isDir() {
		target, err := c.target(s.name)
		if err != nil {
			return err
		}
		if err := c.mkdir(path.Dir(target), c.chmod.newDir()); err != nil {
			return err
		}
		return errors.Join(c.one(&s.top, target), c.wait(), c.finish())
	}
	dest, err := c.into(s)
	if err != nil {
		return err
	}
	// Directories and links are made in order here, the bytes of files copied beside that. Within one selection no two
	// items have one target; the next selection begins when this one's files are there.
	c.files.SetLimit(copyWorkers)
	for i := range s.all {
		if err = c.one(&s.all[i], path.Join(dest, s.relative(&s.all[i]))); err != nil {
			break
		}
	}
	return errors.Join(err, c.wait(), c.finish())
}

// into makes the directory that what is in s goes into, and gives its path without links.
func (c *copier) into(s *selection) (string, error) {
	made := false
	if s.like && !toDirectory(c.dest) {
		_, err := c.to.Stat(c.dest)
		made = errors.Is(err, errdef.ErrNotFound)
	}
	if err := c.mkdir(c.dest, c.chmod.newDir()); err != nil {
		return "", err
	}
	dest, err := c.to.Resolve(c.dest)
	if err != nil {
		return "", err
	}
	if made {
		err = c.attributes(&s.top, dest)
	}
	c.times = append(c.times, dirTime{dest, c.mtime(&s.top)})
	return dest, err
}

// copyWorkers is how many files are copied at once: enough to overlap the disk and the kernel's work on names.
const copyWorkers = 4

// wait ends when all files are copied; the first error of any.
func (c *copier) wait() error {
	err := c.files.Wait()
	c.files = errgroup.Group{}
	return err
}

// target is where a file called name goes.
func (c *copier) target(name string) (string, error) {
	if toDirectory(c.dest) {
		return path.Join(c.dest, name), nil
	}
	st, err := c.to.Stat(c.dest)
	if errors.Is(err, errdef.ErrNotFound) {
		return c.to.Landing(c.dest) // where a link leads that leads to nothing yet
	}
	if err != nil {
		return "", err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return path.Join(c.dest, name), nil
	}
	// A link to a file is followed to the file that it names.
	return c.to.Resolve(c.dest)
}

// mkdir makes a directory that the destination needs.
func (c *copier) mkdir(dir string, mode uint32) error {
	if marked(dir) {
		return fmt.Errorf("destination %q: layers cannot hold names that begin with .wh.: %w", dir, errdef.ErrInvalid)
	}
	err := c.wayFree(dir)
	if err != nil {
		return fmt.Errorf("destination %q: %w", dir, err)
	}
	made, err := c.to.MkdirAll(dir, mode, c.uid, c.gid)
	if err != nil {
		return fmt.Errorf("destination %q: %w", dir, err)
	}
	if c.epoch != nil {
		for _, d := range made {
			c.times = append(c.times, dirTime{d, *c.epoch})
		}
	}
	return nil
}

// one copies an item to target, whose parent exists.
func (c *copier) one(i *item, target string) error {
	if err := c.ctx(); err != nil {
		return err
	}
	if marked(target) {
		return fmt.Errorf("file %q: layers cannot hold names that begin with .wh.: %w", i.path, errdef.ErrInvalid)
	}
	err := c.kind(i, target)
	if err != nil {
		return fmt.Errorf("copying %q to %q: %w", i.path, target, err)
	}
	return nil
}

// marked reports whether a layer would take a part of a path for the mark of something removed.
func marked(name string) bool { return strings.Contains("/"+name, "/.wh.") }

func (c *copier) kind(i *item, target string) error {
	if i.isDir() {
		return c.directory(i, target)
	}
	if st, err := c.to.Lstat(target); err == nil {
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return fmt.Errorf("cannot replace a directory by a file: %w", errdef.ErrConflict)
		}
		if i.kind() != unix.S_IFREG || i.stat.Nlink > 1 {
			if err := c.to.Remove(target); err != nil {
				return err
			}
		}
	}
	if err := c.forget(target); err != nil {
		return err
	}
	if first, ok := c.links[idOf(&i.stat)]; ok && i.stat.Nlink > 1 {
		if done, err := c.linkLater(i, first, target); done || err != nil {
			return err
		}
		return c.to.Link(first, target)
	}
	if i.stat.Nlink > 1 {
		c.links[idOf(&i.stat)] = target
	}
	switch i.kind() {
	case unix.S_IFREG:
		return c.regular(i, target)
	case unix.S_IFLNK:
		if err := c.to.Symlink(i.link, target); err != nil {
			return err
		}
		return c.attributes(i, target)
	case unix.S_IFSOCK:
		return c.stub(i, target)
	}
	if err := c.to.Mknod(target, i.kind()|i.perm(), i.stat.Rdev); err != nil {
		return err
	}
	return c.attributes(i, target)
}

// regular makes a file, beside others where nothing waits for it.
func (c *copier) regular(i *item, target string) error {
	if done, err := c.putLater(i, target); done || err != nil {
		return err
	}
	if i.stat.Nlink > 1 {
		return c.file(i, target) // it must be there when its next name is made
	}
	c.files.Go(func() error {
		if err := c.ctx(); err != nil {
			return err
		}
		if err := c.file(i, target); err != nil {
			return fmt.Errorf("copying %q to %q: %w", i.path, target, err)
		}
		return nil
	})
	return nil
}

// stub makes an empty file of what can live in no layer.
func (c *copier) stub(i *item, target string) error {
	f, err := c.to.Create(target, 0o600)
	if err != nil {
		return err
	}
	f.Close()
	return c.attributes(i, target)
}

// directory makes a directory like its source. One that exists becomes like it too; but one that is here only on the way to
// what is taken gives it no more than its mode.
func (c *copier) directory(i *item, target string) error {
	file, err := c.hasLater(target)
	if err != nil {
		return err
	}
	st, err := c.to.Lstat(target)
	if err == nil || file {
		if file || st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return fmt.Errorf("cannot copy a directory to what is none: %w", errdef.ErrConflict)
		}
		if i.implied {
			return c.to.Chmod(target, i.perm())
		}
		c.times = append(c.times, dirTime{target, c.mtime(i)})
		return c.attributes(i, target)
	}
	if !errors.Is(err, errdef.ErrNotFound) {
		return err
	}
	if _, err := c.to.MkdirAll(target, 0o755, -1, -1); err != nil {
		return err
	}
	c.times = append(c.times, dirTime{target, c.mtime(i)})
	return c.attributes(i, target)
}

func (c *copier) mtime(i *item) time.Time {
	return orEpoch(time.Unix(i.stat.Mtim.Unix()), c.epoch)
}

// attributes gives a thing at target, not followed, the owner, mode, attributes and time of i.
func (c *copier) attributes(i *item, target string) error {
	uid, gid := c.owner(i)
	if err := c.mayFail(c.to.Chown(target, uid, gid)); err != nil {
		return err
	}
	if i.kind() != unix.S_IFLNK {
		if err := c.to.Chmod(target, c.mode(i)); err != nil {
			return err
		}
	}
	if i.isDir() {
		if err := c.dirXattrs(i, target); err != nil {
			return err
		}
		return nil // its time comes last
	}
	return c.to.Chtimes(target, time.Time{}, c.mtime(i))
}

func (c *copier) owner(i *item) (int, int) {
	if c.keepOwner {
		return int(i.stat.Uid), int(i.stat.Gid)
	}
	return c.uid, c.gid
}

func (c *copier) mode(i *item) uint32 {
	return c.chmod.of(i.perm(), i.isDir())
}

func (c *copier) mayFail(err error) error {
	if c.anyOwner && (errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL)) {
		return nil
	}
	return err
}

// dirXattrs gives a directory the attributes of its source.
func (c *copier) dirXattrs(i *item, target string) error {
	dir, err := c.from.Open(i.path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	attrs, err := carriedXattrs(dir, c.capabilities)
	for name, value := range attrs {
		if err == nil {
			err = c.mayLack(c.to.Setxattr(target, name, value))
		}
	}
	return err
}

// mayLack passes over an attribute that the file system or this process cannot have.
func (c *copier) mayLack(err error) error {
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPERM) {
		return nil
	}
	return c.mayFail(err)
}

// file copies a regular file. The kernel copies the bytes, or shares them where the file system can.
func (c *copier) file(i *item, target string) error {
	in, err := openUnchanged(c.from, i)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := c.to.Create(target, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := copyBytes(out, in, &i.stat); err != nil {
		return err
	}
	// What the cache key was made of must be what was copied.
	var after unix.Stat_t
	if err := unix.Fstat(int(in.Fd()), &after); err != nil {
		return err
	}
	if idOf(&after) != idOf(&i.stat) {
		return changed(i.path)
	}
	return c.finishFile(i, in, out)
}

func (c *copier) finishFile(i *item, in, out *os.File) error {
	fd := int(out.Fd())
	uid, gid := c.owner(i)
	if err := c.mayFail(unix.Fchown(fd, uid, gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, c.mode(i)); err != nil {
		return err
	}
	attrs, err := carriedXattrs(in, c.capabilities)
	if err != nil {
		return err
	}
	for name, value := range attrs {
		if err := c.mayLack(unix.Fsetxattr(fd, name, value, 0)); err != nil {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
	}
	return setTime(out, c.mtime(i))
}

func setTime(f *os.File, at time.Time) error {
	ts := unix.NsecToTimespec(at.UnixNano())
	return unix.UtimesNanoAt(int(f.Fd()), "", []unix.Timespec{ts, ts}, unix.AT_EMPTY_PATH)
}

// inline writes a file of the Dockerfile.
func (c *copier) inline(f Inline) error {
	target, err := c.target(f.Name)
	if err != nil {
		return err
	}
	if marked(target) {
		return fmt.Errorf("file %q: layers cannot hold names that begin with .wh.: %w", f.Name, errdef.ErrInvalid)
	}
	if err := c.mkdir(path.Dir(target), c.chmod.newDir()); err != nil {
		return err
	}
	if err := c.forget(target); err != nil {
		return err
	}
	out, err := c.to.Create(target, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := out.WriteString(f.Data); err != nil {
		return err
	}
	if err := c.mayFail(unix.Fchown(int(out.Fd()), c.uid, c.gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(int(out.Fd()), c.chmod.of(0o644, false)); err != nil {
		return err
	}
	at := time.Now()
	if c.epoch != nil {
		at = *c.epoch
	}
	return setTime(out, at)
}

// finish sets the times of directories, from the innermost outward. What later sources put into them shows in their times.
func (c *copier) finish() error {
	defer func() { c.times = nil }()
	if c.later != nil {
		clear(c.later.dirs) // what later sources put into them shows in their times again
	}
	for i := len(c.times) - 1; i >= 0; i-- {
		if err := c.to.Chtimes(c.times[i].path, time.Time{}, c.times[i].at); err != nil {
			return err
		}
	}
	return nil
}
