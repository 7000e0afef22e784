package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"path"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// dirMeta is what a directory gets when nothing is made in it any more: its modification time would not last, its mode
// might forbid, its default ACL would be inherited.
type dirMeta struct {
	attrs
	implicit, opaque bool
}

// hold keeps what the directory at path gets in the end.
func (u *unpacker) hold(p string, a attrs) error {
	old := u.dirs[p]
	if old == nil {
		if u.names += int64(len(p)) + 128; u.names > maxNames {
			return fmt.Errorf("directory names of more than %d bytes in all: %w", maxNames, errdef.ErrLimit)
		}
		u.dirs[p] = &dirMeta{attrs: a}
		return nil
	}
	old.attrs, old.implicit = a, false
	return nil
}

// dir makes a directory, or takes the one that is there.
func (u *unpacker) dir(h handle, base string, hdr *tar.Header) error {
	a, err := u.attrs(hdr)
	if err != nil {
		return err
	}
	p := path.Join(h.path, base)
	opaque := false
	err = unix.Mkdirat(h.fd, base, 0o700)
	if errors.Is(err, unix.EEXIST) {
		var st unix.Stat_t
		if err := unix.Fstatat(h.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		err = nil
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			if u.copying {
				return u.overwrite(p, true)
			}
			opaque = u.rec != nil && IsWhiteout(&st)
			if err = u.remove(h, base, &st); err == nil {
				err = unix.Mkdirat(h.fd, base, 0o700)
			}
		}
	}
	if err != nil {
		return err
	}
	if err := u.hold(p, a); err != nil {
		return err
	}
	u.dirs[p].opaque = u.dirs[p].opaque || opaque
	return nil
}

// imply makes a directory that has no entry (yet).
func (u *unpacker) imply(h handle, base string) error {
	if err := u.count(&u.implied); err != nil {
		return err
	}
	mode := uint32(0o700)
	if u.rec == nil {
		mode = 0o755
	}
	if err := unix.Mkdirat(h.fd, base, mode); err != nil {
		return err
	}
	if u.rec == nil {
		if err := unix.Fchmodat(h.fd, base, mode, 0); err != nil {
			return err
		}
		if u.leaveOwner {
			return nil
		}
		return u.tolerate(unix.Fchownat(h.fd, base, int(u.shift.UID), int(u.shift.GID), unix.AT_SYMLINK_NOFOLLOW))
	}
	p := path.Join(h.path, base)
	if err := u.hold(p, attrs{mode: 0o755}); err != nil {
		return err
	}
	u.dirs[p].implicit = true
	return nil
}
