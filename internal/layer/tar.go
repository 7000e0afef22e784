package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/oci"
)

// Tar gives the layer's tar, bit for bit what was ingested or committed. A file that is not as long as it was is
// errdef.ErrCorrupt; other damage shows in the digest: see [Store.Verify].
func (s *Store) Tar(ctx context.Context, id oci.DiffID) (io.ReadCloser, error) {
	return s.read(ctx, id, false)
}

// read gives the tar, which can also be passed over. headers: payloads may be read as zeros, without opening files.
func (s *Store) read(ctx context.Context, id oci.DiffID, headers bool) (io.ReadSeekCloser, error) {
	m, err := s.Stat(id)
	if err != nil {
		return nil, err
	}
	if m.Form == formTar {
		return s.openTar(ctx, m)
	}
	return s.assemble(ctx, id, headers)
}

// Verify reads all of the layer and compares it with its diffID: errdef.ErrCorrupt, naming the layer and, where that is
// known, the file.
func (s *Store) Verify(ctx context.Context, id oci.DiffID) error {
	_, err := s.verify(ctx, id)
	return err
}

// verify also gives the size of the tar.
func (s *Store) verify(ctx context.Context, id oci.DiffID) (int64, error) {
	r, err := s.Tar(ctx, id)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	h := sha256.New()
	n, err := io.CopyBuffer(h, struct{ io.Reader }{r}, make([]byte, chunkSize))
	if err != nil {
		return n, err
	}
	if got := diffID(h); got != id {
		what := "its files give"
		if s.formOf(id) == formTar {
			what = "its tar has"
		}
		return n, fmt.Errorf("layer %s: %s the diffID %s: %w", id, what, got, errdef.ErrCorrupt)
	}
	return n, s.verifyIndex(id)
}

// Entry is one entry of a layer's tar.
type Entry struct {
	Name           string // clean, without leading slash; "" is the root
	Type           byte   // tar typeflag
	Linkname       string
	Mode, UID, GID int64
	Size           int64
	ModTime        time.Time
	// Whiteout: Name of the lower layers is gone. Opaque: all that lower layers have in the directory Name is gone.
	// Name is the path that is meant, without the mark.
	Whiteout, Opaque bool
}

// Entries lists the layer's entries in the order of the tar, without reading files. It ends with the first error.
// PAX global headers and aufs metadata are left out.
func (s *Store) Entries(ctx context.Context, id oci.DiffID) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		err := s.entries(ctx, id, func(e Entry) bool { return yield(e, nil) })
		if err != nil {
			yield(Entry{}, fmt.Errorf("layer %s: %w", id, err))
		}
	}
}

func (s *Store) entries(ctx context.Context, id oci.DiffID, yield func(Entry) bool) error {
	r, err := s.read(ctx, id, true)
	if err != nil {
		return err
	}
	defer r.Close()
	tr := tar.NewReader(r)
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return err
		}
		if e, ok := entryOf(hdr); ok && !yield(e) {
			return nil
		}
	}
}

func entryOf(hdr *tar.Header) (Entry, bool) {
	name, err := cleanName(hdr.Name)
	if err != nil || hdr.Typeflag == tar.TypeXGlobalHeader {
		return Entry{}, false
	}
	e := Entry{
		Name: name, Type: hdr.Typeflag, Linkname: hdr.Linkname, Mode: hdr.Mode,
		UID: int64(hdr.Uid), GID: int64(hdr.Gid), Size: hdr.Size, ModTime: hdr.ModTime,
	}
	m, err := markOf(name)
	switch m.kind {
	case markForeign:
		return Entry{}, false
	case markOpaque:
		e.Name, e.Opaque = m.dir, true
	case markGone:
		e.Name, e.Whiteout = path.Join(m.dir, m.name), true
	}
	return e, err == nil
}

// assembler reads a tar from a skeleton and the files that it names.
type assembler struct {
	stop  func() error // the context's
	id    oci.DiffID
	dir   *os.File // the layer
	file  *os.File // the skeleton
	skel  *skelReader
	moved map[uint64]bool // 'F' records whose bytes are in shadow/
	blank bool            // payloads of 'F' records may be read as zeros: only headers count

	cur  skelRecord
	rest int64 // of cur's bytes
	fd   int   // cur's file, -1 without
	pos  int64
	end  bool
}

func (s *Store) assemble(ctx context.Context, id oci.DiffID, blank bool) (*assembler, error) {
	wrap := func(err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: %w", errdef.ErrCorrupt, err)
		}
		return fmt.Errorf("layer %s: %w", id, err)
	}
	dir, err := os.Open(s.path(id))
	if err != nil {
		return nil, wrap(err)
	}
	a := &assembler{stop: ctx.Err, id: id, dir: dir, blank: blank, fd: -1}
	if err := a.open(s.path(id, skelName)); err != nil {
		a.Close()
		return nil, wrap(err)
	}
	return a, nil
}

