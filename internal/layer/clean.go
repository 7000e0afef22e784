package layer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// cleaner takes out of an upper directory what is no change: sockets, stubs, directories that overlay copied up and
// nobody changed, marks that hide nothing. What is left is the layer, and its tar is all of it.
//
// With see it only looks: it tells see what the changes are and leaves the directory, which may be in use, as it is.
type cleaner struct {
	lower lowerStack
	drop  map[string]bool // real paths of stubs
	epoch *unix.Timespec  // no modification time is later
	self  *owner          // whose files are root's
	socks bool            // sockets are whiteouts
	see   func(Change)
	stays map[string]bool // directories that are not empty, though they seem so
}

func newCleaner(userxattr bool, o CommitOptions) *cleaner {
	c := &cleaner{lower: lowerStack{userxattr}, socks: o.Sockets, drop: map[string]bool{}}
	for _, p := range o.Drop {
		c.drop[strings.TrimPrefix(path.Clean("/"+p), "/")] = true
	}
	if o.Epoch != nil {
		c.epoch = &unix.Timespec{Sec: o.Epoch.Unix(), Nsec: int64(o.Epoch.Nanosecond())}
	}
	return c
}

// root cleans the whole tree. changed: something is left, or the root's own attributes differ (own).
func (c *cleaner) root(ctx context.Context, fd int, lower []string) (changed, own bool, err error) {
	left, err := c.inside(ctx, fd, "", lower, false)
	if err != nil {
		return false, false, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, false, err
	}
	uid, gid := c.self.rootsOwn(int(st.Uid), int(st.Gid))
	same := st.Mode&0o7777 == 0o755 && uid == 0 && gid == 0
	if len(lower) > 0 {
		var low unix.Stat_t
		if err := unix.Lstat(lower[0], &low); err != nil {
			return false, false, fmt.Errorf("%s: %w", lower[0], err)
		}
		if same, err = sameDir(fd, &st, &low, lower[0], false); err != nil {
			return false, false, err
		}
	}
	if !same {
		return true, true, c.clamp(fd, ".", &st)
	}
	return left.any, false, nil
}

// left says what cleaning found in a directory.
type left struct {
	any     bool // something is left in it
	stub    bool // a stub was taken out of it: its modification time says nothing
	removed bool
}

// inside cleans what is in the directory fd, known as rel, with the lower directories merged there, which a directory
// above may have hidden.
func (c *cleaner) inside(ctx context.Context, fd int, rel string, lower []string, hidden bool) (left, error) {
	var l left
	if err := ctx.Err(); err != nil {
		return l, err
	}
	var before unix.Stat_t
	if err := unix.Fstat(fd, &before); err != nil {
		return l, err
	}
	marked, byXattr, err := c.marks(fd, lower)
	if err != nil {
		return l, err
	}
	l.any = marked || c.stays[rel]
	if marked && c.see == nil {
		lower = nil // nothing below shows here any more
	}
	entries, err := listDir(fd)
	if err != nil {
		return l, err
	}
	if hidden = hidden || marked; hidden && c.see != nil {
		if err := c.seeHidden(rel, entries, lower); err != nil {
			return l, err
		}
	}
	for _, e := range entries {
		if err := c.child(ctx, fd, rel, e, place{lower, hidden, byXattr}, &l); err != nil {
			return l, err
		}
	}
	if l.removed && c.see == nil {
		err = unix.UtimesNanoAt(fd, "", both(before.Mtim), unix.AT_EMPTY_PATH)
	}
	return l, err
}

// marks reads the directory's opaque mark and takes it away where it hides nothing. byXattr: the directory has whiteouts
// that are empty files with an xattr; they become ordinary ones.
func (c *cleaner) marks(fd int, lower []string) (opaque, byXattr bool, err error) {
	name := overlayXattr(c.lower.userxattr, "opaque")
	value, err := xattrValue(func(b []byte) (int, error) { return unix.Fgetxattr(fd, name, b) })
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	if value == "y" && len(lower) > 0 {
		return true, false, nil
	}
	if c.see != nil {
		return false, value == "x", nil
	}
	return false, value == "x", unix.Fremovexattr(fd, name)
}

// place is what a directory says of its entries.
type place struct {
	lower   []string // merged there
	hidden  bool     // by an opaque directory, so that only a look sees them
	byXattr bool     // whiteouts are empty files with an xattr
}

