package layer

import (
	"errors"

	"golang.org/x/sys/unix"
)

// MakeWhiteout makes the whiteout name in the directory dirfd: a character device 0/0, as overlay has it. A file system that
// is an overlay itself, as inside a container, refuses those; there it is a socket, which nothing else in a layer is.
func MakeWhiteout(dirfd int, name string) error {
	err := unix.Mknodat(dirfd, name, unix.S_IFCHR, 0)
	if errors.Is(err, unix.EPERM) {
		err = unix.Mknodat(dirfd, name, unix.S_IFSOCK, 0)
	}
	return err
}

// IsWhiteout reports whether a file of a layer is a whiteout.
func IsWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 || st.Mode&unix.S_IFMT == unix.S_IFSOCK
}
