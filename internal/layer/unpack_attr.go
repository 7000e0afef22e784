package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

const paxXattr = "SCHILY.xattr."

// attrs is what a file has beside its content.
type attrs struct {
	mode     uint32
	uid, gid int
	mtime    unix.Timespec
	xattrs   map[string]string
}

func (u *unpacker) attrs(hdr *tar.Header) (attrs, error) {
	h := *hdr
	if u.uid != nil {
		h.Uid = *u.uid
	}
	if u.gid != nil {
		h.Gid = *u.gid
	}
	a, err := attrsOf(&h)
	if err == nil {
		a.uid, a.gid, err = u.shift.outside(a.uid, a.gid)
	}
	if err == nil {
		err = u.shift.xattrs(a.xattrs, true)
	}
	if !u.harmless {
		return a, err
	}
	if hdr.Typeflag != tar.TypeDir {
		a.mode &^= unix.S_ISUID | unix.S_ISGID
	}
	maps.DeleteFunc(a.xattrs, func(name, _ string) bool { return !strings.HasPrefix(name, "user.") })
	return a, err
}

// attrsOf are the attributes that an entry's header says.
func attrsOf(hdr *tar.Header) (attrs, error) {
	a := attrs{mode: uint32(hdr.Mode & 0o7777), uid: hdr.Uid, gid: hdr.Gid}
	const most = 1<<32 - 2 // 2³²-1 means "leave it" to the kernel
	if a.uid < 0 || a.gid < 0 || a.uid > most || a.gid > most {
		return a, fmt.Errorf("owner %d:%d (at most %d): %w", a.uid, a.gid, most, errdef.ErrInvalid)
	}
	a.mtime = unix.Timespec{Sec: hdr.ModTime.Unix(), Nsec: int64(hdr.ModTime.Nanosecond())}
	for k, v := range hdr.PAXRecords {
		name, ok := strings.CutPrefix(k, paxXattr)
		if !ok || neverOnDisk(name) {
			continue
		}
		if a.xattrs == nil {
			a.xattrs = map[string]string{}
		}
		a.xattrs[name] = v
	}
	return a, nil
}

// neverOnDisk are the xattrs that would steer overlay, or this machine's own labels.
func neverOnDisk(name string) bool {
	return isOverlayXattr(name) || name == "security.selinux"
}

func isOverlayXattr(name string) bool {
	return strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.")
}

// apply sets what an open file has. The order matters: a change of owner clears set-id bits and capabilities.
func (u *unpacker) apply(fd int, a attrs) error {
	if !u.leaveOwner {
		if err := u.tolerate(unix.Fchown(fd, a.uid, a.gid)); err != nil {
			return fmt.Errorf("owner: %w", err)
		}
	}
	if err := unix.Fchmod(fd, a.mode); err != nil {
		return fmt.Errorf("mode: %w", err)
	}
	for name, value := range a.xattrs {
		if err := optional(unix.Fsetxattr(fd, name, []byte(value), 0)); err != nil {
			return fmt.Errorf("xattr %.100q: %w", name, err)
		}
	}
	if err := unix.UtimesNanoAt(fd, "", both(a.mtime), unix.AT_EMPTY_PATH); err != nil {
		return fmt.Errorf("times: %w", err)
	}
	return nil
}

// applyAt is apply for what cannot be opened: symbolic links and device nodes.
func (u *unpacker) applyAt(h handle, base string, a attrs, mode bool) error {
	if !u.leaveOwner {
		if err := u.tolerate(unix.Fchownat(h.fd, base, a.uid, a.gid, unix.AT_SYMLINK_NOFOLLOW)); err != nil {
			return fmt.Errorf("owner: %w", err)
		}
	}
	if mode {
		if err := unix.Fchmodat(h.fd, base, a.mode, 0); err != nil {
			return fmt.Errorf("mode: %w", err)
		}
	}
	for name, value := range a.xattrs {
		file := "/proc/self/fd/" + strconv.Itoa(h.fd) + "/" + base
		if err := optional(unix.Lsetxattr(file, name, []byte(value), 0)); err != nil {
			return fmt.Errorf("xattr %.100q: %w", name, err)
		}
	}
	if err := unix.UtimesNanoAt(h.fd, base, both(a.mtime), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("times: %w", err)
	}
	return nil
}

