package archive

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"time"

	"strata/internal/errdef"
)

// tarWriter writes members that depend on nothing but their names and bytes. A name that was written is not written
// again: equal names are equal blobs.
type tarWriter struct {
	tw      *tar.Writer
	written map[string]bool
}

func newTarWriter(w io.Writer) *tarWriter {
	return &tarWriter{tar.NewWriter(w), map[string]bool{}}
}

func (t *tarWriter) dir(name string) error {
	return t.tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755, ModTime: time.Unix(0, 0)})
}

func (t *tarWriter) file(name string, data []byte) error {
	return t.copy(name, int64(len(data)), bytes.NewReader(data))
}

// copy writes a member of size bytes from r, to r's end.
func (t *tarWriter) copy(name string, size int64, r io.Reader) error {
	if t.written[name] {
		return nil
	}
	t.written[name] = true
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0)}
	if err := t.tw.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.Copy(t.tw, r)
	if err == tar.ErrWriteTooLong || err == nil && n != size {
		return fmt.Errorf("%s: not the %d bytes that it should have: %w", name, size, errdef.ErrCorrupt)
	}
	return err
}

func (t *tarWriter) has(name string, _ int64) bool { return t.written[name] }

func (t *tarWriter) close() error { return t.tw.Close() }
