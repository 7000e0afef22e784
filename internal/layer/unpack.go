package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"

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
	shift                  Shift
	uid, gid               *int // instead of what the entries say
	max                    int

	dirs    map[string]*dirMeta // what directories get at the end
	names   int64
	devices int // left out as harmful
	entries int
	implied int
	missing int
	disk    int64
	content int64 // bytes of regular files, by their entries
	buf     []byte
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
