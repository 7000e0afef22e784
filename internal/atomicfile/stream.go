package atomicfile

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Stream publishes what fn writes at path with mode, as [Write] does; when fn fails nothing is. It is for large files in directories
// that nobody sweeps: where the file system can, the file has no name before it is complete, and a killed process leaves nothing.
func Stream(path string, mode os.FileMode, fn func(w io.Writer) error) error {
	return Fill(path, mode, func(f *os.File) error {
		w := bufio.NewWriterSize(f, 1<<20)
		return errors.Join(fn(w), w.Flush())
	})
}

// Fill is [Stream] for a writer that wants the file itself.
func Fill(path string, mode os.FileMode, fn func(f *os.File) error) error {
	f, named, err := unnamed(path)
	if err != nil {
		return err
	}
	if err := errors.Join(fn(f), f.Chmod(mode)); err != nil {
		return errors.Join(err, drop(f, named))
	}
	if named {
		if err := errors.Join(f.Close(), os.Rename(f.Name(), path)); err != nil {
			os.Remove(f.Name())
			return err
		}
		return nil
	}
	return errors.Join(name(f, path), f.Close())
}

// drop gives up a file that did not become complete.
func drop(f *os.File, named bool) error {
	err := f.Close()
	if named {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}

// unnamed opens a new file beside path: one without a name, or, on file systems that have none such (NFS, some of FUSE), one with a
// temporary name.
func unnamed(path string) (f *os.File, named bool, err error) {
	dir := filepath.Dir(path)
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return os.NewFile(uintptr(fd), path), false, nil // the name is for errors
	}
	f, err = os.CreateTemp(dir, ".tmp-*")
	return f, true, err
}

// name gives a file without a name the name path, also where another file has it.
func name(f *os.File, path string) error {
	err := link(f, path)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	// A link replaces nothing, a rename does.
	aside := filepath.Join(filepath.Dir(path), ".tmp-"+rand.Text())
	if err := link(f, aside); err != nil {
		return err
	}
	if err := os.Rename(aside, path); err != nil {
		os.Remove(aside)
		return err
	}
	return nil
}

// link goes by /proc: by the descriptor itself it would need a capability.
func link(f *os.File, path string) error {
	from := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	if err := unix.Linkat(unix.AT_FDCWD, from, unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW); err != nil {
		return &os.LinkError{Op: "link", Old: from, New: path, Err: err}
	}
	return nil
}
