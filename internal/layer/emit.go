package layer

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// emitter writes the canonical tar of a directory tree: depth first, names of a directory in the order of their bytes,
// PAX records only for what ustar cannot say, numeric owners, modification times with nanoseconds.
type emitter struct {
	out       sink
	layer     bool  // the tree is a changeset: translate whiteouts and opaque marks, and clean overlay's xattrs
	live      bool  // others change the tree meanwhile: what vanishes is left out
	seconds   bool  // modification times are cut to seconds
	shift     Shift // how owners are called outside; as in [WriteResource]
	userxattr bool
	self      *owner           // whose files are root's; nil: nobody's but root's
	links     map[inode]string // first name of what has several
	given     *givenFiles      // files that are not in the tree; nil: none
	entries   int
	header    bytes.Buffer
}

// sink takes the tar: headers and padding as bytes, payloads as open files.
type sink interface {
	raw(p []byte) error
	file(path string, fd int, size int64) error
}

type inode struct{ dev, ino uint64 }

// owner is a user with a group.
type owner struct{ uid, gid int }

// selfOwner is who a store's files belong to instead of root; nil where root is somebody.
func (o Options) selfOwner() *owner {
	if !o.Self {
		return nil
	}
	return &owner{os.Geteuid(), os.Getegid()}
}

// rootsOwn gives root what is o's.
func (o *owner) rootsOwn(uid, gid int) (int, int) {
	if o != nil && uid == o.uid {
		uid = 0
	}
	if o != nil && gid == o.gid {
		gid = 0
	}
	return uid, gid
}

func newEmitter(out sink) *emitter { return &emitter{out: out, links: map[inode]string{}} }

// tree writes all below the directory fd, and an entry for itself when root is set.
func (e *emitter) tree(ctx context.Context, fd int, root bool) error {
	if root {
		if err := e.dirEntry(fd, "."); err != nil {
			return err
		}
	}
	if err := e.dir(ctx, fd, ""); err != nil {
		return err
	}
	return e.out.raw(zeroBlocks)
}

func (e *emitter) dir(ctx context.Context, fd int, rel string) error {
	if e.layer {
		if err := e.opaque(fd, rel); err != nil {
			return err
		}
	}
	list, err := listDir(fd)
	if err != nil {
		return fmt.Errorf("%q: %w", rel, err)
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	var files []given
	if e.given != nil {
		files = e.given.in[rel]
	}
	for len(list) > 0 || len(files) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		if len(files) > 0 && (len(list) == 0 || files[0].name <= list[0].Name()) {
			if len(list) > 0 && files[0].name == list[0].Name() {
				list = list[1:] // the mark of what the file replaces
			}
			if err := e.givenFile(path.Join(rel, files[0].name), files[0].file); err != nil {
				return err
			}
			files = files[1:]
			continue
		}
		p := list[0].Name()
		if rel != "" {
			p = rel + "/" + p // as rel was asked for: "./a" is not "a"
		}
		if err := e.child(ctx, fd, p, list[0]); err != nil {
			return err
		}
		list = list[1:]
	}
	return nil
}

func (e *emitter) child(ctx context.Context, parent int, p string, d fs.DirEntry) error {
	var err error
	switch {
	case d.IsDir():
		err = e.subdir(ctx, parent, p, d.Name())
	case d.Type()&os.ModeSocket != 0 && !e.layer:
		return nil
	case d.Type().IsRegular():
		err = e.regular(parent, p, d.Name())
	default:
		err = e.other(parent, p, d.Name())
	}
	if err == nil || named(err) {
		return err
	}
	if e.live && errors.Is(err, unix.ENOENT) {
		return nil
	}
	return &nameError{p, err}
}

// nameError names the file that an error is about, once.
type nameError struct {
	path string
	err  error
}

func (e *nameError) Error() string { return fmt.Sprintf("%q: %v", e.path, e.err) }
func (e *nameError) Unwrap() error { return e.err }

func named(err error) bool {
	var n *nameError
	return errors.As(err, &n)
}

func (e *emitter) subdir(ctx context.Context, parent int, p, name string) error {
	fd, err := openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := e.dirEntry(fd, p); err != nil {
		return err
	}
	return e.dir(ctx, fd, p)
}

func (e *emitter) dirEntry(fd int, p string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	hdr := headerOf(p+"/", &st)
	hdr.Typeflag = tar.TypeDir
	if err := e.xattrs(fd, hdr); err != nil {
		return err
	}
	return e.write(hdr)
}

func (e *emitter) opaque(fd int, rel string) error {
	var v [1]byte
	n, err := unix.Fgetxattr(fd, overlayXattr(e.userxattr, "opaque"), v[:])
	if err != nil || n != 1 || v[0] != 'y' {
		return nil
	}
	return e.write(markHeader(path.Join(rel, whOpaque)))
}

// markHeader is the entry of a mark: nothing in it but the name.
func markHeader(name string) *tar.Header {
	var st unix.Stat_t
	hdr := headerOf(name, &st)
	hdr.Typeflag = tar.TypeReg
	return hdr
}

