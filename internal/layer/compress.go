package layer

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"

	"strata/internal/beside"
	"strata/internal/errdef"
)

// The compressions that are written, as media types and flags name them; "" is None too.
const (
	None = "none"
	Gzip = "gzip"
	Zstd = "zstd"
)

// The usual levels, where nothing is said; see [pieceForm] for the quick ones. The usual one of gzip takes two thirds of the time of other engines'
// and makes 3 to 4 % more. That of libzstd makes as little as other engines do, and takes the time of those that make more.
const (
	quickGzip, usualGzip = 2, 4
	quickZstd, usualZstd = zstd.SpeedFastest, zstd.SpeedDefault
	usualLibzstd         = 2
)

// The pieces in which a stream is compressed. A piece of gzip goes on from the last; one of zstd is a frame, which knows nothing of those before.
const (
	gzipPiece   = 512 << 10
	gzipHistory = 32 << 10
	zstdPiece   = 2 << 20
)

// zstdWindow is how far the levels of zstd up to the usual one look back: as far as a frame goes, so that nothing is ever moved within it. Windows
// of 8 MiB, the library's choice, in one stream are 1 % smaller, take half as long again, and several times the memory here and wherever the
// layer is read.
const zstdWindow = zstdPiece

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
		if zstd.EncoderLevelFromZstd(level) == zstd.SpeedBestCompression {
			return 1
		}
		return 2
	}
	return 4
}

// Compress compresses to w, on the processors that are left to one of share streams. Its output does not depend on how many these
// are. Closing it, also after an error, leaves w open.
func Compress(w io.Writer, compression string, level, share int) (io.WriteCloser, error) {
	threads := max(2, runtime.GOMAXPROCS(0)/max(1, share))
	switch compression {
	case Gzip:
		return newPieceWriter(w, gzipForm(level), threads)
	case Zstd:
		if l := zstd.EncoderLevelFromZstd(level); level != 0 && l > zstd.SpeedDefault {
			return zstd.NewWriter(w, zstd.WithEncoderLevel(l)) // frames would lose what its long window finds
		}
		return zstdWriter(w, level, beside.Find(ZstdProgram), threads)
	}
	return nopCloser{w}, nil
}

// gzipForm is gzip, RFC 1952, in pieces of deflate that end on whole bytes.
func gzipForm(level int) pieceForm {
	f := pieceForm{size: gzipPiece, history: gzipHistory, quick: level, usual: level, margin: 32, mostThreads: 8, coder: gzipCoder}
	if level == 0 {
		f.quick, f.usual = quickGzip, usualGzip
	}
	const deflate, unknownSystem = 8, 255
	f.head = []byte{0x1f, 0x8b, deflate, 0, 0, 0, 0, 0, 0, unknownSystem}
	f.tail = func(crc uint32, size int64) []byte {
		end := []byte{1, 0, 0, 0xff, 0xff} // a last block, stored, of no bytes
		end = binary.LittleEndian.AppendUint32(end, crc)
		return binary.LittleEndian.AppendUint32(end, uint32(size))
	}
	return f
}

func gzipCoder(level int) (pieceCoder, error) {
	var out sliceWriter
	z, err := flate.NewWriter(&out, level)
	return coderFunc(func(dst, history, data []byte) ([]byte, error) {
		out.b = dst
		z.ResetDict(&out, history)
		_, err := z.Write(data)
		return out.b, errors.Join(err, z.Flush())
	}), err
}

type sliceWriter struct{ b []byte }

func (w *sliceWriter) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}

// zstdWriter compresses by program, which is strata-zstd, or by Go's library where it is "" or does not work here: too many processes, no memfd.
func zstdWriter(w io.Writer, level int, program string, threads int) (io.WriteCloser, error) {
	form := zstdForm(level, program)
	if program == "" {
		return newPieceWriter(w, form, threads)
	}
	first, err := provedZstd(program, form.usual)
	if err != nil {
		return newPieceWriter(w, zstdForm(level, ""), threads)
	}
	shared := &sharedCoder{coder: first}
	another := form.coder
	form.coder = func(level int) (pieceCoder, error) {
		if shared.borrow(true) {
			return shared, nil
		}
		c, err := another(level)
		if err != nil && shared.borrow(false) {
			return shared, nil // fewer processes, and not an error
		}
		return c, err
	}
	out, err := newPieceWriter(w, form, threads)
	if err != nil {
		first.close()
	}
	return out, err
}

// zstdForm is Zstandard, RFC 8878, a frame for each piece. program is strata-zstd, or "" for Go's library.
func zstdForm(level int, program string) pieceForm {
	if program != "" {
		l := cmp.Or(level, usualLibzstd)
		return pieceForm{size: zstdPiece, quick: l, usual: l, mostThreads: 4, coder: func(level int) (pieceCoder, error) { return startZstd(program, level) }}
	}
	l := int(zstd.EncoderLevelFromZstd(level))
	f := pieceForm{size: zstdPiece, quick: l, usual: l, margin: 8, mostThreads: 4, coder: zstdCoder}
	if level == 0 {
		f.quick, f.usual = int(quickZstd), int(usualZstd)
	}
	return f
}

func zstdCoder(level int) (pieceCoder, error) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.EncoderLevel(level)), zstd.WithWindowSize(zstdWindow),
		zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithZeroFrames(true), zstd.WithEncoderCRC(false))
	return coderFunc(func(dst, _, data []byte) ([]byte, error) { return z.EncodeAll(data, dst), nil }), err
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
