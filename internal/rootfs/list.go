package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// entries describes names in the open directory dir, sorted. What vanished meanwhile is left out.
func entries(dir *os.File, names []string) ([]os.DirEntry, error) {
	slices.Sort(names)
	list := make([]os.DirEntry, 0, len(names))
	for _, name := range names {
		var st unix.Stat_t
		err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err == unix.ENOENT {
			continue
		}
		if err != nil {
			return nil, pathError("stat", name, err)
		}
		list = append(list, entry{name, st})
	}
	return list, nil
}

// entry is one name of a directory, seen without following links. Sys gives its unix.Stat_t by pointer.
type entry struct {
	name string
	st   unix.Stat_t
}

func (e entry) Name() string               { return e.name }
func (e entry) IsDir() bool                { return e.Type().IsDir() }
func (e entry) Type() fs.FileMode          { return e.Mode().Type() }
func (e entry) Info() (fs.FileInfo, error) { return e, nil }
func (e entry) Size() int64                { return e.st.Size }
func (e entry) ModTime() time.Time         { return time.Unix(e.st.Mtim.Unix()) }
func (e entry) Sys() any                   { return &e.st }

func (e entry) Mode() fs.FileMode {
	m := fs.FileMode(e.st.Mode & 0o777)
	switch e.st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		m |= fs.ModeDir
	case unix.S_IFLNK:
		m |= fs.ModeSymlink
	case unix.S_IFIFO:
		m |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		m |= fs.ModeSocket
	case unix.S_IFBLK:
		m |= fs.ModeDevice
	case unix.S_IFCHR:
		m |= fs.ModeDevice | fs.ModeCharDevice
	}
	if e.st.Mode&unix.S_ISUID != 0 {
		m |= fs.ModeSetuid
	}
	if e.st.Mode&unix.S_ISGID != 0 {
		m |= fs.ModeSetgid
	}
	if e.st.Mode&unix.S_ISVTX != 0 {
		m |= fs.ModeSticky
	}
	return m
}

// Glob gives the paths that match pattern, component by component as filepath.Match has it: absolute, clean, sorted.
// Links on the way are followed inside the root, the last component is not. No match is no error.
func (r *Root) Glob(pattern string) ([]string, error) {
	found := []string{"/"}
	for part := range strings.SplitSeq(path.Clean("/"+pattern), "/") {
		if part == "" {
			continue
		}
		if _, err := path.Match(part, ""); err != nil {
			return nil, fmt.Errorf("pattern %q: %w: %w", pattern, err, errdef.ErrInvalid)
		}
		var next []string
		for _, dir := range found {
			names, err := r.matching(dir, part)
			if err != nil {
				return nil, err
			}
			next = append(next, names...)
		}
		found = next
	}
	slices.Sort(found)
	return found, nil
}

// matching gives the paths in dir whose names match part. A dir that is none has no matches.
func (r *Root) matching(dir, part string) ([]string, error) {
	if !strings.ContainsAny(part, `*?[\`) {
		name := path.Join(dir, part)
		if _, err := r.Lstat(name); errors.Is(err, errdef.ErrNotFound) {
			return nil, nil
		} else if err != nil {
			return nil, err
		}
		return []string{name}, nil
	}
	list, err := r.ReadDir(dir)
	if errors.Is(err, errdef.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range list {
		if ok, _ := path.Match(part, e.Name()); ok {
			names = append(names, path.Join(dir, e.Name()))
		}
	}
	return names, nil
}
