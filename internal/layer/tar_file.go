package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"

	"strata/internal/errdef"
	"strata/internal/oci"
)

// fileReader reads the tar of a layer that is kept as one. It ends with its context.
type fileReader struct {
	stop func() error
	io.ReadSeeker
	io.Closer
}

func (r *fileReader) Read(p []byte) (int, error) {
	if err := r.stop(); err != nil {
		return 0, err
	}
	return r.ReadSeeker.Read(p)
}

// openTar opens a tar and sees that it is as long as it was.
func (s *Store) openTar(ctx context.Context, m Meta) (io.ReadSeekCloser, error) {
	f, err := s.part(m.DiffID, tarName, wholeBlocks(m.Size))
	if err != nil {
		return nil, err
	}
	return &fileReader{ctx.Err, io.NewSectionReader(f, 0, m.Size), f}, nil
}

// part opens one file of a layer; one that is missing or has another size is damage. A size below zero is not known.
func (s *Store) part(id oci.DiffID, name string, size int64) (*os.File, error) {
	f, err := os.Open(s.path(id, name))
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", errdef.ErrCorrupt, err)
	}
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", id, err)
	}
	fi, err := f.Stat()
	if err == nil && size >= 0 && fi.Size() != size {
		err = fmt.Errorf("layer %s: file %q has %d bytes, not %d: %w", id, name, fi.Size(), size, errdef.ErrCorrupt)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// tarPresent sees that the files of a layer in tar form are there and have their sizes.
func (s *Store) tarPresent(m Meta) error {
	for name, size := range map[string]int64{tarName: wholeBlocks(m.Size), indexName: m.Disk - m.Size} {
		f, err := s.part(m.DiffID, name, size)
		if err != nil {
			return err
		}
		f.Close()
	}
	return nil
}

// formOf says which form the layer is in, even when its record is damaged.
func (s *Store) formOf(id oci.DiffID) string {
	if m, err := readMeta(s.path(id, metaName)); err == nil && m.Form != "" {
		return m.Form
	}
	if _, err := os.Lstat(s.path(id, tarName)); err == nil {
		return formTar
	}
	return formDir
}

// rawTarFile is the tar of a layer whose record may be damaged. Then it is taken for as long as its file is.
func (s *Store) rawTarFile(ctx context.Context, id oci.DiffID) (io.ReadCloser, error) {
	f, err := s.part(id, tarName, -1)
	if err != nil {
		return nil, err
	}
	size := int64(1) << 62
	if m, err := readMeta(s.path(id, metaName)); err == nil && m.DiffID == id {
		size = m.Size
	}
	return &fileReader{ctx.Err, io.NewSectionReader(f, 0, size), f}, nil
}

// verifyIndex compares the index of a layer in tar form with its digest.
func (s *Store) verifyIndex(id oci.DiffID) error {
	m, err := s.Stat(id)
	if err != nil || m.Form != formTar {
		return err
	}
	f, err := s.part(id, indexName, m.Disk-m.Size)
	if err != nil {
		return err
	}
	defer f.Close()
	got, err := digest.FromReader(f)
	if err == nil && got != m.Index {
		err = fmt.Errorf("file %q has the digest %s, not %s: %w", indexName, got, m.Index, errdef.ErrCorrupt)
	}
	if err != nil {
		return fmt.Errorf("layer %s: %w", id, err)
	}
	return nil
}

// flushEach writes some files of layers that are kept as tars to the disk, and their names: not what else is on its way
// there, which on a busy machine may be much.
func (s *Store) flushEach(layers map[oci.DiffID]bool, files []string) error {
	for id := range layers {
		for _, name := range append(files, ".") {
			if err := syncFile(s.path(id, name)); err != nil && !errors.Is(err, fs.ErrNotExist) { // collected meanwhile, or it has none
				return fmt.Errorf("layer %s: flush: %w", id, err)
			}
		}
	}
	if err := syncFile(s.dir); err != nil {
		return fmt.Errorf("layer store: flush: %w", err)
	}
	return nil
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
