package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"strata/internal/errdef"
	"strata/internal/layer"
)

// maxMembers bounds the members of an archive: images have hundreds of layers, not hundreds of thousands.
const maxMembers = 100_000

// openTar indexes the archive r: in place where r is a regular file with a plain tar, through a temporary file else.
func openTar(ctx context.Context, r io.Reader, tempDir func() (string, error)) (*tarSource, error) {
	if plain := plainFile(r); plain != nil {
		return index(ctx, plain, plain, tempDir)
	}
	rc, _, err := layer.Decompress(readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(p)
	}))
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	src, err := index(ctx, rc, nil, tempDir)
	if e := rc.Close(); err == nil && e != nil {
		src.close()
		return nil, fmt.Errorf("archive: %w", e)
	}
	return src, err
}

// readerFunc makes a function an io.Reader.
type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// plainFile gives what is left of r as a section if r is a regular file that goes on with a tar header, else nil.
func plainFile(r io.Reader) *io.SectionReader {
	f, ok := r.(*os.File)
	if !ok {
		return nil
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil
	}
	var header [512]byte
	if _, err := f.ReadAt(header[:], at); err != nil || !bytes.HasPrefix(header[257:], []byte("ustar")) {
		return nil
	}
	return io.NewSectionReader(f, at, info.Size()-at)
}

// indexer goes once through a tar.
type indexer struct {
	tr      *tar.Reader
	in      *io.SectionReader // the tar itself when it can be read in place
	tempDir func() (string, error)
	out     *tarSource
	end     int64 // of the spool
}

func index(ctx context.Context, r io.Reader, in *io.SectionReader, tempDir func() (string, error)) (*tarSource, error) {
	x := &indexer{tr: tar.NewReader(r), in: in, tempDir: tempDir, out: &tarSource{members: map[string]member{}}}
	for n := 0; ; n++ {
		err := ctx.Err()
		if err == nil {
			err = x.next()
		}
		if err == nil && n == maxMembers {
			err = fmt.Errorf("archive: more than %d members: %w", maxMembers, errdef.ErrLimit)
		}
		if errors.Is(err, errEnd) {
			return x.out, nil
		}
		if err != nil {
			x.out.close()
			return nil, err
		}
	}
}

// errEnd ends an index; it is not io.EOF, which a member cut short gives too.
var errEnd = errors.New("end of archive")

// next takes one member into the index.
func (x *indexer) next() error {
	h, err := x.tr.Next()
	if err == io.EOF {
		return errEnd
	}
	if err != nil {
		return fmt.Errorf("archive: not a tar, or a damaged one: %w: %w", errdef.ErrInvalid, err)
	}
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	var m member
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		m, err = x.file(h)
	case tar.TypeSymlink:
		m.link, err = linkTarget(name, h.Linkname)
	case tar.TypeLink:
		m.link, err = cleanName(h.Linkname)
	default:
		return nil // directories say nothing; what else there may be, nobody refers to
	}
	if err != nil {
		return err
	}
	// As in any tar, a later member takes the place of an earlier one.
	x.out.members[name] = m
	return nil
}

// file says where the member's bytes are, after copying them if they cannot stay where they are.
func (x *indexer) file(h *tar.Header) (member, error) {
	if x.in != nil && !sparse(h) {
		// The reader stands right behind the header: archive/tar reads whole blocks and nothing ahead.
		at, err := x.in.Seek(0, io.SeekCurrent)
		return member{offset: at, size: h.Size, at: x.in}, err
	}
	if x.out.spool == nil {
		dir, err := x.tempDir()
		if err != nil {
			return member{}, err
		}
		if x.out.spool, err = os.CreateTemp(dir, "load-*"); err != nil {
			return member{}, err
		}
		os.Remove(x.out.spool.Name()) // it lives as long as it is open
	}
	n, err := io.Copy(x.out.spool, x.tr)
	if err != nil {
		return member{}, fmt.Errorf("archive member %.200q: %w", h.Name, err)
	}
	m := member{offset: x.end, size: n, at: x.out.spool}
	x.end += n
	return m, nil
}

// sparse reports whether the member's bytes in the tar are not those of the file.
func sparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}
