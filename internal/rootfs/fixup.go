package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/oci"
)

// fixup gives the directory of the fix-up layer that belongs directly above layer number at of a stack, made when it is
// missing, or "" when that layer's implicit directories shadow nothing.
//
// The tree is built beside its place and renamed in. It holds directories only, so a journalling file system keeps it
// whole without a sync.
func (s *Stacks) fixup(chain oci.ChainID, find *finder, at int) (string, error) {
	s.mu.Lock()
	dir, ok := s.fixed[chain]
	s.mu.Unlock()
	if ok {
		return dir, nil
	}
	models, err := find.shadowed(at)
	if err != nil {
		return "", err
	}
	if len(models) > 0 {
		dir = filepath.Join(s.dir, chain.Hex())
		if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
			err = s.buildFixup(dir, find.stack[:at+1], models)
			if err != nil {
				return "", err
			}
		} else if err != nil {
			return "", err
		}
	}
	s.mu.Lock()
	s.fixed[chain] = dir
	s.mu.Unlock()
	return dir, nil
}

// finder looks for the directories of a stack, base first, and remembers for each layer where they were found: in a stack of
// hundreds of layers most lack the same ones.
type finder struct {
	stack []*known
	known []map[string]string
}

// shadowed finds the implicit directories of layer number at that a lower layer has explicitly. It maps each, and each
// parent of one (the fix-up layer must show these right, too), to the directory on disk with the true metadata.
func (f *finder) shadowed(at int) (map[string]string, error) {
	top := f.stack[at]
	models := map[string]string{}
	for name := range top.implicit {
		from, err := f.explicit(at, name)
		if err != nil {
			return nil, err
		}
		if from != "" {
			models[name] = from
		}
	}
	for _, name := range sortedKeys(models) {
		for parent := path.Dir(name); parent != "."; parent = path.Dir(parent) {
			if models[parent] != "" {
				continue
			}
			from, err := f.explicit(at, parent)
			if err != nil {
				return nil, err
			}
			if from == "" {
				from = filepath.Join(top.dir, parent)
			}
			models[parent] = from
		}
	}
	return models, nil
}

// explicit gives the directory name in the nearest layer, from number at down, whose tar has an entry for it; "" when none
// has, or when a layer on the way down removes it.
func (f *finder) explicit(at int, name string) (found string, err error) {
	for i := at; i >= 0; i-- {
		if from, ok := f.known[i][name]; ok {
			found = from
			break
		}
		has, last, err := look(f.stack[i].dir, name)
		if err != nil {
			return "", err
		}
		if has && !f.stack[i].implicit[name] {
			found = filepath.Join(f.stack[i].dir, name)
			break
		}
		if last || f.stack[i].opaque {
			break
		}
	}
	if f.known[at] == nil {
		f.known[at] = map[string]string{}
	}
	f.known[at][name] = found
	return found, nil
}

// look walks down name in one layer. has: the layer has it as a directory. last: nothing in lower layers counts, since
// this layer has a whiteout or another kind of file on the way, or an opaque directory.
func look(dir, name string) (has, last bool, err error) {
	cur := dir
	for part := range strings.SplitSeq(name, "/") {
		cur = filepath.Join(cur, part) // every component before was seen to be a directory, in a tree that never changes
		var st unix.Stat_t
		switch err := unix.Lstat(cur, &st); {
		case err == unix.ENOENT:
			return false, last, nil
		case err != nil:
			return false, false, pathError("stat", cur, err)
		case st.Mode&unix.S_IFMT != unix.S_IFDIR:
			return false, true, nil
		}
		opaque, err := isOpaque(cur)
		if err != nil {
			return false, false, err
		}
		last = last || opaque
	}
	return true, last, nil
}

func isOpaque(dir string) (bool, error) {
	buf := make([]byte, 4)
	for _, name := range []string{"trusted.overlay.opaque", "user.overlay.opaque"} {
		n, err := unix.Lgetxattr(dir, name, buf)
		switch err {
		case nil:
			if string(buf[:n]) == "y" {
				return true, nil
			}
		case unix.ENODATA, unix.EOPNOTSUPP, unix.ERANGE, unix.EPERM:
		default:
			return false, pathError("getxattr", dir, err)
		}
	}
	return false, nil
}

func (s *Stacks) buildFixup(dir string, stack []*known, models map[string]string) error {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(s.dir, ".tmp-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	names := sortedKeys(models)
	for _, name := range names {
		if err := os.Mkdir(filepath.Join(tmp, name), 0o700); err != nil {
			return err
		}
	}
	for _, name := range slices.Backward(names) { // children first: making them changes the times of their parents
		if err := s.copyMeta(models[name], filepath.Join(tmp, name)); err != nil {
			return err
		}
	}
	root := rootOf(stack)
	if root == "" {
		root = stack[len(stack)-1].dir
	}
	if err := s.copyMeta(root, tmp); err != nil {
		return err
	}
	err = os.Rename(tmp, dir)
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTEMPTY) {
		return nil // another process made the same
	}
	return err
}

// copyMeta gives the directory to the owner, mode, extended attributes and modification time of the directory from.
func (s *Stacks) copyMeta(from, to string) error {
	var st unix.Stat_t
	if err := unix.Lstat(from, &st); err != nil {
		return pathError("stat", from, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("%s is no directory any more: %w", from, errdef.ErrCorrupt)
	}
	if err := unix.Lchown(to, int(st.Uid), int(st.Gid)); err != nil && !s.denied(err) {
		return pathError("chown", to, err)
	}
	attrs, err := xattrs(from)
	if err != nil {
		return pathError("listxattr", from, err)
	}
	for name, value := range attrs {
		if overlayXattr(name) {
			continue
		}
		if err := unix.Lsetxattr(to, name, value, 0); err != nil && !s.denied(err) && err != unix.EOPNOTSUPP {
			return pathError("setxattr", to, err)
		}
	}
	if err := unix.Chmod(to, st.Mode&0o7777); err != nil {
		return pathError("chmod", to, err)
	}
	ts := []unix.Timespec{timespec(time.Time{}), st.Mtim}
	return pathError("chtimes", to, unix.UtimesNanoAt(unix.AT_FDCWD, to, ts, unix.AT_SYMLINK_NOFOLLOW))
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
