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

// What is written when nothing is said: a fifth faster than what other engines take, and 2 to 4 % larger. gzipBlock are the pieces
// of a gzip stream that are compressed at a time.
const (
	usualGzip = 4
	gzipBlock = 512 << 10
)

// zstdWindow is how far the usual levels of zstd look back, as zstd's own do. The library's choice is 8 MiB: that is 1 % smaller,
// takes half as long again, and three times the memory here and wherever the layer is read.
const zstdWindow = 2 << 20

// maxThreads bounds the processors that one stream is compressed on: each holds a few megabytes.
const maxThreads = 8

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

// AtOnce is how many streams of a compression can be written at a time within some hundred megabytes, however many processors
// there are.
func AtOnce(compression string, level int) int {
	if compression == Zstd {
		switch zstd.EncoderLevelFromZstd(level) {
		case zstd.SpeedBestCompression:
			return 1
		case zstd.SpeedBetterCompression:
			return 2
		}
		return 4
	}
	return 6
}

// Compress compresses to w, on the processors that are left to one of share streams. Its output does not depend on how many these
// are. Closing it leaves w open.
func Compress(w io.Writer, compression string, level, share int) (io.WriteCloser, error) {
	switch compression {
	case Gzip:
		if level == 0 {
			level = usualGzip
		}
		z, err := pgzip.NewWriterLevel(w, level)
		if err != nil {
			return nil, err
		}
		return z, z.SetConcurrency(gzipBlock, max(2, min(runtime.GOMAXPROCS(0), maxThreads)/max(1, share)))
	case Zstd:
		l := zstd.SpeedDefault
		if level != 0 {
			l = zstd.EncoderLevelFromZstd(level)
		}
		o := []zstd.EOption{zstd.WithEncoderLevel(l)}
		if l <= zstd.SpeedDefault {
			o = append(o, zstd.WithWindowSize(zstdWindow))
		}
		return zstd.NewWriter(w, o...)
	}
	return nopCloser{w}, nil
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
