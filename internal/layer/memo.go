package layer

import (
	"io/fs"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"strata/internal/oci"
)

// memo remembers records that were read, so that a build on many layers, which asks for each several times, reads each once.
// A record is replaced by a rename, which gives it another file: what is remembered counts for the same file only.
type memo struct {
	mu    sync.Mutex
	known map[oci.DiffID]remembered
}

type remembered struct {
	file recordFile
	meta Meta
}

// recordFile is all by which a record's file is taken for the one that was read.
type recordFile struct {
	dev, ino           uint64
	size, mtime, ctime int64
}

func fileOf(st unix.Stat_t) recordFile {
	return recordFile{st.Dev, st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano()}
}

// read gives the record at path, of the layer id.
func (m *memo) read(id oci.DiffID, path string) (Meta, error) {
	m.mu.Lock()
	r, ok := m.known[id]
	m.mu.Unlock()
	if ok {
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return Meta{}, &fs.PathError{Op: "lstat", Path: path, Err: err}
		}
		ok = r.file == fileOf(st)
	}
	if !ok {
		meta, file, err := readRecord(path)
		if err != nil {
			return Meta{}, err
		}
		r = remembered{file, meta}
		m.mu.Lock()
		m.known[id] = r
		m.mu.Unlock()
	}
	r.meta.Blobs = slices.Clone(r.meta.Blobs) // what a caller changes is its own
	return r.meta, nil
}
