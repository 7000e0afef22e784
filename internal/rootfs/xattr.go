package rootfs

import (
	"bytes"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Xattrs gives the extended attributes of an open file or directory; none where the file system has no such thing.
func Xattrs(f *os.File) (map[string][]byte, error) {
	attrs, err := xattrs("/proc/self/fd/" + strconv.Itoa(int(f.Fd())))
	return attrs, pathError("listxattr", f.Name(), err)
}

// xattrs reads all extended attributes of the file behind path (followed), less capabilities that mean nothing in the user
// namespace that this process is in.
func xattrs(path string) (map[string][]byte, error) {
	names, err := grow(func(b []byte) (int, error) { return unix.Listxattr(path, b) })
	if err == unix.EOPNOTSUPP || err == nil && len(names) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	attrs := map[string][]byte{}
	for name := range bytes.SplitSeq(bytes.TrimSuffix(names, []byte{0}), []byte{0}) {
		value, err := grow(func(b []byte) (int, error) { return unix.Getxattr(path, string(name), b) })
		if err == unix.ENODATA || err == unix.EOPNOTSUPP || err == unix.EOVERFLOW {
			continue
		}
		if err != nil {
			return nil, err
		}
		attrs[string(name)] = value
	}
	return attrs, nil
}

// grow calls read with ever larger buffers until what it gives fits.
func grow(read func([]byte) (int, error)) ([]byte, error) {
	for size := 256; ; size *= 4 {
		buf := make([]byte, size)
		n, err := read(buf)
		if err == unix.ERANGE && size < 1<<20 {
			continue
		}
		if err != nil {
			return nil, err
		}
		return buf[:n], nil
	}
}

// overlayXattr reports whether name is one of overlay's own marks.
func overlayXattr(name string) bool {
	return strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.")
}
