package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// indexer makes of a tar's headers the tree that unpacking it as a layer would give, in memory. It must decide all as
// unpacker does, which does the same on a disk.
type indexer struct {
	root    *node
	src     *countingReader
	max     int
	entries int
	implied int
	missing int
	content int64 // bytes of regular files
	names   int64 // bytes of names, link targets, attributes and places of sparse files' pieces held
	links   int   // symbolic links followed for the current name
	store   *contentStore
	buf     []byte
}

// maxHeld bounds what an index in the making holds of a tar's words, and of where its sparse files lie.
const maxHeld = 256 << 20

func newIndexer(src *countingReader, most int, store *contentStore) *indexer {
	return &indexer{root: newImplied(), src: src, max: most, store: store}
}

func newImplied() *node {
	return &node{attrs: attrs{mode: unix.S_IFDIR | 0o755}, kids: map[string]*node{}, implicit: true}
}

// run reads the headers up to the end of the archive.
func (x *indexer) run(ctx context.Context) error {
	tr := tar.NewReader(x.src)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		hdr, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return fmt.Errorf("after %d entries: %w", x.entries, badTar(err))
		}
		if err := x.count(&x.entries); err != nil {
			return err
		}
		if summed(hdr) {
			x.src.payload(hdr.Size)
		}
		if err := x.entry(hdr, tr); err != nil {
			return fmt.Errorf("entry %.200q: %w", hdr.Name, badTar(err))
		}
	}
}

func (x *indexer) count(n *int) error {
	*n++
	return tooMany(x.entries+x.implied, x.max)
}

func (x *indexer) hold(n int) error {
	if x.names += int64(n); x.names > maxHeld {
		return fmt.Errorf("names, attributes and pieces of sparse files of more than %d bytes in all: %w", maxHeld, errdef.ErrLimit)
	}
	return nil
}

func (x *indexer) entry(hdr *tar.Header, body io.Reader) error {
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := cleanName(hdr.Name)
	if err != nil {
		return err
	}
	m, err := markOf(name)
	if err != nil {
		return err
	}
	switch m.kind {
	case markForeign:
		x.missing++
		return nil
	case markOpaque:
		dir, err := x.dir(m.dir)
		if err == nil {
			dir.opaque = true
		}
		return err
	case markGone:
		return x.hide(m.dir, m.name)
	}
	return x.placeEntry(hdr, name, body)
}

func (x *indexer) placeEntry(hdr *tar.Header, name string, body io.Reader) error {
	if name == "" {
		if hdr.Typeflag != tar.TypeDir {
			return fmt.Errorf("names the root but is no directory: %w", errdef.ErrInvalid)
		}
		return x.become(x.root, hdr)
	}
	dirName, base := parentOf(name), path.Base(name)
	if hdr.Typeflag == tar.TypeLink {
		return x.hardLink(hdr, name)
	}
	dir, err := x.dir(dirName)
	if err != nil {
		return err
	}
	switch hdr.Typeflag {
	case tar.TypeDir:
		return x.directory(dir, base, hdr)
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return x.file(dir, base, hdr, body)
	case tar.TypeSymlink:
		return x.symlink(dir, base, hdr)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return x.special(dir, base, hdr)
	}
	x.missing++
	return nil
}

// become gives a directory the attributes of its entry.
func (x *indexer) become(n *node, hdr *tar.Header) error {
	made, err := x.node(hdr, unix.S_IFDIR)
	if err != nil {
		return err
	}
	n.attrs, n.implicit = made.attrs, false
	return nil
}

// node makes a node of an entry.
func (x *indexer) node(hdr *tar.Header, kind uint32) (*node, error) {
	a, err := attrsOf(hdr)
	if err != nil {
		return nil, err
	}
	n := &node{attrs: a}
	n.mode |= kind
	if kind == unix.S_IFLNK {
		n.mode |= 0o777
	}
	for name, value := range a.xattrs {
		if err := x.hold(len(name) + len(value)); err != nil {
			return nil, err
		}
	}
	return n, n.settleXattrs()
}

// put gives dir the name base for n; what had it before is gone, and its place is taken over.
func (x *indexer) put(dir *node, base string, n *node) error {
	if len(base) > unix.NAME_MAX {
		return unix.ENAMETOOLONG
	}
	if err := x.hold(len(base)); err != nil {
		return err
	}
	if n.isDir() {
		n.up, n.depth = dir, dir.depth+1+int32(len(base))
	}
	dir.kids[strings.Clone(base)] = n
	return nil
}

func (x *indexer) directory(dir *node, base string, hdr *tar.Header) error {
	old := dir.kids[base]
	if old != nil && old.isDir() {
		return x.become(old, hdr)
	}
	n := newImplied()
	n.opaque = old != nil && old.isWhiteout()
	if err := x.become(n, hdr); err != nil {
		return err
	}
	return x.put(dir, base, n)
}

