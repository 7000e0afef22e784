package mount

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// Users are the ids of a user namespace.
type Users struct {
	Namespace *os.File // open
	UID, GID  int      // what its ids 0 are outside
}

// Close lets the namespace go. Nil Users are none.
func (u *Users) Close() {
	if u != nil && u.Namespace != nil {
		u.Namespace.Close()
	}
}

// As runs fn with new files belonging to the namespace's root, and with all rights over files that the caller has. Only the
// calling thread is changed: the goroutine is one that [Private] or [Join] runs, and fn makes files in no other.
func (u *Users) As(fn func() error) (err error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&header, &caps[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	uid, gid := unix.Geteuid(), unix.Getegid()
	defer func() { err = errors.Join(err, setFileIDs(uid, gid)) }()
	if err := setFileIDs(u.UID, u.GID); err != nil {
		return err
	}
	if err := unix.Capset(&header, &caps[0]); err != nil { // leaving 0 took those over files away
		return fmt.Errorf("capabilities: %w", err)
	}
	return fn()
}

func setFileIDs(uid, gid int) error {
	_, gerr := unix.SetfsgidRetGid(gid)
	_, uerr := unix.SetfsuidRetUid(uid)
	if err := errors.Join(gerr, uerr); err != nil {
		return fmt.Errorf("file system ids %d:%d: %w", uid, gid, err)
	}
	return nil
}

// Idmap gives a copy of the mount at source in which files of owner 0 belong to the namespace's root, and so on: they
// keep their owners on the disk, and processes of that namespace see and make them as their own (Linux ≥ 5.12, and the file
// system must be able to: errdef.ErrUnsupported). recursive brings what is mounted below along. The copy is nowhere;
// [Attach] shows it.
func Idmap(source string, users *Users, recursive bool) (*os.File, error) {
	tree, err := idmapFd(source, users, recursive)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(tree), source), nil
}

func idmapFd(source string, users *Users, recursive bool) (int, error) {
	tree, err := openBind(source, false, recursive)
	if err != nil {
		return -1, fmt.Errorf("copy of the mount %s: %w", source, classify(err))
	}
	if err := users.mapOwners(tree, source, recursive); err != nil {
		return -1, err
	}
	return tree, nil
}

// mapOwners maps the owners in a mount that is nowhere yet, and closes it where that fails.
func (u *Users) mapOwners(tree int, source string, recursive bool) error {
	flags := uint(unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(u.Namespace.Fd())}
	err := unix.MountSetattr(tree, "", flags, &attr)
	if err == nil {
		return nil
	}
	unix.Close(tree)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		err = fmt.Errorf("%w: %w", err, errdef.ErrUnsupported)
	}
	return fmt.Errorf("mapped owners in %s: %w", source, classify(err))
}

// openIdmapped opens the overlay's directories in copies of their mounts that have owners mapped. Upper and work are
// neighbours: the kernel wants them in one mount.
func (o Overlay) openIdmapped(h *handles) error {
	for _, dir := range o.Lower {
		tree, err := idmapFd(dir, o.Users, false)
		if err != nil {
			return err
		}
		h.lower = append(h.lower, tree)
	}
	if o.Upper == "" {
		return nil
	}
	var err error
	if h.beside, err = idmapFd(filepath.Dir(o.Upper), o.Users, false); err != nil {
		return err
	}
	if h.upper, err = openDir(h.beside, filepath.Base(o.Upper)); err != nil {
		return err
	}
	h.work, err = openDir(h.beside, filepath.Base(o.Work))
	return err
}
