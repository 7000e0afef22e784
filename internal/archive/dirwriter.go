package archive

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/opencontainers/go-digest"

	"strata/internal/atomicfile"
	"strata/internal/errdef"
)

// dirWriter writes members as files below a directory. The names are this package's own. A file is whole or absent.
type dirWriter struct {
	root string

	mu      sync.Mutex
	written map[string]bool
}

func newDirWriter(root string) *dirWriter { return &dirWriter{root: root, written: map[string]bool{}} }

func (d *dirWriter) dir(name string) error { return os.MkdirAll(filepath.Join(d.root, name), 0o755) }

func (d *dirWriter) file(name string, data []byte) error {
	return d.put(name, func(f *os.File) error {
		_, err := f.Write(data)
		return err
	})
}

func (d *dirWriter) copy(name string, size int64, r io.Reader) error {
	return d.put(name, func(f *os.File) error {
		n, err := io.Copy(f, r)
		if err == nil && n != size {
			err = fmt.Errorf("%s: not the %d bytes that it should have: %w", name, size, errdef.ErrCorrupt)
		}
		return err
	})
}

func (d *dirWriter) put(name string, fill func(f *os.File) error) error {
	if d.wrote(name) {
		return nil
	}
	if err := atomicfile.Fill(filepath.Join(d.root, name), 0o644, fill); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.written[name] = true
	return nil
}

func (d *dirWriter) wrote(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.written[name]
}

// has takes a file that was there before for what its name says only if its bytes are that.
func (d *dirWriter) has(name string, size int64) bool {
	if d.wrote(name) {
		return true
	}
	f, err := os.Open(filepath.Join(d.root, name))
	if err != nil {
		return false
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() || st.Size() != size {
		return false
	}
	got, err := digest.FromReader(f)
	return err == nil && blobName(got) == name
}

func (d *dirWriter) close() error { return nil }