func (x *indexer) file(dir *node, base string, hdr *tar.Header, body io.Reader) error {
	n, err := x.node(hdr, unix.S_IFREG)
	if err != nil {
		return err
	}
	if n.size = hdr.Size; isSparse(hdr) {
		if err := x.sparse(n, body); err != nil {
			return err
		}
	} else if n.block, err = blockOf(x.src.n); err != nil {
		return err
	}
	x.content += n.size
	return x.put(dir, base, n)
}

// blockOf is the number of the tar's block at pos, where an entry's content begins.
func blockOf(pos int64) (uint32, error) {
	if pos >= maxDeviceSize {
		return 0, fmt.Errorf("tar of more than %d bytes: %w", maxDeviceSize, errdef.ErrLimit)
	}
	return uint32(pos >> erofsBlockBits), nil
}

func (x *indexer) symlink(dir *node, base string, hdr *tar.Header) error {
	if hdr.Linkname == "" {
		return fmt.Errorf("symbolic link to nothing: %w", errdef.ErrInvalid)
	}
	if len(hdr.Linkname) >= unix.PathMax {
		return unix.ENAMETOOLONG
	}
	if strings.IndexByte(hdr.Linkname, 0) >= 0 {
		return fmt.Errorf("symbolic link with a NUL byte: %w", errdef.ErrInvalid)
	}
	n, err := x.node(hdr, unix.S_IFLNK)
	if err != nil {
		return err
	}
	n.link = strings.Clone(hdr.Linkname)
	if err := x.hold(len(n.link)); err != nil {
		return err
	}
	return x.put(dir, base, n)
}

func (x *indexer) special(dir *node, base string, hdr *tar.Header) error {
	kind := deviceKind(hdr.Typeflag)
	n, err := x.node(hdr, kind)
	if err != nil {
		return err
	}
	if kind != unix.S_IFIFO {
		n.rdev = deviceNumber(hdr)
	}
	if n.isWhiteout() { // it would be taken for one; the name must be free all the same
		delete(dir.kids, base)
		x.missing++
		return nil
	}
	return x.put(dir, base, n)
}

// hide makes the whiteout of base in dir. An entry that has the name already stays, and hides by itself.
func (x *indexer) hide(dirName, base string) error {
	dir, err := x.dir(dirName)
	if err != nil {
		return err
	}
	if old := dir.kids[base]; old != nil {
		old.opaque = old.isDir()
		return nil
	}
	return x.put(dir, base, &node{attrs: attrs{mode: unix.S_IFCHR}})
}

// hardLink gives another name to what a name stands for now.
func (x *indexer) hardLink(hdr *tar.Header, name string) error {
	bad := func(why string) error {
		return fmt.Errorf("hard link to %.200q%s: %w", hdr.Linkname, why, errdef.ErrInvalid)
	}
	to, err := cleanName(hdr.Linkname)
	if err != nil {
		return fmt.Errorf("hard link to %.200q: %w", hdr.Linkname, err)
	}
	if to == "" {
		return bad(": it is the root")
	}
	from, err := x.dir(parentOf(to))
	if err != nil {
		return fmt.Errorf("hard link to %.200q: %w", hdr.Linkname, err)
	}
	target := from.kids[path.Base(to)]
	switch {
	case target == nil && x.missing > 0:
		x.missing++
		return nil
	case target == nil || target.isWhiteout():
		return bad(", which is not there")
	case target.isDir():
		return bad(", a directory")
	}
	dir, err := x.dir(parentOf(name))
	if err != nil {
		return err
	}
	base := path.Base(name)
	if dir == from && base == path.Base(to) {
		return nil
	}
	if from.kids[path.Base(to)] != target || from.within(dir.kids[base]) {
		return bad(", which it replaces")
	}
	return x.put(dir, base, target)
}

// within says whether a directory is, or is below, another node.
func (n *node) within(top *node) bool {
	for n != nil && n != top {
		n = n.up
	}
	return n != nil
}

// finish settles what the end of the tar decides, and lists the implicit directories.
func (x *indexer) finish() (implicit []string) {
	var walk func(n *node, at string)
	walk = func(n *node, at string) {
		if n.implicit && at != "" {
			implicit = append(implicit, at)
		}
		if n.opaque {
			n.xattrs = maps.Clone(n.xattrs)
			if n.xattrs == nil {
				n.xattrs = map[string]string{}
			}
			n.xattrs[overlayXattr(false, "opaque")] = "y"
		}
		for name, kid := range n.kids {
			if kid.isDir() {
				walk(kid, path.Join(at, name))
			}
		}
	}
	walk(x.root, "")
	slices.Sort(implicit)
	return implicit
}
