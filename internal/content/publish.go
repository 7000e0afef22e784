package content

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// temp is a file that is not published yet. It has no name, except on a file system without O_TMPFILE.
type temp struct {
	*os.File
	name string // "" without a name
}

func (s *Store) temp() (*temp, error) {
	fd, err := unix.Open(s.dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return &temp{os.NewFile(uintptr(fd), s.dir), ""}, nil
	}
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EISDIR) {
		return nil, &fs.PathError{Op: "create in", Path: s.dir, Err: err}
	}
	f, err := os.CreateTemp(s.dir, ".tmp-*")
	if err != nil {
		return nil, err
	}
	return &temp{f, f.Name()}, nil
}

// discard closes the file and removes the name that it may still have.
func (t *temp) discard() {
	t.Close()
	if t.name != "" {
		os.Remove(t.name)
	}
}

// link gives the file the name path; fs.ErrExist when that is taken.
func (t *temp) link(path string) error {
	if t.name != "" {
		return os.Link(t.name, path)
	}
	proc := "/proc/self/fd/" + strconv.Itoa(int(t.Fd()))
	if err := unix.Linkat(unix.AT_FDCWD, proc, unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW); err != nil {
		return &fs.PathError{Op: "link", Path: path, Err: err}
	}
	return nil
}

// publish gives f the name of d. What stands there already stays if it is good (another process was faster) and is
// replaced if not (a power cut tore it).
func (s *Store) publish(f *temp, d digest.Digest) error {
	path := s.path(d)
	err := f.link(path)
	if errors.Is(err, fs.ErrExist) {
		if s.whole(d) {
			return s.published(d)
		}
		err = f.replace(path)
	}
	if err != nil {
		return fmt.Errorf("blob %s: %w", d, err)
	}
	return s.published(d)
}

// replace takes the name path from whatever has it.
func (t *temp) replace(path string) error {
	aside := filepath.Join(filepath.Dir(path), ".tmp-"+rand.Text())
	if err := t.link(aside); err != nil {
		return err
	}
	if err := os.Rename(aside, path); err != nil {
		os.Remove(aside)
		return err
	}
	return nil
}

func (s *Store) whole(d digest.Digest) bool {
	r, _, err := s.Open(d)
	if err != nil {
		return false
	}
	defer r.Close()
	return drain(r) == nil
}
