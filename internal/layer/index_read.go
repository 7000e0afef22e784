package layer

import (
	"fmt"
	"hash/crc32"
	"io"

	"strata/internal/errdef"
)

// countingReader knows where in the tar archive/tar is. It reads nothing ahead, so after a header this is the payload. It
// passes over payloads without copying them.
type countingReader struct {
	r    skipReader
	n    int64
	sums *sums
	left int64 // of a payload whose checksum is wanted
	sum  uint32
}

// skipReader is a stream that can also pass over bytes, showing them to see: fewer than asked only at its end.
type skipReader interface {
	io.Reader
	skip(n int64, see func([]byte)) (int64, error)
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	c.see(p[:n])
	return n, err
}

// Seek goes forward only: archive/tar passes over payloads with it.
func (c *countingReader) Seek(offset int64, whence int) (int64, error) {
	if whence != io.SeekCurrent || offset < 0 {
		return 0, fmt.Errorf("a layer's tar is read forward only: %w", errdef.ErrUnsupported)
	}
	n, err := c.r.skip(offset, c.see)
	c.n += n
	return c.n, err
}

// payload says that the next n bytes have a checksum of their own.
func (c *countingReader) payload(n int64) { c.left, c.sum = n, 0 }

func (c *countingReader) see(p []byte) {
	if c.left == 0 {
		return
	}
	p = p[:min(c.left, int64(len(p)))]
	c.sum = crc32.Update(c.sum, c.sums.table, p)
	if c.left -= int64(len(p)); c.left == 0 {
		c.sums.add(c.sum)
	}
}
