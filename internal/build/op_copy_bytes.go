package build

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"strata/internal/rootfs"
)

// copyBytes copies a file's content: shared where the file system can, by the kernel where it can, and holes as holes.
func copyBytes(out, in *os.File, st *unix.Stat_t) error {
	if st.Size == 0 {
		return nil
	}
	if unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) == nil {
		return nil
	}
	if st.Blocks*512 < st.Size {
		return copySparse(out, in, st.Size)
	}
	// os.File's ReadFrom uses copy_file_range where it can, read and write elsewhere.
	_, err := io.Copy(out, in)
	return err
}

// copySparse copies what is data and leaves holes between.
func copySparse(out, in *os.File, size int64) error {
	if err := out.Truncate(size); err != nil {
		return err
	}
	for at := int64(0); at < size; {
		data, err := unix.Seek(int(in.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // a hole up to the end
			return nil
		}
		if err != nil { // a file system that knows no holes says that all is data; another error does not matter either
			data = at
		}
		end, err := unix.Seek(int(in.Fd()), data, unix.SEEK_HOLE)
		if err != nil || end > size {
			end = size
		}
		if _, err := in.Seek(data, io.SeekStart); err != nil {
			return err
		}
		if _, err := out.Seek(data, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.CopyN(out, in, end-data); err != nil {
			return err
		}
		at = end
	}
	return nil
}

// carriedXattrs are the attributes of a file or directory that a copy of it has: the user's own and ACLs; and of another
// stage's or image's file its capabilities. Those of a file in a context are left behind, as BuildKit leaves them.
func carriedXattrs(f *os.File, capabilities bool) (map[string][]byte, error) {
	attrs, err := rootfs.Xattrs(f)
	maps.DeleteFunc(attrs, func(name string, _ []byte) bool {
		if name == "security.capability" {
			return !capabilities
		}
		return strings.HasPrefix(name, "user.overlay.") || !strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "system.posix_acl_")
	})
	return attrs, err
}

// xattrSum is a digest of attributes; the zero one of none.
func xattrSum(attrs map[string][]byte) (sum [sha256.Size]byte) {
	if len(attrs) == 0 {
		return sum
	}
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(attrs)) {
		for _, text := range [][]byte{[]byte(name), attrs[name]} {
			var n [8]byte
			binary.BigEndian.PutUint64(n[:], uint64(len(text)))
			h.Write(n[:])
			h.Write(text)
		}
	}
	h.Sum(sum[:0])
	return sum
}