func (c *cleaner) child(ctx context.Context, fd int, rel string, e os.DirEntry, in place, l *left) error {
	name := e.Name()
	p := path.Join(rel, name)
	if strings.HasPrefix(name, whPrefix) && c.see == nil {
		return fmt.Errorf("%q: no layer can hold a file with a name that begins with %s: %w", p, whPrefix, errdef.ErrInvalid)
	}
	if len(p) > maxName-len(whPrefix) {
		return fmt.Errorf("%.200q…: path of %d bytes: %w", p, len(p), errdef.ErrLimit)
	}
	var keep bool
	var err error
	switch {
	case e.IsDir():
		keep, err = c.subdir(ctx, fd, p, name, in, l)
	case c.see != nil:
		keep, err = c.look(fd, p, name, in, l)
	case e.Type()&os.ModeSocket != 0 && !c.socks:
		keep, err = false, unix.Unlinkat(fd, name, 0)
	default:
		keep, err = c.leaf(fd, p, name, e, in, l)
	}
	if c.see != nil && errors.Is(err, unix.ENOENT) {
		return nil // removed while we look
	}
	if err != nil {
		return fmt.Errorf("%q: %w", p, err)
	}
	if keep {
		l.any = true
	} else {
		l.removed = true
	}
	return nil
}

func (c *cleaner) subdir(ctx context.Context, parent int, p, name string, in place, l *left) (bool, error) {
	top, low, sub, err := c.lower.look(in.lower, name)
	if err != nil {
		return false, err
	}
	fd, err := openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	found, err := c.inside(ctx, fd, p, sub, in.hidden)
	if err != nil {
		return false, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, err
	}
	if !found.any && c.drop[p] && top == "" {
		l.stub = true
		return false, c.rmdir(parent, name)
	}
	if !found.any && top != "" && low.Mode&unix.S_IFMT == unix.S_IFDIR {
		same, err := sameDir(fd, &st, &low, top, !found.stub)
		if err != nil {
			return false, err
		}
		if same {
			return false, c.rmdir(parent, name)
		}
	}
	if c.see != nil {
		c.see(Change{Path: "/" + p, Kind: kindOver(top)})
	}
	return true, c.clamp(fd, ".", &st)
}

func (c *cleaner) rmdir(parent int, name string) error {
	if c.see != nil {
		return nil
	}
	return unix.Unlinkat(parent, name, unix.AT_REMOVEDIR)
}

func (c *cleaner) leaf(fd int, p, name string, e os.DirEntry, in place, l *left) (bool, error) {
	special := e.Type()&(os.ModeDevice|os.ModeSocket) != 0
	if !special && !c.drop[p] && c.epoch == nil && !in.byXattr {
		return true, nil // the common case needs no look at the file
	}
	var st unix.Stat_t
	if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, err
	}
	if in.byXattr && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == 0 {
		if err := c.convert(fd, name, &st); err != nil {
			return false, err
		}
	}
	if IsWhiteout(&st) { // of sockets only those came here that are
		top, _, _, err := c.lower.look(in.lower, name)
		if err != nil || top != "" {
			return true, err
		}
		return false, unix.Unlinkat(fd, name, 0)
	}
	if c.stub(p, &st) {
		if top, _, _, err := c.lower.look(in.lower, name); err != nil || top == "" {
			l.stub = true
			return false, errors.Join(err, unix.Unlinkat(fd, name, 0))
		}
	}
	return true, c.clamp(fd, name, &st)
}

// stub reports whether the file is still as an engine's mount point was made.
func (c *cleaner) stub(p string, st *unix.Stat_t) bool {
	return c.drop[p] && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == 0
}

// whiteoutByXattr reports whether the empty file is a whiteout by its xattr.
func (c *cleaner) whiteoutByXattr(dirfd int, name string) (bool, error) {
	fd, err := openat(dirfd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	_, err = unix.Fgetxattr(fd, overlayXattr(c.lower.userxattr, "whiteout"), nil)
	unix.Close(fd)
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
		return false, nil
	}
	return err == nil, err
}

// convert makes an ordinary whiteout of an empty file that is one by its xattr.
func (c *cleaner) convert(dirfd int, name string, st *unix.Stat_t) error {
	if is, err := c.whiteoutByXattr(dirfd, name); !is || err != nil {
		return err
	}
	if err := unix.Unlinkat(dirfd, name, 0); err != nil {
		return err
	}
	if err := MakeWhiteout(dirfd, name); err != nil {
		return err
	}
	return unix.Fstatat(dirfd, name, st, unix.AT_SYMLINK_NOFOLLOW)
}

// clamp makes a modification time no later than the epoch.
func (c *cleaner) clamp(dirfd int, name string, st *unix.Stat_t) error {
	if c.epoch == nil || !after(st.Mtim, *c.epoch) {
		return nil
	}
	return unix.UtimesNanoAt(dirfd, name, both(*c.epoch), unix.AT_SYMLINK_NOFOLLOW)
}

func after(a, b unix.Timespec) bool {
	return a.Sec > b.Sec || a.Sec == b.Sec && a.Nsec > b.Nsec
}

func timeOf(ts unix.Timespec) time.Time { return time.Unix(ts.Sec, ts.Nsec) }
