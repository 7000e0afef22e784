package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

const (
	whPrefix = ".wh."
	whMeta   = ".wh..wh."
	whOpaque = ".wh..wh..opq"

	maxNames  = 256 << 20 // bytes of directory names held while unpacking
	maxSparse = 1 << 40   // bytes a sparse file may pretend to have
)

// unpacker makes the entries of a tar in a directory tree. With a recorder it makes a layer; without one it adds to a
// tree that stands already, for ADD.
type unpacker struct {
	t    *tree
	rec  *recorder // nil: not a layer
	sums *sums     // nil: not a layer
	base string    // where the archive's root is in the tree

	userxattr, ignoreOwner bool
	copying                bool // as CopyTree
	shown                  string
	leaveOwner, harmless   bool // as in [CopyOptions]
	uid, gid               *int // instead of what the entries say
	max                    int

	dirs    map[string]*dirMeta // what directories get at the end
	names   int64
	devices int // left out as harmful
	entries int
	implied int
	missing int
	disk    int64
	buf     []byte
}

// dirMeta is what a directory gets when nothing is made in it any more: its modification time would not last, its mode
// might forbid, its default ACL would be inherited.
type dirMeta struct {
	attrs
	implicit, opaque bool
}

func newUnpacker(rootfd int, rec *recorder) *unpacker {
	u := &unpacker{t: newTree(rootfd), rec: rec, dirs: map[string]*dirMeta{}, buf: make([]byte, chunkSize)}
	u.t.mkdir, u.t.obstacle = u.imply, u.obstacle
	return u
}

// run unpacks what src gives, to the end of the archive.
func (u *unpacker) run(ctx context.Context, src io.Reader) error {
	tr := tar.NewReader(src)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		hdr, err := tr.Next()
		if err == io.EOF {
			return u.finish()
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return fmt.Errorf("after %d entries: %w", u.entries, badTar(err))
		}
		if err := u.count(&u.entries); err != nil {
			return err
		}
		if err := u.entry(hdr, tr); err != nil {
			return fmt.Errorf("entry %.200q: %w", hdr.Name, badTar(err))
		}
	}
}

// badTar gives archive/tar's own errors their class.
func badTar(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, tar.ErrFieldTooLong) {
		return fmt.Errorf("tar: %w: %w", errdef.ErrInvalid, err)
	}
	if errors.Is(err, unix.ENAMETOOLONG) {
		return fmt.Errorf("%w: %w", errdef.ErrLimit, err)
	}
	return err
}

func (u *unpacker) count(n *int) error {
	*n++
	return tooMany(u.entries+u.implied, u.max)
}

func tooMany(entries, most int) error {
	if entries > most {
		return errdef.WithHint(fmt.Errorf("more than %d entries: %w", most, errdef.ErrLimit),
			"split the archive: no layer may have more entries than that")
	}
	return nil
}

// entry makes one entry. What it leaves of the payload is kept by the recorder.
func (u *unpacker) entry(hdr *tar.Header, body io.Reader) error {
	u.t.begin()
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := cleanName(hdr.Name)
	if err != nil {
		return err
	}
	if u.sums != nil && summed(hdr) {
		in := &summer{r: body, table: u.sums.table}
		body = in
		defer func() { u.sums.add(in.sum) }()
	}
	done, err := u.whiteout(name)
	if err == nil && !done {
		err = u.place(hdr, name, body)
	}
	if err != nil {
		return err
	}
	drain := func() error { _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, body, u.buf); return err }
	if u.rec == nil {
		return drain()
	}
	return u.rec.aside(drain)
}

func (u *unpacker) place(hdr *tar.Header, name string, body io.Reader) error {
	if name == "" {
		return u.rootEntry(hdr)
	}
	full := path.Join(u.base, name)
	dirName, base := parentOf(full), path.Base(full)
	var target string
	if hdr.Typeflag == tar.TypeLink {
		var err error
		if target, err = u.linkTarget(hdr, full); err != nil || target == "" {
			return err
		}
	}
	h, err := u.t.dir(dirName)
	if err != nil {
		return err
	}
	switch hdr.Typeflag {
	case tar.TypeDir:
		return u.dir(h, base, hdr)
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return u.file(h, base, hdr, body)
	case tar.TypeSymlink:
		return u.symlink(h, base, hdr)
	case tar.TypeLink:
		return u.link(h, base, target)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return u.node(h, base, hdr)
	}
	u.missing++
	if u.rec == nil {
		return fmt.Errorf("tar entry of type %q: %w", hdr.Typeflag, errdef.ErrUnsupported)
	}
	return nil
}

func (u *unpacker) rootEntry(hdr *tar.Header) error {
	if hdr.Typeflag != tar.TypeDir {
		return fmt.Errorf("names the root but is no directory: %w", errdef.ErrInvalid)
	}
	if u.rec == nil {
		return nil // the directory that an archive is added to keeps its attributes
	}
	a, err := u.attrs(hdr)
	if err != nil {
		return err
	}
	return u.hold("", a)
}

