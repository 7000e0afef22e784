package archive

import (
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"

	"strata/internal/errdef"
)

const (
	none  = "none"
	gz    = "gzip"
	zstdC = "zstd"
)

// Bounds of the levels that the two formats know.
const (
	maxGzip = 9
	maxZstd = 22
)

func checkCompression(compression string, level int) error {
	limit := 0
	switch compression {
	case "", none:
	case gz:
		limit = maxGzip
	case zstdC:
		limit = maxZstd
	default:
		return fmt.Errorf("compression %.40q: want %s, %s or %s: %w", compression, none, gz, zstdC, errdef.ErrInvalid)
	}
	if level < 0 || level > limit {
		return fmt.Errorf("compression %s: level %d: want at most %d: %w", compression, level, limit, errdef.ErrInvalid)
	}
	return nil
}

// mediaSuffix is what a compressed layer's media type ends with.
func mediaSuffix(compression string) string {
	if compression == gz || compression == zstdC {
		return "+" + compression
	}
	return ""
}

// compressor compresses to w, on all processors. Its output does not depend on how many there are. Closing it leaves w
// open.
func compressor(w io.Writer, compression string, level int) (io.WriteCloser, error) {
	switch compression {
	case gz:
		if level == 0 {
			level = pgzip.DefaultCompression
		}
		return pgzip.NewWriterLevel(w, level)
	case zstdC:
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