func (a *assembler) open(skel string) (err error) {
	if a.file, err = os.Open(skel); err != nil {
		return err
	}
	if a.skel, err = newSkelReader(a.file); err != nil {
		return err
	}
	fd, err := openBeneath(int(a.dir.Fd()), sideName, unix.O_RDONLY|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	entries, err := listDir(fd)
	if err != nil {
		return err
	}
	a.moved = make(map[uint64]bool, len(entries))
	for _, e := range entries {
		if n, err := strconv.ParseUint(e.Name(), 10, 64); err == nil {
			a.moved[n] = true
		}
	}
	return nil
}

func (a *assembler) Close() error {
	a.drop()
	if a.skel != nil {
		a.skel.close()
	}
	if a.file != nil {
		a.file.Close()
	}
	return a.dir.Close()
}

func (a *assembler) drop() {
	if a.fd >= 0 {
		unix.Close(a.fd)
		a.fd = -1
	}
}

func (a *assembler) Read(p []byte) (int, error) {
	n, err := a.read(p)
	a.pos += int64(n)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("layer %s: %w", a.id, err)
	}
	return n, err
}

func (a *assembler) read(p []byte) (int, error) {
	if err := a.advance(); err != nil || len(p) == 0 {
		return 0, err
	}
	p = p[:min(int64(len(p)), a.rest)]
	var n int
	var err error
	switch {
	case a.cur.kind == recRaw:
		if n, err = a.skel.buf.Read(p); err == io.EOF {
			err = badSkel("ends within a record")
		} else if err != nil { // the coding's own error, of bytes that it does not understand
			err = badSkel(err.Error())
		}
	case a.cur.kind == recFile && a.blank:
		clear(p)
		n = len(p)
	default:
		n, err = a.payload(p)
	}
	a.rest -= int64(n)
	return n, err
}

// advance goes to the next record with bytes when the current one is used up.
func (a *assembler) advance() error {
	for a.rest == 0 {
		if a.end {
			return io.EOF
		}
		if err := a.stop(); err != nil {
			return err
		}
		a.drop()
		rec, err := a.skel.next()
		if err != nil {
			return err
		}
		a.cur, a.rest = rec, rec.n
		if rec.kind == recEnd {
			a.rest, a.end = 0, true
			if a.pos != rec.n {
				return badSkel(fmt.Sprintf("gives %d bytes of %d", a.pos, rec.n))
			}
		}
	}
	return nil
}

// payload reads from the file that the current record names.
func (a *assembler) payload(p []byte) (int, error) {
	name := a.where()
	if a.fd < 0 {
		fd, err := a.openFile(name)
		if err != nil {
			return 0, fmt.Errorf("file %q: %w", name, err)
		}
		a.fd = fd
	}
	if err := a.stop(); err != nil {
		return 0, err
	}
	n, err := readFd(a.fd, p)
	if err == io.EOF {
		err = fmt.Errorf("file %q has %d bytes, not %d: %w", name, a.cur.n-a.rest, a.cur.n, errdef.ErrCorrupt)
	}
	return n, err
}

func (a *assembler) where() string {
	switch {
	case a.cur.kind == recSide:
		return sideName + "/" + sideFile(a.cur.num)
	case a.moved[a.cur.num]:
		return sideName + "/" + strconv.FormatUint(a.cur.num, 10)
	}
	return fsName + "/" + a.cur.path
}

// openFile opens a payload: below the layer, through no link, a file of exactly the size that the tar says.
func (a *assembler) openFile(name string) (int, error) {
	fd, err := openBeneath(int(a.dir.Fd()), name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		for _, e := range []error{unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.EXDEV, unix.ENXIO} {
			if errors.Is(err, e) {
				err = fmt.Errorf("%w: %w", errdef.ErrCorrupt, err)
			}
		}
		return -1, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return -1, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != a.cur.n {
		unix.Close(fd)
		return -1, fmt.Errorf("it has %d bytes, not %d: %w", st.Size, a.cur.n, errdef.ErrCorrupt)
	}
	return fd, nil
}

// Seek goes forward by offset bytes without opening what it passes: archive/tar skips payloads so.
func (a *assembler) Seek(offset int64, whence int) (int64, error) {
	if whence != io.SeekCurrent || offset < 0 {
		return 0, fmt.Errorf("layer %s: only forward: %w", a.id, errdef.ErrUnsupported)
	}
	for offset > 0 {
		if err := a.advance(); err != nil {
			return a.pos, err
		}
		n := min(offset, a.rest)
		switch {
		case a.cur.kind == recRaw:
			if _, err := a.skel.buf.Discard(int(n)); err != nil {
				return a.pos, badSkel("ends within a record")
			}
		case a.cur.kind == recSide || !a.blank:
			if _, err := a.payload(nil); err != nil {
				return a.pos, err
			}
			if _, err := unix.Seek(a.fd, n, io.SeekCurrent); err != nil {
				return a.pos, err
			}
		}
		a.rest -= n
		a.pos += n
		offset -= n
	}
	return a.pos, nil
}

// zeroBlocks end an archive.
var zeroBlocks = bytes.Repeat([]byte{0}, 1024)