// hold keeps what the directory at path gets in the end.
func (u *unpacker) hold(p string, a attrs) error {
	old := u.dirs[p]
	if old == nil {
		if u.names += int64(len(p)) + 128; u.names > maxNames {
			return fmt.Errorf("directory names of more than %d bytes in all: %w", maxNames, errdef.ErrLimit)
		}
		u.dirs[p] = &dirMeta{attrs: a}
		return nil
	}
	old.attrs, old.implicit = a, false
	return nil
}

// dir makes a directory, or takes the one that is there.
func (u *unpacker) dir(h handle, base string, hdr *tar.Header) error {
	a, err := u.attrs(hdr)
	if err != nil {
		return err
	}
	p := path.Join(h.path, base)
	opaque := false
	err = unix.Mkdirat(h.fd, base, 0o700)
	if errors.Is(err, unix.EEXIST) {
		var st unix.Stat_t
		if err := unix.Fstatat(h.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		err = nil
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			if u.copying {
				return u.overwrite(p, true)
			}
			opaque = u.rec != nil && IsWhiteout(&st)
			if err = u.remove(h, base, &st); err == nil {
				err = unix.Mkdirat(h.fd, base, 0o700)
			}
		}
	}
	if err != nil {
		return err
	}
	if err := u.hold(p, a); err != nil {
		return err
	}
	u.dirs[p].opaque = u.dirs[p].opaque || opaque
	return nil
}

// imply makes a directory that has no entry (yet).
func (u *unpacker) imply(h handle, base string) error {
	if err := u.count(&u.implied); err != nil {
		return err
	}
	mode := uint32(0o700)
	if u.rec == nil {
		mode = 0o755
	}
	if err := unix.Mkdirat(h.fd, base, mode); err != nil {
		return err
	}
	if u.rec == nil {
		if err := unix.Fchmodat(h.fd, base, mode, 0); err != nil {
			return err
		}
		if u.leaveOwner {
			return nil
		}
		return u.tolerate(unix.Fchownat(h.fd, base, 0, 0, unix.AT_SYMLINK_NOFOLLOW))
	}
	p := path.Join(h.path, base)
	if err := u.hold(p, attrs{mode: 0o755}); err != nil {
		return err
	}
	u.dirs[p].implicit = true
	return nil
}

// obstacle: an entry is below something that is no directory. In a layer the later entry wins.
func (u *unpacker) obstacle(h handle, base string, st *unix.Stat_t) error {
	if u.rec == nil {
		return fmt.Errorf("%q is no directory: %w", path.Join(h.path, base), errdef.ErrInvalid)
	}
	if err := u.remove(h, base, st); err != nil {
		return err
	}
	if err := u.imply(h, base); err != nil {
		return err
	}
	u.dirs[path.Join(h.path, base)].opaque = IsWhiteout(st)
	return nil
}

// fresh runs create, which makes base in h, after removing what has that name.
func (u *unpacker) fresh(h handle, base string, create func() error) error {
	err := create()
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(h.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if u.copying && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return u.overwrite(path.Join(h.path, base), false)
	}
	if err := u.remove(h, base, &st); err != nil {
		return err
	}
	return create()
}

func (u *unpacker) symlink(h handle, base string, hdr *tar.Header) error {
	if hdr.Linkname == "" {
		return fmt.Errorf("symbolic link to nothing: %w", errdef.ErrInvalid)
	}
	a, err := u.attrs(hdr)
	if err != nil {
		return err
	}
	err = u.fresh(h, base, func() error { return unix.Symlinkat(hdr.Linkname, h.fd, base) })
	if err != nil {
		return err
	}
	return u.applyAt(h, base, a, false)
}

func (u *unpacker) node(h handle, base string, hdr *tar.Header) error {
	a, err := u.attrs(hdr)
	if err != nil {
		return err
	}
	mode, dev := deviceKind(hdr.Typeflag), uint32(0)
	if mode != unix.S_IFIFO {
		if u.harmless {
			u.devices++
			u.missing++
			return nil
		}
		dev = deviceNumber(hdr)
	}
	err = u.fresh(h, base, func() error {
		if mode == unix.S_IFCHR && dev == 0 {
			// On disk this would be a whiteout; the name must be free all the same.
			var st unix.Stat_t
			if unix.Fstatat(h.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
				return unix.EEXIST
			}
			return unix.EPERM
		}
		return unix.Mknodat(h.fd, base, mode|0o600, int(dev))
	})
	if errors.Is(err, unix.EPERM) {
		u.missing++
		return nil
	}
	if err != nil {
		return err
	}
	return u.applyAt(h, base, a, true)
}

// deviceKind is the file type of an entry that is a device node or a pipe.
func deviceKind(typeflag byte) uint32 {
	switch typeflag {
	case tar.TypeChar:
		return unix.S_IFCHR
	case tar.TypeBlock:
		return unix.S_IFBLK
	}
	return unix.S_IFIFO
}

// deviceNumber is the number of a device as the kernel keeps it: what does not fit into 32 bits is lost.
func deviceNumber(hdr *tar.Header) uint32 {
	return uint32(unix.Mkdev(uint32(hdr.Devmajor), uint32(hdr.Devminor)))
}

