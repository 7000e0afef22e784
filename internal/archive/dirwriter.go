package archive

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"strata/internal/errdef"
)

// dirWriter writes members as files below a directory. The names are this package's own. A file is whole or absent.
type dirWriter struct {
	root    string
	written map[string]bool
}

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
	if d.written[name] {
		return nil
	}
	d.written[name] = true
	target := filepath.Join(d.root, name)
	f, err := os.CreateTemp(filepath.Dir(target), ".strata-*")
	if err != nil {
		return err
	}
	err = fill(f)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), target)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

func (d *dirWriter) close() error { return nil }
