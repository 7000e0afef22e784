package rootfs

import (
	"errors"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Create makes a new, empty regular file for writing. What stands at path and is no directory is replaced, not followed
// or written to.
func (r *Root) Create(path string, mode uint32) (*os.File, error) {
	var f *os.File
	err := r.at("create", path, func(dir int, base string) error {
		const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
		fd, err := unix.Openat(dir, base, flags, mode)
		for try := 0; err == unix.EEXIST && try < 8; try++ { // again when another puts something there meanwhile
			if err = unix.Unlinkat(dir, base, 0); err != nil && err != unix.ENOENT {
				return err
			}
			fd, err = unix.Openat(dir, base, flags, mode)
		}
		if err == nil {
			f = os.NewFile(uintptr(fd), path)
		}
		return err
	})
	return f, err
}

// MkdirAll makes the directory at path and its missing parents with mode and owner (uid and gid -1: whoever we are).
// Symbolic links on the way are followed inside the root, dangling ones too; directories that exist stay as they are.
// It gives the paths made, outermost first, without symbolic links.
func (r *Root) MkdirAll(path string, mode uint32, uid, gid int) (created []string, err error) {
	fd, err := r.openat2(path, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err == nil {
		unix.Close(fd)
		return nil, nil
	}
	if err != unix.ENOENT {
		return nil, pathError("mkdir", path, err)
	}
	if path, err = r.Landing(path); err != nil {
		return nil, err
	}
	for i := 1; i <= len(path); i++ {
		if i < len(path) && path[i] != '/' {
			continue
		}
		made, err := r.ensureDir(path[:i], mode, uid, gid)
		if err != nil {
			return created, pathError("mkdir", path[:i], err)
		}
		if made {
			created = append(created, path[:i])
		}
	}
	return created, nil
}

// ensureDir makes the directory name unless it is there.
func (r *Root) ensureDir(name string, mode uint32, uid, gid int) (made bool, err error) {
	err = r.at("mkdir", name, func(dir int, base string) error {
		fd, err := makeDir(dir, base, mode, uid, gid)
		if err == nil {
			unix.Close(fd)
		}
		return err
	})
	if !errors.Is(err, unix.EEXIST) {
		return err == nil, err
	}
	fd, err := r.openat2(name, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return false, err
	}
	return false, unix.Close(fd)
}

// makeDir makes one directory and opens it.
func makeDir(parent int, name string, mode uint32, uid, gid int) (int, error) {
	if err := unix.Mkdirat(parent, name, mode&0o7777); err != nil {
		return -1, err
	}
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if uid, gid = ours(uid), ours(gid); uid >= 0 || gid >= 0 {
		err = unix.Fchown(fd, uid, gid)
	}
	if err == nil {
		err = unix.Fchmod(fd, mode&0o7777) // after the umask and chown had their say
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// Remove removes the file, link or empty directory at path.
func (r *Root) Remove(path string) error {
	return r.at("remove", path, func(dir int, base string) error {
		err := unix.Unlinkat(dir, base, 0)
		if err == unix.EISDIR {
			err = unix.Unlinkat(dir, base, unix.AT_REMOVEDIR)
		}
		return err
	})
}

// RemoveAll removes path and what is below it, following no link. A path that does not exist is no error.
func (r *Root) RemoveAll(path string) error {
	err := r.at("remove", path, func(dir int, base string) error {
		fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		parent := os.NewFile(uintptr(fd), path)
		defer parent.Close()
		root, err := os.OpenRoot("/proc/self/fd/" + strconv.Itoa(fd))
		if err != nil {
			return err
		}
		defer root.Close()
		return root.RemoveAll(base)
	})
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// Symlink makes a symbolic link to target at path.
func (r *Root) Symlink(target, path string) error {
	return r.at("symlink", path, func(dir int, base string) error { return unix.Symlinkat(target, dir, base) })
}

// Link gives the file at old, which is not followed, the second name path.
func (r *Root) Link(old, path string) error {
	return r.at("link", old, func(from int, oldBase string) error {
		return r.at("link", path, func(to int, base string) error {
			return unix.Linkat(from, oldBase, to, base, 0)
		})
	})
}

// Rename moves old to path, replacing a file there.
func (r *Root) Rename(old, path string) error {
	return r.at("rename", old, func(from int, oldBase string) error {
		return r.at("rename", path, func(to int, base string) error {
			return unix.Renameat(from, oldBase, to, base)
		})
	})
}

// Mknod makes a device, pipe or socket; mode carries its type.
func (r *Root) Mknod(path string, mode uint32, dev uint64) error {
	return r.at("mknod", path, func(dir int, base string) error { return unix.Mknodat(dir, base, mode, int(dev)) })
}

// onHandle runs fn with a /proc name of the file at path itself, links not followed. The name may be followed: it ends
// at that file, whatever is done to its path meanwhile.
func (r *Root) onHandle(op, path string, fn func(fd int, name string) error) error {
	fd, err := r.openat2(path, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return pathError(op, path, err)
	}
	defer unix.Close(fd)
	return pathError(op, path, fn(fd, "/proc/self/fd/"+strconv.Itoa(fd)))
}

// ours gives the id to change a file's owner to: a plain user's files are root's, as the layer store has it, so there is
// nothing to change for root.
func ours(id int) int {
	if id == 0 && os.Geteuid() != 0 {
		return -1
	}
	return id
}

// Chown changes the owner of path, of a link itself; -1 leaves one.
func (r *Root) Chown(path string, uid, gid int) error {
	return r.onHandle("chown", path, func(fd int, _ string) error {
		return unix.Fchownat(fd, "", ours(uid), ours(gid), unix.AT_EMPTY_PATH)
	})
}

// Chmod changes the permission bits (with set-id and sticky) of path; a symbolic link has none: EOPNOTSUPP.
func (r *Root) Chmod(path string, mode uint32) error {
	return r.onHandle("chmod", path, func(fd int, name string) error {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFLNK {
			return unix.EOPNOTSUPP
		}
		return unix.Fchmodat(unix.AT_FDCWD, name, mode&0o7777, 0)
	})
}

// Chtimes sets the times of path, of a link itself. A zero time leaves one.
func (r *Root) Chtimes(path string, atime, mtime time.Time) error {
	return r.onHandle("chtimes", path, func(_ int, name string) error {
		return unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{timespec(atime), timespec(mtime)}, 0)
	})
}

func timespec(t time.Time) unix.Timespec {
	if t.IsZero() {
		return unix.Timespec{Nsec: unix.UTIME_OMIT}
	}
	return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}

// Setxattr sets an extended attribute of the file or directory at path. Symbolic links cannot carry most.
func (r *Root) Setxattr(path, name string, value []byte) error {
	return r.onHandle("setxattr", path, func(_ int, proc string) error {
		return unix.Setxattr(proc, name, value, 0)
	})
}

// Xattrs gives the extended attributes of path; none where the file system has no such thing.
func (r *Root) Xattrs(path string) (attrs map[string][]byte, err error) {
	err = r.onHandle("listxattr", path, func(_ int, proc string) error {
		attrs, err = xattrs(proc)
		return err
	})
	return attrs, err
}
