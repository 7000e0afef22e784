package rootfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// Root is an open directory tree that its users never leave. Paths are slash-separated and taken from the root, with or
// without a leading slash. Safe for concurrent use.
type Root struct {
	f *os.File // O_PATH
}

// OpenRoot opens the tree at dir, a path of our own ("/proc/<pid>/root" is the tree of a running container).
func OpenRoot(dir string) (*Root, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, pathError("root", dir, err)
	}
	return &Root{os.NewFile(uintptr(fd), dir)}, nil
}

// Close gives the descriptor back. What was opened through the Root stays open.
func (r *Root) Close() error { return r.f.Close() }

// Dup gives another handle on the same tree, which stays when this one is closed, and when the tree's mount is taken away.
func (r *Root) Dup() (*Root, error) {
	fd, err := unix.FcntlInt(r.f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, pathError("root", r.f.Name(), err)
	}
	return &Root{os.NewFile(uintptr(fd), r.f.Name())}, nil
}

// File is the root directory, opened with O_PATH. It belongs to the Root.
func (r *Root) File() *os.File { return r.f }

// Fd is the descriptor of [Root.File].
func (r *Root) Fd() int { return int(r.f.Fd()) }

// openat2 resolves name from the root. The kernel gives EAGAIN when a rename elsewhere raced with "..".
func (r *Root) openat2(name string, flags int, mode uint32) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags) | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	if flags&(unix.O_CREAT|unix.O_TMPFILE&^unix.O_DIRECTORY) != 0 {
		how.Mode = uint64(mode)
	}
	if name == "" {
		name = "."
	}
	for try := 0; ; try++ {
		fd, err := unix.Openat2(r.Fd(), name, &how)
		if err == nil || try == 64 || (err != unix.EAGAIN && err != unix.EINTR) {
			return fd, err
		}
	}
}

// Open opens path like open(2), with flags O_RDONLY, O_CREAT, O_NOFOLLOW and so on of package unix.
func (r *Root) Open(path string, flags int, mode uint32) (*os.File, error) {
	fd, err := r.openat2(path, flags, mode)
	if err != nil {
		return nil, pathError("open", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// ReadFile reads a regular file of at most limit bytes: errdef.ErrLimit when it is longer, errdef.ErrInvalid when it is
// something else than a file.
func (r *Root) ReadFile(path string, limit int64) ([]byte, error) {
	f, err := r.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, pathError("stat", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("%s is not a regular file: %w", path, errdef.ErrInvalid)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is longer than %d bytes: %w", path, limit, errdef.ErrLimit)
	}
	return data, nil
}

// Stat follows a symbolic link at path, inside the root.
func (r *Root) Stat(path string) (unix.Stat_t, error) { return r.stat(path, 0) }

// Lstat describes a symbolic link at path itself.
func (r *Root) Lstat(path string) (unix.Stat_t, error) { return r.stat(path, unix.O_NOFOLLOW) }

func (r *Root) stat(path string, flags int) (st unix.Stat_t, err error) {
	fd, err := r.openat2(path, unix.O_PATH|flags, 0)
	if err != nil {
		return st, pathError("stat", path, err)
	}
	defer unix.Close(fd)
	if err := unix.Fstat(fd, &st); err != nil {
		return st, pathError("stat", path, err)
	}
	return st, nil
}

// Resolve gives the absolute path without symbolic links under which a process in the root sees path, which must exist.
func (r *Root) Resolve(path string) (string, error) {
	fd, err := r.openat2(path, unix.O_PATH, 0)
	if err != nil {
		return "", pathError("resolve", path, err)
	}
	defer unix.Close(fd)
	return r.name(fd)
}

// name gives the path of an open file as seen from the root.
func (r *Root) name(fd int) (string, error) {
	root, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(r.Fd()))
	if err != nil {
		return "", err
	}
	full, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return "", err
	}
	rest, ok := strings.CutPrefix(full, strings.TrimSuffix(root, "/"))
	if !ok || rest != "" && rest[0] != '/' {
		return "", fmt.Errorf("path %q has left the root: %w", full, errdef.ErrConflict)
	}
	if rest == "" {
		rest = "/"
	}
	return rest, nil
}

// Landing gives the path without symbolic links at which path would come to be, when the missing part of it is made:
// links are followed inside the root even where they dangle. What is missing is taken by its words. Whoever then opens the
// path must do so through the Root: others may change the tree meanwhile.
func (r *Root) Landing(name string) (string, error) {
	at, rest := "/", strings.Split(name, "/")
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		next := path.Join(at, part) // at has no links: ".." may be taken by its word
		target, err := r.Readlink(next)
		switch {
		case err == nil:
			if links++; links > 40 {
				return "", pathError("resolve", name, unix.ELOOP)
			}
			if strings.HasPrefix(target, "/") {
				at = "/"
			}
			rest = append(strings.Split(target, "/"), rest...)
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINVAL):
			at = next
		default:
			return "", err
		}
	}
	return at, nil
}

// Readlink gives the target of the symbolic link at path.
func (r *Root) Readlink(path string) (string, error) {
	fd, err := r.openat2(path, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return "", pathError("readlink", path, err)
	}
	defer unix.Close(fd)
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err == unix.ENOENT { // what the kernel says of an empty name on something that is no link
		err = unix.EINVAL
	}
	if err != nil {
		return "", pathError("readlink", path, err)
	}
	return string(buf[:n]), nil
}

// ReadDir lists the directory at path, sorted by name.
func (r *Root) ReadDir(path string) ([]os.DirEntry, error) {
	f, err := r.Open(path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("reading directory %s: %w", path, err)
	}
	return entries(f, names)
}

// split resolves the parent of name to a descriptor and gives the last component. The root itself has none.
func (r *Root) split(op, name string) (dir int, base string, err error) {
	base = path.Base(strings.TrimRight(name, "/"))
	if base == "." || base == ".." || base == "/" {
		return -1, "", pathError(op, name, unix.EBUSY)
	}
	parent := strings.TrimRight(name, "/")
	parent = parent[:len(parent)-len(base)]
	dir, err = r.openat2(parent, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return -1, "", pathError(op, name, err)
	}
	return dir, base, nil
}

// at runs fn on path's parent directory and last component.
func (r *Root) at(op, path string, fn func(dir int, base string) error) error {
	dir, base, err := r.split(op, path)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	return pathError(op, path, fn(dir, base))
}

// pathError adds the operation, the path and the error's class.
func pathError(op, path string, err error) error {
	var class error
	var told *os.PathError
	switch {
	case err == nil, errors.As(err, &told):
		return err
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		class = errdef.ErrNotFound
	case errors.Is(err, unix.EEXIST):
		class = errdef.ErrExists
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES), errors.Is(err, unix.EROFS):
		class = errdef.ErrDenied
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENAMETOOLONG), errors.Is(err, unix.EINVAL):
		class = errdef.ErrInvalid
	default:
		return &os.PathError{Op: op, Path: path, Err: err}
	}
	return fmt.Errorf("%w: %w", &os.PathError{Op: op, Path: path, Err: err}, class)
}
