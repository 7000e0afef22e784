package layer

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// recorder stands between a tar's bytes and archive/tar and sees to it that every byte is in the skeleton: as it is, as
// the payload of a file in fs/, or in a side file.
type recorder struct {
	src  io.Reader
	skel *skelWriter
	dir  string // the staged layer
	mode recMode

	held []byte   // aside: what is not known yet to be long
	side *os.File // aside: where it goes when it is
	n    int64    // aside: bytes in side

	// owner says which 'F' record a file's bytes stand for, by the hash of its path: when the file goes, its bytes
	// must stay under that number. Eight bytes a name, because a tar may have millions.
	owner map[uint64]uint64
	seed  maphash.Seed
	disk  int64 // bytes in side files
}

type recMode byte

const (
	toRaw   recMode = iota // into the skeleton
	toFile                 // the caller writes them to a file and tells by payload
	toAside                // into the skeleton if they are few, else into a side file
)

func newRecorder(src io.Reader, skel *skelWriter, dir string) *recorder {
	return &recorder{src: src, skel: skel, dir: dir, owner: map[uint64]uint64{}, seed: maphash.MakeSeed()}
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.src.Read(p)
	if n == 0 {
		return n, err
	}
	var werr error
	switch r.mode {
	case toRaw:
		werr = r.skel.raw(p[:n])
	case toAside:
		werr = r.putAside(p[:n])
	}
	if werr != nil {
		return n, werr
	}
	return n, err
}

// payload records that what was read in mode toFile, n bytes, is in fs/path.
func (r *recorder) payload(path string, n int64) error {
	num, err := r.skel.file(path, n)
	if err != nil {
		return err
	}
	r.owner[maphash.String(r.seed, path)] = num
	return nil
}

func (r *recorder) putAside(p []byte) error {
	if r.side == nil && len(r.held)+len(p) <= maxRaw {
		r.held = append(r.held, p...)
		return nil
	}
	if r.side == nil {
		dir := filepath.Join(r.dir, sideName)
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		f, err := os.OpenFile(filepath.Join(dir, sideFile(r.skel.sides)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		r.side, r.n = f, int64(len(r.held))
		if _, err := f.Write(r.held); err != nil {
			return err
		}
	}
	r.n += int64(len(p))
	_, err := r.side.Write(p)
	return err
}

// aside runs fn, which reads a payload that will not be in fs/ as it is, and keeps what it read.
func (r *recorder) aside(fn func() error) error {
	r.mode, r.held, r.n = toAside, r.held[:0], 0
	err := fn()
	r.mode = toRaw
	if r.side == nil {
		if err != nil {
			return err
		}
		return r.skel.raw(r.held)
	}
	if cerr := r.side.Close(); err == nil {
		err = cerr
	}
	r.side = nil
	if err != nil {
		return err
	}
	r.disk += r.n
	return r.skel.side(r.n)
}

func sideFile(k uint64) string { return "s" + strconv.FormatUint(k, 10) }

// leaving is called before the file base in the directory dirfd, known as path, loses its name. If the skeleton takes
// bytes from it, the file moves to shadow/ (and gone is true: it has left already).
func (r *recorder) leaving(dirfd int, base, path string) (gone bool, err error) {
	key := maphash.String(r.seed, path)
	num, ok := r.owner[key]
	if !ok {
		return false, nil
	}
	delete(r.owner, key)
	dir := filepath.Join(r.dir, sideName)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return false, err
	}
	target := filepath.Join(dir, strconv.FormatUint(num, 10))
	if err := unix.Renameat(dirfd, base, unix.AT_FDCWD, target); err != nil {
		return false, fmt.Errorf("keep its first content: %w", err)
	}
	return true, nil
}
