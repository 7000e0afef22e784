package layer

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

const (
	maxName    = 4096 // bytes of a name in a tar
	maxLinks   = 40   // symbolic links followed for one name
	maxHandles = 48   // directories kept open
	openDir    = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	beneath    = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS
)

// handle is an open directory with its real path: no symbolic links, no leading slash, "" for the root.
type handle struct {
	fd   int
	path string
}

// tree resolves names of a tar under a root directory and keeps the directories that it met open. Names are walked
// component by component without following links; links are resolved here, inside the root, as in a chroot.
type tree struct {
	root  handle
	cache map[string]handle // by name as asked, not by real path
	grave []handle          // no longer valid by name, perhaps still in somebody's hand
	links int               // followed for the current name
	// obstacle makes room where a directory is needed and something else stands; mkdir makes a missing directory.
	obstacle func(h handle, base string, st *unix.Stat_t) error
	mkdir    func(h handle, base string) error
}

func newTree(rootfd int) *tree {
	return &tree{root: handle{rootfd, ""}, cache: map[string]handle{}}
}

// begin is called before each entry: no handle is in anybody's hand.
func (t *tree) begin() {
	if len(t.cache) > maxHandles {
		t.forget()
	}
	for _, h := range t.grave {
		unix.Close(h.fd)
	}
	t.grave = t.grave[:0]
}

// forget drops what names resolved to. Handles stay open until the next begin.
func (t *tree) forget() {
	for _, h := range t.cache {
		t.grave = append(t.grave, h)
	}
	clear(t.cache)
}

func (t *tree) close() {
	t.forget()
	t.begin()
}

// dir opens the directory name (clean, relative), making what is missing. The handle is good until the next begin.
func (t *tree) dir(name string) (handle, error) {
	if name == "" {
		return t.root, nil
	}
	if h, ok := t.cache[name]; ok {
		return h, nil
	}
	t.links = 0
	cur, known := t.root, ""
	for p := name; ; {
		i := strings.LastIndexByte(p, '/')
		if i < 0 {
			break
		}
		p = p[:i]
		if h, ok := t.cache[p]; ok {
			cur, known = h, p
			break
		}
	}
	ours := false
	for known != name {
		rest := strings.TrimPrefix(name[len(known):], "/")
		comp, _, _ := strings.Cut(rest, "/")
		next, err := t.step(cur, comp)
		if ours {
			unix.Close(cur.fd)
		}
		if err != nil {
			return handle{}, err
		}
		known = name[:len(name)-len(rest)+len(comp)]
		cur, ours = next, true
		if len(t.cache) < maxHandles || known == name {
			t.cache[known] = next
			ours = false
		}
	}
	return cur, nil
}

// step opens the directory comp in h, through a symbolic link if it is one, making it if it is missing.
func (t *tree) step(h handle, comp string) (handle, error) {
	for range 3 {
		fd, err := openat(h.fd, comp, openDir, 0)
		if err == nil {
			return handle{fd, path.Join(h.path, comp)}, nil
		}
		switch {
		case errors.Is(err, unix.ENOENT):
			if len(h.path)+1+len(comp) >= maxName {
				return handle{}, fmt.Errorf("path of more than %d bytes: %w", maxName, errdef.ErrLimit)
			}
			if err := t.mkdir(h, comp); err != nil && !errors.Is(err, unix.EEXIST) {
				return handle{}, err
			}
			continue
		case !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ELOOP):
			return handle{}, err
		}
		var st unix.Stat_t
		if err := unix.Fstatat(h.fd, comp, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return handle{}, err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFLNK {
			return t.follow(h, comp)
		}
		if err := t.obstacle(h, comp, &st); err != nil {
			return handle{}, err
		}
	}
	return handle{}, fmt.Errorf("%q keeps changing: %w", path.Join(h.path, comp), errdef.ErrConflict)
}

// follow opens what the symbolic link comp in h leads to. The root's ".." is the root.
func (t *tree) follow(h handle, comp string) (handle, error) {
	if t.links++; t.links > maxLinks {
		return handle{}, fmt.Errorf("more than %d symbolic links: %w", maxLinks, errdef.ErrInvalid)
	}
	target, err := readlinkat(h.fd, comp)
	if err != nil {
		return handle{}, err
	}
	start := h.path
	if strings.HasPrefix(target, "/") {
		start = ""
	}
	cur, err := t.real(start)
	if err != nil {
		return handle{}, err
	}
	for target != "" {
		comp, target, _ = strings.Cut(target, "/")
		var next handle
		switch comp {
		case "", ".":
			continue
		case "..":
			next, err = t.real(parentOf(cur.path))
		default:
			next, err = t.step(cur, comp)
		}
		unix.Close(cur.fd)
		if err != nil {
			return handle{}, err
		}
		cur = next
	}
	return cur, nil
}

// real opens a directory by its real path.
func (t *tree) real(p string) (handle, error) {
	fd, err := openBeneath(t.root.fd, p, openDir)
	return handle{fd, p}, err
}

func parentOf(p string) string {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i]
	}
	return ""
}

// cleanName gives a tar's name as a clean relative path, "" for the root.
func cleanName(name string) (string, error) {
	if len(name) > maxName {
		return "", fmt.Errorf("name of %d bytes (at most %d): %w", len(name), maxName, errdef.ErrLimit)
	}
	if strings.IndexByte(name, 0) >= 0 {
		return "", fmt.Errorf("name with a NUL byte: %w", errdef.ErrInvalid)
	}
	clean := path.Clean(strings.TrimLeft(name, "/"))
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return "", fmt.Errorf("name leaves the root: %w", errdef.ErrInvalid)
	}
	if clean == "." {
		return "", nil
	}
	return clean, nil
}

// openBeneath opens a real path under the directory dirfd, "" being that directory; no link on it is followed.
func openBeneath(dirfd int, p string, flags int) (int, error) {
	if p == "" {
		p = "."
	}
	for {
		fd, err := unix.Openat2(dirfd, p, &unix.OpenHow{
			Flags: uint64(flags | unix.O_CLOEXEC | unix.O_NOFOLLOW), Resolve: beneath,
		})
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}

func openat(dirfd int, base string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(dirfd, base, flags, mode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func readlinkat(dirfd int, base string) (string, error) {
	buf := make([]byte, maxName+1)
	n, err := unix.Readlinkat(dirfd, base, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

func writeFull(fd int, p []byte) error {
	for len(p) > 0 {
		n, err := unix.Write(fd, p)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

func readFd(fd int, p []byte) (int, error) {
	for {
		n, err := unix.Read(fd, p)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, err
		case n == 0 && len(p) > 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

// listDir gives the entries of the directory fd, in the file system's order. fd stays the caller's.
func listDir(fd int) ([]os.DirEntry, error) {
	dup, err := openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	d := os.NewFile(uintptr(dup), ".")
	defer d.Close()
	return d.ReadDir(-1)
}
