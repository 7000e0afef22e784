package layer

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"strata/internal/errdef"
)

// maxWindow bounds what a stream can make its decoder hold, in bytes: zstd's --long=27, twice xz -9.
const maxWindow = 128 << 20

// Decompress looks at the first bytes of r and gives what it decompresses to, with the name of the compression as media
// types have it: "gzip", "zstd", "bzip2", "xz", or "" for a stream that is not compressed. Closing the result ends the
// decoder; r stays the caller's. A damaged stream is errdef.ErrCorrupt, one that wants too large a window
// errdef.ErrLimit; an error of r itself comes through as it is.
func Decompress(r io.Reader) (io.ReadCloser, string, error) {
	src := &source{r: r}
	buf := bufio.NewReaderSize(src, 64<<10)
	head, err := buf.Peek(32)
	if err != nil && err != io.EOF {
		return nil, "", err
	}
	name := sniff(head)
	rc, err := decoder(name, buf)
	if err != nil {
		return nil, name, src.class(name, err)
	}
	if name == "" {
		return rc, "", nil
	}
	return &decompressor{rc, src, name}, name, nil
}

func sniff(head []byte) string {
	for _, m := range []struct{ name, magic string }{
		{"gzip", "\x1f\x8b"}, {"zstd", "\x28\xb5\x2f\xfd"}, {"bzip2", "BZh"}, {"xz", "\xfd7zXZ\x00"},
	} {
		if bytes.HasPrefix(head, []byte(m.magic)) {
			return m.name
		}
	}
	// zstd:chunked and pzstd begin with a skippable frame.
	if len(head) >= 4 && head[0]&0xf0 == 0x50 && string(head[1:4]) == "\x2a\x4d\x18" {
		return "zstd"
	}
	return ""
}

func decoder(name string, buf *bufio.Reader) (io.ReadCloser, error) {
	switch name {
	case "gzip":
		return gzip.NewReader(buf) // all members
	case "zstd":
		dec, err := zstd.NewReader(buf, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow),
			zstd.WithDecoderMaxMemory(1<<62), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, err
		}
		return dec.IOReadCloser(), nil
	case "bzip2":
		return io.NopCloser(bzip2.NewReader(buf)), nil
	case "xz":
		x, err := xz.NewReader(&xzGuard{r: buf})
		if err != nil {
			return nil, err
		}
		return io.NopCloser(x), nil
	}
	return io.NopCloser(buf), nil
}

// source remembers what the caller's reader said, to tell a broken line from a broken stream.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

func (s *source) class(name string, err error) error {
	switch {
	case s.err != nil:
		return s.err
	case errors.Is(err, errdef.ErrLimit):
		return fmt.Errorf("%s stream: %w", name, err)
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return fmt.Errorf("%s stream: window of more than %d bytes: %w", name, maxWindow, errdef.ErrLimit)
	}
	// As text only: archive/tar's readers must not take the decoder's io.ErrUnexpectedEOF for their own.
	return fmt.Errorf("%s stream: %s: %w", name, err.Error(), errdef.ErrCorrupt)
}

type decompressor struct {
	io.ReadCloser
	src  *source
	name string
}

func (d *decompressor) Read(p []byte) (int, error) {
	n, err := d.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = d.src.class(d.name, err)
	}
	return n, err
}
