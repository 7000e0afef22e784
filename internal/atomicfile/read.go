package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// Read gives the bytes of a small file and what its system calls know of it. It takes half of what os.ReadFile takes, which counts
// where thousands of records are read. A file of more than limit bytes is errdef.ErrLimit, what is no file errdef.ErrCorrupt.
func Read(path string, limit int64) ([]byte, unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := openRead(path)
	if err != nil {
		return nil, st, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, st, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, st, fmt.Errorf("%s is no file: %w", path, errdef.ErrCorrupt)
	}
	if st.Size > limit {
		return nil, st, fmt.Errorf("%s has %d bytes (at most %d): %w", path, st.Size, limit, errdef.ErrLimit)
	}
	data := make([]byte, st.Size)
	for at := 0; at < len(data); {
		n, err := unix.Read(fd, data[at:])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, st, &fs.PathError{Op: "read", Path: path, Err: err}
		case n == 0: // it became shorter
			return data[:at], st, nil
		}
		at += n
	}
	return data, st, nil
}

func openRead(path string) (int, error) {
	for {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}
