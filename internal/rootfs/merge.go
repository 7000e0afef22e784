package rootfs

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"strata/internal/layer"
)

// node is one name as a stack of directories shows it.
type node struct {
	name string
	path string // of what is shown, in the topmost directory that has it
	st   unix.Stat_t
	sub  []string // of a directory: what is merged there, topmost first
}

// merged gives what the directories, topmost first, show together, by name. They are layers: nobody changes them.
func merged(dirs []string) (map[string]*node, error) {
	shown, closed := map[string]*node{}, map[string]bool{}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			name := e.Name()
			if closed[name] {
				continue
			}
			path := filepath.Join(dir, name)
			var st unix.Stat_t
			if err := unix.Lstat(path, &st); err != nil {
				return nil, pathError("stat", path, err)
			}
			n := shown[name]
			isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
			switch {
			case layer.IsWhiteout(&st) || n != nil && !isDir:
				closed[name] = true
				continue
			case n == nil:
				n = &node{name: name, path: path, st: st}
				shown[name] = n
			}
			if !isDir {
				closed[name] = true
				continue
			}
			n.sub = append(n.sub, path)
			if closed[name], err = isOpaque(path); err != nil {
				return nil, err
			}
		}
	}
	return shown, nil
}

// unpackStack copies what the directories show together into the empty directory dst.
func unpackStack(lower []string, dst string, o CopyOptions) error {
	o.SkipOverlay = true
	d, err := os.Open(dst)
	if err != nil {
		return err
	}
	defer d.Close()
	m := &merger{copier{o: o, top: d, links: map[inode]string{}}}
	return m.dir(lower, d, ".")
}

// merger copies a stack.
type merger struct{ copier }

func (m *merger) dir(dirs []string, dst *os.File, rel string) error {
	shown, err := merged(dirs)
	if err != nil {
		return err
	}
	for _, name := range sortedKeys(shown) {
		if err := m.node(shown[name], dst, filepath.Join(rel, name)); err != nil {
			return err
		}
	}
	src, err := os.Open(dirs[0])
	if err != nil {
		return err
	}
	defer src.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(src.Fd()), &st); err != nil {
		return err
	}
	return m.meta(src, dst, &st)
}

func (m *merger) node(n *node, dst *os.File, rel string) error {
	if n.st.Mode&unix.S_IFMT != unix.S_IFDIR {
		src, err := os.Open(filepath.Dir(n.path))
		if err != nil {
			return err
		}
		defer src.Close()
		return pathError("copy", n.path, m.entry(src, dst, n.name, rel))
	}
	if err := unix.Mkdirat(int(dst.Fd()), n.name, 0o700); err != nil {
		return pathError("mkdir", n.path, err)
	}
	to, err := openat(dst, n.name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer to.Close()
	return m.dir(n.sub, to, rel)
}
