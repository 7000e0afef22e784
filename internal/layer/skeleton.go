package layer

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"

	"strata/internal/errdef"
)

// The skeleton file: the magic (its last digit is the version), one byte for the coding of the rest ('0' as it is, 'z' one
// zstd stream), then records. A record is a kind byte and its fields; numbers are unsigned varints.
//
//	'R' n, n bytes        these bytes
//	'F' len, path, n      n bytes of the file fs/<path>; of shadow/<k> if that exists, k being how many 'F' came before
//	'S' k, n              n bytes of the file shadow/s<k>
//	'E' n                 the end; the tar has n bytes
const (
	skelMagic  = "strskel1"
	codedPlain = '0'
	codedZstd  = 'z'

	recRaw  = 'R'
	recFile = 'F'
	recSide = 'S'
	recEnd  = 'E'

	maxRaw    = 64 << 10 // bytes of one 'R' record
	maxPath   = 8192     // bytes of one path
	plainSize = 64 << 10 // a skeleton up to this size is not compressed: small commits are many
)

// skelWriter writes a skeleton. Raw bytes may come in any pieces.
type skelWriter struct {
	f       *os.File
	head    bytes.Buffer  // what is written until it is known to be long
	enc     *zstd.Encoder // nil until then
	pending []byte        // raw bytes that are no record yet
	files   uint64        // 'F' records so far
	sides   uint64        // 'S' records so far
	size    int64         // of the tar so far
}

func newSkelWriter(path string) (*skelWriter, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return &skelWriter{f: f}, nil
}

func (w *skelWriter) raw(p []byte) error {
	w.size += int64(len(p))
	for len(p) > 0 {
		n := min(len(p), maxRaw-len(w.pending))
		w.pending = append(w.pending, p[:n]...)
		p = p[n:]
		if len(w.pending) == maxRaw {
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *skelWriter) flush() error {
	if len(w.pending) == 0 {
		return nil
	}
	rec := binary.AppendUvarint([]byte{recRaw}, uint64(len(w.pending)))
	if err := w.write(rec); err != nil {
		return err
	}
	err := w.write(w.pending)
	w.pending = w.pending[:0]
	return err
}

// file says that the next n bytes are those of fs/path, and gives the record's number.
func (w *skelWriter) file(path string, n int64) (uint64, error) {
	if err := w.flush(); err != nil {
		return 0, err
	}
	rec := binary.AppendUvarint([]byte{recFile}, uint64(len(path)))
	rec = append(rec, path...)
	rec = binary.AppendUvarint(rec, uint64(n))
	w.size += n
	w.files++
	return w.files - 1, w.write(rec)
}

// side says that the next n bytes are those of the side file number w.sides.
func (w *skelWriter) side(n int64) error {
	if err := w.flush(); err != nil {
		return err
	}
	rec := binary.AppendUvarint([]byte{recSide}, w.sides)
	rec = binary.AppendUvarint(rec, uint64(n))
	w.size += n
	w.sides++
	return w.write(rec)
}

func (w *skelWriter) write(p []byte) error {
	if w.enc != nil {
		_, err := w.enc.Write(p)
		return err
	}
	w.head.Write(p)
	if w.head.Len() <= plainSize {
		return nil
	}
	if _, err := w.f.WriteString(skelMagic + string(rune(codedZstd))); err != nil {
		return err
	}
	enc, err := zstd.NewWriter(w.f, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return err
	}
	w.enc = enc
	_, err = enc.Write(w.head.Bytes())
	w.head = bytes.Buffer{}
	return err
}

// finish writes the end and closes the file.
func (w *skelWriter) finish() error {
	if err := w.flush(); err != nil {
		return err
	}
	if err := w.write(binary.AppendUvarint([]byte{recEnd}, uint64(w.size))); err != nil {
		return err
	}
	if w.enc != nil {
		if err := w.enc.Close(); err != nil {
			return err
		}
		return w.f.Close()
	}
	if _, err := w.f.WriteString(skelMagic + string(rune(codedPlain)) + w.head.String()); err != nil {
		return err
	}
	return w.f.Close()
}

// abandon closes the file of a skeleton that will not be finished. After finish it does nothing.
func (w *skelWriter) abandon() {
	if w.enc != nil {
		w.enc.Close()
	}
	w.f.Close()
}

// skelRecord is one record; of an 'R' record the bytes follow in the reader.
type skelRecord struct {
	kind byte
	n    int64
	path string // 'F'
	num  uint64 // 'F', 'S'
}

// skelReader reads records. Everything it reads is bounded: the file may be damaged.
type skelReader struct {
	buf   *bufio.Reader
	dec   *zstd.Decoder
	files uint64
}

func newSkelReader(r io.Reader) (*skelReader, error) {
	s := &skelReader{buf: bufio.NewReaderSize(r, 64<<10)}
	head := make([]byte, len(skelMagic)+1)
	if _, err := io.ReadFull(s.buf, head); err != nil {
		return nil, badSkel("shorter than its magic")
	}
	if string(head[:len(skelMagic)]) != skelMagic {
		return nil, badSkel("unknown magic")
	}
	switch head[len(skelMagic)] {
	case codedPlain:
		return s, nil
	case codedZstd:
		dec, err := zstd.NewReader(s.buf, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(1<<20), zstd.WithDecoderMaxMemory(8<<20))
		if err != nil {
			return nil, badSkel(err.Error())
		}
		s.dec, s.buf = dec, bufio.NewReaderSize(dec, 64<<10)
		return s, nil
	}
	return nil, badSkel("unknown coding")
}

func (s *skelReader) close() {
	if s.dec != nil {
		s.dec.Close()
	}
}

func badSkel(why string) error {
	return fmt.Errorf("skeleton: %s: %w", why, errdef.ErrCorrupt)
}

func (s *skelReader) next() (skelRecord, error) {
	var rec skelRecord
	var err error
	if rec.kind, err = s.buf.ReadByte(); err != nil {
		return rec, badSkel("no end: " + err.Error())
	}
	switch rec.kind {
	case recRaw, recEnd:
	case recFile:
		rec.num = s.files
		s.files++
		rec.path, err = s.name()
	case recSide:
		rec.num, err = binary.ReadUvarint(s.buf)
	default:
		return rec, badSkel(fmt.Sprintf("record of kind %#x", rec.kind))
	}
	if err != nil {
		return rec, badSkel(err.Error())
	}
	n, err := binary.ReadUvarint(s.buf)
	if err != nil {
		return rec, badSkel(err.Error())
	}
	rec.n = int64(n)
	if rec.n < 0 || rec.kind == recRaw && rec.n > maxRaw {
		return rec, badSkel(fmt.Sprintf("record of %d bytes", n))
	}
	return rec, nil
}

func (s *skelReader) name() (string, error) {
	n, err := binary.ReadUvarint(s.buf)
	if err != nil {
		return "", err
	}
	if n > maxPath {
		return "", fmt.Errorf("path of %d bytes", n)
	}
	path := make([]byte, n)
	_, err = io.ReadFull(s.buf, path)
	return string(path), err
}
