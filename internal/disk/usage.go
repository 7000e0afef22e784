package disk

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// block is the unit of Stat_t.Blocks, whatever the file system's own is.
const block = 512

// Of is what the one file or directory of fi takes in bytes, without what is in it.
func Of(fi fs.FileInfo) int64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * block
	}
	return fi.Size()
}

// Lstat is what the one file or directory at path takes in bytes; nothing when it is not there.
func Lstat(path string) (int64, error) {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	return st.Blocks * block, nil
}

// Usage is what path and all below it take in bytes. A file of several names counts once; what vanishes meanwhile, or may
// not be looked into, counts nothing.
func Usage(path string) (int64, error) {
	total, err := Lstat(path)
	if err != nil || total == 0 && !isDir(path) {
		return total, err
	}
	m := meter{seen: map[inode]bool{}}
	err = m.below(unix.AT_FDCWD, path)
	return total + m.total, err
}

func isDir(path string) bool {
	fi, err := os.Lstat(path)
	return err == nil && fi.IsDir()
}

type inode struct{ dev, ino uint64 }

// meter adds up a tree, relative to one open directory at a time.
type meter struct {
	total int64
	seen  map[inode]bool // files of several names
}

func (m *meter) below(at int, name string) error {
	fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return nil
	case err != nil:
		return &fs.PathError{Op: "open", Path: name, Err: err}
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(512)
		for _, name := range names {
			if err := m.entry(fd, name); err != nil {
				return err
			}
		}
		if err == io.EOF || len(names) == 0 && err == nil {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (m *meter) entry(at int, name string) error {
	var st unix.Stat_t
	err := unix.Fstatat(at, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "lstat", Path: name, Err: err}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		m.total += st.Blocks * block
		return m.below(at, name)
	}
	if key := (inode{st.Dev, st.Ino}); st.Nlink > 1 {
		if m.seen[key] {
			return nil
		}
		m.seen[key] = true
	}
	m.total += st.Blocks * block
	return nil
}
