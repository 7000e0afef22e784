package layer

import (
	"fmt"
	"io"
	"runtime"

	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"

	"strata/internal/errdef"
)

// The compressions that are written, as media types and flags name them; "" is None too.
const (
	None = "none"
	Gzip = "gzip"
	Zstd = "zstd"
)

// What is written when nothing is said, and the pieces of a gzip stream that are compressed at a time.
const (
	usualGzip = 6
	gzipBlock = 1 << 20
)

// Bounds of the levels that the two formats know.
const (
	maxGzip = 9
	maxZstd = 22
)

// CheckCompression checks a compression and its level; 0 is its default.
func CheckCompression(compression string, level int) error {
	limit := 0
	switch compression {
	case "", None:
	case Gzip:
		limit = maxGzip
	case Zstd:
		limit = maxZstd
	default:
		return fmt.Errorf("compression %.40q: want %s, %s or %s: %w", compression, None, Gzip, Zstd, errdef.ErrInvalid)
	}
	if level < 0 || level > limit {
		return fmt.Errorf("compression %s: level %d: want at most %d: %w", compression, level, limit, errdef.ErrInvalid)
	}
	return nil
}

// MediaSuffix is what a compressed layer's media type ends with.
func MediaSuffix(compression string) string {
	if compression == Gzip || compression == Zstd {
		return "+" + compression
	}
	return ""
}

// Compress compresses to w, on all processors. Its output does not depend on how many there are. Closing it leaves w
// open.
func Compress(w io.Writer, compression string, level int) (io.WriteCloser, error) {
	switch compression {
	case Gzip:
		if level == 0 {
			level = usualGzip
		}
		z, err := pgzip.NewWriterLevel(w, level)
		if err != nil {
			return nil, err
		}
		return z, z.SetConcurrency(gzipBlock, max(2, runtime.GOMAXPROCS(0)))
	case Zstd:
		l := zstd.SpeedDefault
		if level != 0 {
			l = zstd.EncoderLevelFromZstd(level)
		}
		return zstd.NewWriter(w, zstd.WithEncoderLevel(l))
	}
	return nopCloser{w}, nil
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
