package mount

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// CloneRoot gives a copy of the mount that is the root of the mount namespace ns, without what is mounted in it: the file
// system that a container was started on, free of what it has mounted since. The copy is nowhere; [Attach] shows it.
func CloneRoot(ns *os.File) (*os.File, error) {
	var tree *os.File
	err := Join(ns, func() error {
		fd, err := unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return fmt.Errorf("root of a mount namespace: %w", classify(err))
		}
		tree = os.NewFile(uintptr(fd), "/")
		return nil
	})
	return tree, err
}

// CloneAt gives a copy of the mount at path in the mount namespace ns, in which nothing but mount points is followed: links
// there are laid by others.
func CloneAt(ns *os.File, path string) (*os.File, error) {
	var tree *os.File
	err := Join(ns, func() error {
		at, err := unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | unix.O_DIRECTORY, Resolve: unix.RESOLVE_NO_SYMLINKS})
		if err != nil {
			return fmt.Errorf("%s in a mount namespace: %w", path, classify(err))
		}
		defer unix.Close(at)
		fd, err := unix.OpenTree(at, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
		if err != nil {
			return fmt.Errorf("%s in a mount namespace: %w", path, classify(err))
		}
		tree = os.NewFile(uintptr(fd), path)
		return nil
	})
	return tree, err
}

// Clone gives a copy of the mount at path, which may be one that is nowhere (Linux ≥ 6.15), through a link in /proc to somebody's descriptor
// of it. The copy is nowhere, too, and outlives what it was made of.
func Clone(path string) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("copy of the mount %s: %w", path, classify(err))
	}
	return os.NewFile(uintptr(fd), path), nil
}

// Attach mounts a copy made by [CloneRoot] at the directory target.
func Attach(tree *os.File, target string) error {
	err := unix.MoveMount(int(tree.Fd()), "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("mount at %s: %w", target, classify(err))
	}
	return nil
}

// BindOn is [Bind] at a place that is open already (O_PATH will do), and so cannot be led elsewhere by who changes names. With
// users owners are mapped, as [Idmap] does.
func BindOn(source string, target *os.File, users *Users, readonly, recursive bool) error {
	tree, err := openBind(source, readonly, recursive)
	if err == nil && users != nil {
		err = users.mapOwners(tree, source, recursive)
	}
	if err == nil {
		err = unix.MoveMount(tree, "", int(target.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
		unix.Close(tree)
	}
	if err != nil {
		return fmt.Errorf("bind %s at %s: %w", source, target.Name(), classify(err))
	}
	return nil
}
