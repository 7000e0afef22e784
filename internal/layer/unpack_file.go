package layer

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// file makes a regular file with the payload of its entry.
func (u *unpacker) file(h handle, base string, hdr *tar.Header, body io.Reader) (err error) {
	a, err := u.attrs(hdr)
	if err != nil {
		return err
	}
	u.content += hdr.Size
	if u.copying {
		return u.replace(h, base, hdr, body, a)
	}
	fd := -1
	err = u.fresh(h, base, func() (err error) {
		fd, err = openat(h.fd, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	defer func() {
		if cerr := unix.Close(fd); err == nil {
			err = cerr
		}
	}()
	if err := u.fill(fd, path.Join(h.path, base), hdr, body); err != nil {
		return err
	}
	return u.apply(fd, a)
}

// fill writes the payload. What is on disk byte for byte as in the tar need not be kept a second time.
func (u *unpacker) fill(fd int, p string, hdr *tar.Header, body io.Reader) error {
	switch {
	case isSparse(hdr) && u.rec == nil:
		return u.copySparse(fd, hdr.Size, body, func() bool { return false })
	case isSparse(hdr):
		return u.rec.aside(func() error {
			var before int64
			return u.copySparse(fd, hdr.Size, body, func() bool {
				now := u.rec.n + int64(len(u.rec.held))
				moved := now != before
				before = now
				return !moved
			})
		})
	case hdr.Size == 0:
		return nil
	case u.rec == nil:
		return u.copy(fd, hdr.Size, body)
	}
	u.rec.mode = toFile
	err := u.copy(fd, hdr.Size, body)
	u.rec.mode = toRaw
	if err != nil {
		return err
	}
	return u.rec.payload(p, hdr.Size)
}

func (u *unpacker) copy(fd int, n int64, body io.Reader) error {
	u.disk += n
	for n > 0 {
		buf := u.buf[:min(int64(len(u.buf)), n)]
		if _, err := io.ReadFull(body, buf); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		if err := writeFull(fd, buf); err != nil {
			return err
		}
		n -= int64(len(buf))
	}
	return nil
}

// copySparse writes what body gives and leaves holes where hole says that the last read took nothing from the tar, or
// where there is nothing but zeros.
func (u *unpacker) copySparse(fd int, size int64, body io.Reader, hole func() bool) error {
	if size > maxSparse {
		return fmt.Errorf("sparse file of %d bytes (at most %d): %w", size, int64(maxSparse), errdef.ErrLimit)
	}
	if err := unix.Ftruncate(fd, size); err != nil {
		return err
	}
	hole()
	for off := int64(0); off < size; {
		n, err := body.Read(u.buf)
		if !hole() && !allZero(u.buf[:n]) {
			if _, err := unix.Pwrite(fd, u.buf[:n], off); err != nil {
				return err
			}
			u.disk += int64(n)
		}
		off += int64(n)
		if err == io.EOF && off < size {
			err = io.ErrUnexpectedEOF
		}
		if err != nil && err != io.EOF {
			return err
		}
	}
	return nil
}

func allZero(p []byte) bool {
	return len(p) == 0 || p[0] == 0 && bytes.Equal(p[1:], p[:len(p)-1]) // each byte is like the one before it
}

// isSparse says whether the payload in the tar may differ from the file's content (GNU's sparse formats).
func isSparse(hdr *tar.Header) bool {
	if hdr.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for k := range hdr.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}
