package layer

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// WriteResource writes the tar of what base names in the open directory dir, itself and all below it, under the name
// name. base is one component and is not followed; "." is the directory itself. The tree may be a running container's:
// what vanishes meanwhile is left out. Modification times are cut to seconds, as docker's copies are. Owners are written as s
// says that they are called inside.
func WriteResource(ctx context.Context, w io.Writer, dir *os.File, base, name string, s Shift) error {
	e := newEmitter(&writerSink{stop: ctx.Err, w: w, buf: make([]byte, chunkSize)})
	e.live, e.seconds, e.shift = true, true, s
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &nameError{base, err}
	}
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		err = e.subdir(ctx, int(dir.Fd()), name, base)
	case unix.S_IFREG:
		err = e.regular(int(dir.Fd()), name, base)
	case unix.S_IFSOCK:
		err = fmt.Errorf("a socket: %w", errdef.ErrUnsupported)
	default:
		err = e.other(int(dir.Fd()), name, base)
	}
	if err != nil && !named(err) {
		err = &nameError{name, err}
	}
	if err != nil {
		return err
	}
	return e.out.raw(zeroBlocks)
}

// CopyOptions say whose the copies are.
type CopyOptions struct {
	UID, GID    *int // owner of every entry, instead of what the archive says
	IgnoreOwner bool // as in [Options]
	// Shown is what the root of the tree is called in messages.
	Shown string
	// LeaveOwner leaves each file to whoever made it.
	LeaveOwner bool
	// Harmless leaves out what a foreign file must not bring to this machine: set-id bits, capabilities, device nodes.
	Harmless bool
	// Shift says how the archive's owners are called in the tree.
	Shift Shift
}

// CopyTree copies the entries of an uncompressed tar into the directory dest of the tree at root, a directory opened
// with O_PATH, by the rules of docker's cp: directories are merged, files replaced, and a directory never takes the
// place of something else nor the other way round (errdef.ErrConflict). Names are resolved as in [ExtractTree]. A file
// appears whole under its name or not at all. It gives the number of device nodes that were left out.
func CopyTree(ctx context.Context, tar io.Reader, root *os.File, dest string, o CopyOptions) (devices int, err error) {
	u := newUnpacker(int(root.Fd()), nil)
	defer u.t.close()
	u.base = strings.TrimPrefix(path.Clean("/"+dest), "/")
	u.copying, u.shown, u.leaveOwner, u.harmless, u.shift = true, o.Shown, o.LeaveOwner, o.Harmless, o.Shift
	u.uid, u.gid, u.ignoreOwner, u.max = o.UID, o.GID, o.IgnoreOwner, math.MaxInt
	err = u.run(ctx, &stopReader{ctx.Err, tar})
	var over *overwriteError
	if errors.As(err, &over) {
		return u.devices, over
	}
	return u.devices, err
}

// overwriteError has docker's words for a file in a directory's place.
type overwriteError struct {
	path string
	dir  bool // a directory was to take the place
}

func (u *unpacker) overwrite(p string, dir bool) error {
	return &overwriteError{path: path.Join(u.shown, p), dir: dir}
}

func (e *overwriteError) Error() string {
	if e.dir {
		return fmt.Sprintf("cannot overwrite non-directory %q with directory", e.path)
	}
	return fmt.Sprintf("cannot overwrite directory %q with non-directory", e.path)
}

func (e *overwriteError) Unwrap() error { return errdef.ErrConflict }

// replace makes a regular file that appears under its name when it is whole. Until then it has no name where the file
// system can do that, so that nothing is left of a copy that is killed.
func (u *unpacker) replace(h handle, base string, hdr *tar.Header, body io.Reader, a attrs) error {
	var st unix.Stat_t
	err := unix.Fstatat(h.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return u.overwrite(path.Join(h.path, base), false)
	}
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
		u.t.forget()
	}
	temp := ".strata-" + rand.Text()
	fd, err := openat(h.fd, ".", unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	nameless := err == nil
	if !nameless {
		fd, err = openat(h.fd, temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	}
	if err != nil {
		return err
	}
	err = u.fill(fd, path.Join(h.path, base), hdr, body)
	if err == nil {
		err = u.apply(fd, a)
	}
	if err == nil && nameless {
		if err = link(fd, h.fd, base); err == nil {
			return unix.Close(fd)
		}
		if errors.Is(err, unix.EEXIST) {
			err = link(fd, h.fd, temp)
		}
	}
	if cerr := unix.Close(fd); err == nil {
		err = cerr
	}
	if err == nil {
		err = unix.Renameat(h.fd, temp, h.fd, base)
	}
	if errors.Is(err, unix.EBUSY) {
		err = fmt.Errorf("something is mounted there: %w", err)
	}
	if err != nil {
		_ = unix.Unlinkat(h.fd, temp, 0) // the first failure is the one to tell
	}
	return err
}

// link gives the open file fd the name base.
func link(fd, dirfd int, base string) error {
	return unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), dirfd, base, unix.AT_SYMLINK_FOLLOW)
}