func (e *emitter) regular(parent int, p, name string) error {
	fd, err := openat(parent, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return errShrank
	}
	hdr := headerOf(p, &st)
	hdr.Typeflag, hdr.Size = tar.TypeReg, st.Size
	if e.linked(hdr, &st) {
		return e.write(hdr)
	}
	if err := e.xattrs(fd, hdr); err != nil {
		return err
	}
	if err := e.write(hdr); err != nil || st.Size == 0 {
		return err
	}
	if err := e.out.file(p, fd, st.Size); err != nil {
		return err
	}
	if pad := -st.Size & 511; pad > 0 {
		return e.out.raw(zeroBlocks[:pad])
	}
	return nil
}

// other writes what has no content: symbolic links, device nodes, pipes, whiteouts.
func (e *emitter) other(parent int, p, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if e.layer && IsWhiteout(&st) {
		return e.write(markHeader(path.Join(parentOf(p), whPrefix+name)))
	}
	hdr := headerOf(p, &st)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		target, err := readlinkat(parent, name)
		if err != nil {
			return err
		}
		hdr.Typeflag, hdr.Linkname = tar.TypeSymlink, target
	case unix.S_IFIFO:
		hdr.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		hdr.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			hdr.Typeflag = tar.TypeBlock
		}
		hdr.Devmajor, hdr.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	default:
		return fmt.Errorf("file of mode %o: %w", st.Mode, errdef.ErrUnsupported)
	}
	e.linked(hdr, &st)
	return e.write(hdr)
}

// linked makes a hard link of hdr if its inode has been written under another name.
func (e *emitter) linked(hdr *tar.Header, st *unix.Stat_t) bool {
	if st.Nlink < 2 {
		return false
	}
	id := inode{st.Dev, st.Ino}
	first, ok := e.links[id]
	if !ok {
		e.links[id] = hdr.Name
		return false
	}
	hdr.Typeflag, hdr.Linkname, hdr.Size = tar.TypeLink, first, 0
	hdr.Devmajor, hdr.Devminor = 0, 0
	return true
}

func headerOf(name string, st *unix.Stat_t) *tar.Header {
	return &tar.Header{
		Name: name, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid),
		ModTime: timeOf(st.Mtim), Format: tar.FormatPAX,
	}
}

func (e *emitter) xattrs(fd int, hdr *tar.Header) error {
	keep, overlay, err := xattrsOf(fd)
	if err != nil {
		return err
	}
	if err := e.shift.xattrs(keep, false); err != nil {
		return err
	}
	for name, value := range keep {
		if hdr.PAXRecords == nil {
			hdr.PAXRecords = map[string]string{}
		}
		hdr.PAXRecords[paxXattr+name] = value
	}
	if !e.layer {
		return nil
	}
	return strip(fd, overlay, overlayXattr(e.userxattr, "opaque"))
}

// strip removes overlay's xattrs, but for the one that is part of the layer.
func strip(fd int, overlay []string, but string) error {
	for _, name := range overlay {
		if name == but {
			continue
		}
		if err := unix.Fremovexattr(fd, name); err != nil && !errors.Is(err, unix.ENODATA) {
			return fmt.Errorf("xattr %q: %w", name, err)
		}
	}
	return nil
}

func (e *emitter) write(hdr *tar.Header) error {
	e.entries++
	if e.seconds {
		hdr.ModTime = hdr.ModTime.Truncate(time.Second)
	}
	hdr.Uid, hdr.Gid = e.self.rootsOwn(e.shift.inside(hdr.Uid, hdr.Gid))
	e.header.Reset()
	if err := tar.NewWriter(&e.header).WriteHeader(hdr); err != nil {
		return err
	}
	return e.out.raw(e.header.Bytes())
}

// WriteTree writes the canonical tar of the tree at dir, for export and save of merged trees. The root itself has no
// entry. Sockets are left out, and what vanishes meanwhile; names are taken as they are, whiteouts mean nothing here.
func WriteTree(ctx context.Context, w io.Writer, dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	e := newEmitter(&writerSink{stop: ctx.Err, w: w, buf: make([]byte, chunkSize)})
	e.live = true
	return e.tree(ctx, fd, false)
}

// writerSink writes a tar to a stream.
type writerSink struct {
	stop func() error
	w    io.Writer
	buf  []byte
}

func (s *writerSink) raw(p []byte) error {
	_, err := s.w.Write(p)
	return err
}

func (s *writerSink) file(_ string, fd int, size int64) error {
	for size > 0 {
		if err := s.stop(); err != nil {
			return err
		}
		n, err := readFd(fd, s.buf[:min(size, int64(len(s.buf)))])
		if err == io.EOF {
			return errShrank
		}
		if err != nil {
			return err
		}
		if _, err := s.w.Write(s.buf[:n]); err != nil {
			return err
		}
		size -= int64(n)
	}
	return nil
}

// errShrank: a file became shorter, or something else, while it was read.
var errShrank = fmt.Errorf("changed while it was read: %w", errdef.ErrConflict)
