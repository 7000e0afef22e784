package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"path"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

func (u *unpacker) symlink(h handle, base string, hdr *tar.Header) error {
	if hdr.Linkname == "" {
		return fmt.Errorf("symbolic link to nothing: %w", errdef.ErrInvalid)
	}
	a, err := u.attrs(hdr)
	if err != nil {
		return err
	}
	err = u.fresh(h, base, func() error { return unix.Symlinkat(hdr.Linkname, h.fd, base) })
	if err != nil {
		return err
	}
	return u.applyAt(h, base, a, false)
}

func (u *unpacker) node(h handle, base string, hdr *tar.Header) error {
	a, err := u.attrs(hdr)
	if err != nil {
		return err
	}
	mode, dev := deviceKind(hdr.Typeflag), uint32(0)
	if mode != unix.S_IFIFO {
		if u.harmless {
			u.devices++
			u.missing++
			return nil
		}
		dev = deviceNumber(hdr)
	}
	err = u.fresh(h, base, func() error {
		if mode == unix.S_IFCHR && dev == 0 {
			// On disk this would be a whiteout; the name must be free all the same.
			var st unix.Stat_t
			if unix.Fstatat(h.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
				return unix.EEXIST
			}
			return unix.EPERM
		}
		return unix.Mknodat(h.fd, base, mode|0o600, int(dev))
	})
	if errors.Is(err, unix.EPERM) {
		u.missing++
		return nil
	}
	if err != nil {
		return err
	}
	return u.applyAt(h, base, a, true)
}

// deviceKind is the file type of an entry that is a device node or a pipe.
func deviceKind(typeflag byte) uint32 {
	switch typeflag {
	case tar.TypeChar:
		return unix.S_IFCHR
	case tar.TypeBlock:
		return unix.S_IFBLK
	}
	return unix.S_IFIFO
}

// deviceNumber is the number of a device as the kernel keeps it: what does not fit into 32 bits is lost.
func deviceNumber(hdr *tar.Header) uint32 {
	return uint32(unix.Mkdev(uint32(hdr.Devmajor), uint32(hdr.Devminor)))
}

// linkTarget resolves what a hard link entry links to, as a real path. "" says that the entry needs nothing: it links to
// itself, or to something that is missing here for a reason of ours.
func (u *unpacker) linkTarget(hdr *tar.Header, full string) (string, error) {
	to, err := cleanName(hdr.Linkname)
	if err == nil && to == "" {
		err = fmt.Errorf("it is the root: %w", errdef.ErrInvalid)
	}
	if err != nil {
		return "", fmt.Errorf("hard link to %.200q: %w", hdr.Linkname, err)
	}
	to = path.Join(u.base, to)
	h, err := u.t.dir(parentOf(to))
	if err != nil {
		return "", fmt.Errorf("hard link to %.200q: %w", hdr.Linkname, err)
	}
	var st unix.Stat_t
	base := path.Base(to)
	err = unix.Fstatat(h.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case errors.Is(err, unix.ENOENT) && u.missing > 0:
		u.missing++
		return "", nil
	case errors.Is(err, unix.ENOENT) || err == nil && IsWhiteout(&st):
		return "", fmt.Errorf("hard link to %.200q, which is not there: %w", hdr.Linkname, errdef.ErrInvalid)
	case err != nil:
		return "", err
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return "", fmt.Errorf("hard link to the directory %.200q: %w", hdr.Linkname, errdef.ErrInvalid)
	}
	real := path.Join(h.path, base)
	own, err := u.t.dir(parentOf(full))
	if err != nil {
		return "", err
	}
	if path.Join(own.path, path.Base(full)) == real {
		return "", nil
	}
	return real, nil
}

// link makes a hard link to the real path target. Attributes are the target's: an inode has them once.
func (u *unpacker) link(h handle, base, target string) error {
	err := u.fresh(h, base, func() error {
		dir, err := u.t.real(parentOf(target))
		if err != nil {
			return err
		}
		defer unix.Close(dir.fd)
		return unix.Linkat(dir.fd, path.Base(target), h.fd, base, 0)
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EPERM) { // gone, or a directory now
		return fmt.Errorf("hard link to %.200q, which it replaces: %w", target, errdef.ErrInvalid)
	}
	return err
}
