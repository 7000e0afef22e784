package layer

import (
	"errors"
	"fmt"
	"maps"
	"strings"

	"golang.org/x/sys/unix"
)

// lowerStack answers what the layers below an upper directory show, as overlay does. A directory of the upper tree goes
// with the list of the lower directories that are merged at its path, topmost first.
type lowerStack struct{ userxattr bool }

// look finds name in the merged directories dirs. top is the path of what is shown, "" for nothing; sub are the
// directories that are merged at name if what is shown is a directory.
func (l lowerStack) look(dirs []string, name string) (top string, st unix.Stat_t, sub []string, err error) {
	for _, dir := range dirs {
		p := dir + "/" + name
		var s unix.Stat_t
		err := unix.Lstat(p, &s)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return "", st, nil, fmt.Errorf("%s: %w", p, err)
		}
		if IsWhiteout(&s) {
			break
		}
		isDir := s.Mode&unix.S_IFMT == unix.S_IFDIR
		if top == "" {
			top, st = p, s
		}
		if !isDir {
			break
		}
		sub = append(sub, p)
		if l.opaque(p) {
			break
		}
	}
	return top, st, sub, nil
}

func (l lowerStack) opaque(dir string) bool {
	var v [1]byte
	n, err := unix.Lgetxattr(dir, overlayXattr(l.userxattr, "opaque"), v[:])
	return err == nil && n == 1 && v[0] == 'y'
}

// kept are the xattrs that belong to a file rather than to this machine.
func kept(name string) bool {
	if strings.HasPrefix(name, "user.") {
		return !isOverlayXattr(name) && !strings.Contains(name, "=") // PAX has no name with "="
	}
	return name == "security.capability" || name == "system.posix_acl_access" || name == "system.posix_acl_default"
}

// xattrs reads the xattrs of an open file: those that are kept, and the names of those that are overlay's.
func xattrsOf(fd int) (keep map[string]string, overlay []string, err error) {
	names, err := xattrList(func(b []byte) (int, error) { return unix.Flistxattr(fd, b) })
	for _, name := range names {
		if isOverlayXattr(name) {
			overlay = append(overlay, name)
			continue
		}
		if !kept(name) {
			continue
		}
		value, gerr := xattrValue(func(b []byte) (int, error) { return unix.Fgetxattr(fd, name, b) })
		if errors.Is(gerr, unix.ENODATA) {
			continue
		}
		if gerr != nil {
			return nil, nil, fmt.Errorf("xattr %q: %w", name, gerr)
		}
		if keep == nil {
			keep = map[string]string{}
		}
		keep[name] = value
	}
	return keep, overlay, err
}

func xattrList(list func([]byte) (int, error)) ([]string, error) {
	raw, err := xattrValue(list)
	if errors.Is(err, unix.ENOTSUP) || raw == "" {
		return nil, nil
	}
	return strings.Split(strings.TrimSuffix(raw, "\x00"), "\x00"), err
}

// xattrValue calls get with buffers until one is large enough. The kernel's bound is 64 KiB.
func xattrValue(get func([]byte) (int, error)) (string, error) {
	var small [256]byte
	n, err := get(small[:])
	if errors.Is(err, unix.ERANGE) {
		buf := make([]byte, 64<<10)
		n, err = get(buf)
		if err != nil {
			return "", err
		}
		return string(buf[:n]), nil
	}
	if err != nil {
		return "", err
	}
	return string(small[:n]), nil
}

// sameDir says whether an upper directory has the attributes of the lower one at path; times says whether the
// modification time counts.
func sameDir(fd int, up, low *unix.Stat_t, path string, times bool) (bool, error) {
	if up.Mode != low.Mode || up.Uid != low.Uid || up.Gid != low.Gid || times && up.Mtim != low.Mtim {
		return false, nil
	}
	mine, _, err := xattrsOf(fd)
	if err != nil {
		return false, err
	}
	other, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	defer unix.Close(other)
	theirs, _, err := xattrsOf(other)
	return maps.Equal(mine, theirs), err
}
