package mount

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Bind shows source, a file or a directory, at target, which must exist and be of the same kind. readonly holds for
// everything that recursive brings along.
func Bind(source, target string, readonly, recursive bool) error {
	err := bindTree(source, target, readonly, recursive)
	if errors.Is(err, unix.ENOSYS) {
		err = bindOld(source, target, readonly, recursive)
	}
	if err != nil {
		return fmt.Errorf("bind %s at %s: %w", source, target, classify(err))
	}
	return nil
}

// bindTree prepares the bind unattached, so that it is never seen writable (mount_setattr: Linux ≥ 5.12).
func bindTree(source, target string, readonly, recursive bool) error {
	tree, err := openBind(source, readonly, recursive)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	return unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// openBind makes the bind without a place.
func openBind(source string, readonly, recursive bool) (int, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	var deep uint
	if recursive {
		deep = unix.AT_RECURSIVE
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, source, flags|deep)
	if err != nil || !readonly {
		return tree, err
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|deep, &attr); err != nil {
		unix.Close(tree)
		return -1, err
	}
	return tree, nil
}

// bindOld makes only the top mount read-only: older kernels cannot do more in one call.
func bindOld(source, target string, readonly, recursive bool) error {
	flags := uintptr(unix.MS_BIND)
	if recursive {
		flags |= unix.MS_REC
	}
	if err := unix.Mount(source, target, "", flags, ""); err != nil || !readonly {
		return err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(target, &st); err != nil {
		return err
	}
	// ST_NOSUID, ST_NODEV and ST_NOEXEC have the values of their MS_ namesakes. They must be named again: a user
	// namespace may not drop them.
	kept := uintptr(st.Flags) & (unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	return unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|kept, "")
}

// Unmount takes the mount at target away at once; users that still hold it keep it until they let go. A symbolic link
// at target is not followed.
func Unmount(target string) error {
	if err := unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
		return fmt.Errorf("unmount %s: %w", target, classify(err))
	}
	return nil
}