// linkTarget resolves what a hard link entry links to, as a real path. "" says that the entry needs nothing: it links to
// itself, or to something that is missing here for a reason of ours.
func (u *unpacker) linkTarget(hdr *tar.Header, full string) (string, error) {
	to, err := cleanName(hdr.Linkname)
	if err == nil && to == "" {
		err = fmt.Errorf("it is the root: %w", errdef.ErrInvalid)
	}
	if err != nil {
		return "", fmt.Errorf("hard link to %.200q: %w", hdr.Linkname, err)
	}
	to = path.Join(u.base, to)
	h, err := u.t.dir(parentOf(to))
	if err != nil {
		return "", fmt.Errorf("hard link to %.200q: %w", hdr.Linkname, err)
	}
	var st unix.Stat_t
	base := path.Base(to)
	err = unix.Fstatat(h.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case errors.Is(err, unix.ENOENT) && u.missing > 0:
		u.missing++
		return "", nil
	case errors.Is(err, unix.ENOENT) || err == nil && IsWhiteout(&st):
		return "", fmt.Errorf("hard link to %.200q, which is not there: %w", hdr.Linkname, errdef.ErrInvalid)
	case err != nil:
		return "", err
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return "", fmt.Errorf("hard link to the directory %.200q: %w", hdr.Linkname, errdef.ErrInvalid)
	}
	real := path.Join(h.path, base)
	own, err := u.t.dir(parentOf(full))
	if err != nil {
		return "", err
	}
	if path.Join(own.path, path.Base(full)) == real {
		return "", nil
	}
	return real, nil
}

// link makes a hard link to the real path target. Attributes are the target's: an inode has them once.
func (u *unpacker) link(h handle, base, target string) error {
	err := u.fresh(h, base, func() error {
		dir, err := u.t.real(parentOf(target))
		if err != nil {
			return err
		}
		defer unix.Close(dir.fd)
		return unix.Linkat(dir.fd, path.Base(target), h.fd, base, 0)
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EPERM) { // gone, or a directory now
		return fmt.Errorf("hard link to %.200q, which it replaces: %w", target, errdef.ErrInvalid)
	}
	return err
}

// whiteout deals with the names that are marks, and says whether name was one.
func (u *unpacker) whiteout(name string) (bool, error) {
	if u.copying || !strings.Contains(name, whPrefix) {
		return false, nil
	}
	for comp := range strings.SplitSeq(name, "/") {
		if u.rec == nil && strings.HasPrefix(comp, whPrefix) {
			return false, fmt.Errorf("no layer can hold a file with a name that begins with %s: %w", whPrefix, errdef.ErrInvalid)
		}
	}
	m, err := markOf(name)
	if err != nil {
		return false, err
	}
	switch m.kind {
	case markForeign:
		u.missing++
		return true, nil
	case markOpaque:
		return true, u.opaque(m.dir)
	case markGone:
		return true, u.hide(m.dir, m.name)
	}
	return false, nil
}

// mark is what a name says of the lower layers.
type mark struct {
	kind      markKind
	dir, name string // the directory that it stands in; what is gone from there
}

type markKind byte

const (
	markNone    markKind = iota
	markForeign          // aufs metadata, or something below a mark, which is no directory for anybody
	markOpaque
	markGone
)

// markOf reads a clean name.
func markOf(name string) (mark, error) {
	if !strings.Contains(name, whPrefix) {
		return mark{}, nil
	}
	m := mark{dir: parentOf(name)}
	for comp := range strings.SplitSeq(m.dir, "/") {
		if strings.HasPrefix(comp, whPrefix) {
			m.kind = markForeign
			return m, nil
		}
	}
	base := path.Base(name)
	gone, ok := strings.CutPrefix(base, whPrefix)
	switch {
	case !ok:
	case base == whOpaque:
		m.kind = markOpaque
	case strings.HasPrefix(base, whMeta):
		m.kind = markForeign
	case gone == "" || gone == "." || gone == "..":
		return m, fmt.Errorf("whiteout of nothing: %w", errdef.ErrInvalid)
	default:
		m.kind, m.name = markGone, gone
	}
	return m, nil
}

func (u *unpacker) opaque(dir string) error {
	h, err := u.t.dir(dir)
	if err != nil {
		return err
	}
	if h.path == "" && u.dirs[""] == nil {
		if err := u.hold("", attrs{mode: 0o755}); err != nil {
			return err
		}
		u.dirs[""].implicit = true
	}
	u.dirs[h.path].opaque = true
	return nil
}

// hide makes the whiteout of base in dir. An entry of this tar that has the name already stays, and hides by itself:
// a directory by being opaque.
func (u *unpacker) hide(dir, base string) error {
	h, err := u.t.dir(dir)
	if err != nil {
		return err
	}
	err = MakeWhiteout(h.fd, base)
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	if d := u.dirs[path.Join(h.path, base)]; d != nil {
		d.opaque = true
	}
	return nil
}