func both(t unix.Timespec) []unix.Timespec { return []unix.Timespec{t, t} }

// tolerate passes over an owner that cannot be set, where that was said to be fine.
func (u *unpacker) tolerate(err error) error {
	if u.ignoreOwner && (errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL)) {
		return nil
	}
	return err
}

// optional passes over an xattr that this file system or this process cannot have: the skeleton has it.
func optional(err error) error {
	for _, e := range []error{unix.ENOTSUP, unix.EPERM, unix.EACCES, unix.EINVAL, unix.E2BIG, unix.ERANGE} {
		if errors.Is(err, e) {
			return nil
		}
	}
	return err
}

// finish gives the directories what they were to have, children before parents.
func (u *unpacker) finish() error {
	u.t.begin()
	if u.rec != nil && u.dirs[""] == nil {
		u.dirs[""] = &dirMeta{attrs: attrs{mode: 0o755}, implicit: true}
	}
	paths := slices.Sorted(maps.Keys(u.dirs))
	slices.Reverse(paths)
	for _, p := range paths {
		if err := u.finishDir(p, u.dirs[p]); err != nil {
			return fmt.Errorf("directory %.200q: %w", p, err)
		}
	}
	return nil
}

func (u *unpacker) finishDir(p string, d *dirMeta) error {
	fd, err := openBeneath(u.t.root.fd, p, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if d.opaque {
		if err := unix.Fsetxattr(fd, overlayXattr(u.userxattr, "opaque"), []byte("y"), 0); err != nil {
			return fmt.Errorf("mark as opaque: %w", err)
		}
	}
	return u.apply(fd, d.attrs)
}

func overlayXattr(user bool, name string) string {
	if user {
		return "user.overlay." + name
	}
	return "trusted.overlay." + name
}

// implicit lists the directories without an entry.
func (u *unpacker) implicit() []string {
	var list []string
	for p, d := range u.dirs {
		if d.implicit && p != "" {
			list = append(list, p)
		}
	}
	slices.Sort(list)
	return list
}

// remove takes base out of h, with all below it. Payloads that the skeleton needs are moved to where it finds them.
func (u *unpacker) remove(h handle, base string, st *unix.Stat_t) error {
	p := path.Join(h.path, base)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		u.t.forget()
		return u.removeTree(p)
	case unix.S_IFLNK:
		u.t.forget()
	}
	return u.unlink(h.fd, base, p)
}

func (u *unpacker) unlink(dirfd int, base, p string) error {
	if u.rec != nil {
		if gone, err := u.rec.leaving(dirfd, base, p); gone || err != nil {
			return err
		}
	}
	return unix.Unlinkat(dirfd, base, 0)
}

// removeTree empties directories from the top, one open at a time, then removes them from the bottom.
func (u *unpacker) removeTree(top string) error {
	dirs := []string{top}
	for i := 0; i < len(dirs); i++ {
		sub, err := u.empty(dirs[i])
		if err != nil {
			return err
		}
		dirs = append(dirs, sub...)
	}
	for _, p := range slices.Backward(dirs) {
		parent, err := u.t.real(parentOf(p))
		if err != nil {
			return err
		}
		err = unix.Unlinkat(parent.fd, path.Base(p), unix.AT_REMOVEDIR)
		unix.Close(parent.fd)
		if err != nil {
			return err
		}
		delete(u.dirs, p)
	}
	return nil
}

// empty unlinks what is no directory in p and gives the directories.
func (u *unpacker) empty(p string) ([]string, error) {
	fd, err := openBeneath(u.t.root.fd, p, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	entries, err := listDir(fd)
	if err != nil {
		return nil, err
	}
	var sub []string
	for _, e := range entries {
		if e.IsDir() {
			sub = append(sub, path.Join(p, e.Name()))
			continue
		}
		if err := u.unlink(fd, e.Name(), path.Join(p, e.Name())); err != nil {
			return nil, err
		}
	}
	return sub, nil
}
