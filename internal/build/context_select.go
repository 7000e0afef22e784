package build

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/rootfs"
)

// selection is what one source of a COPY or ADD comes to: a file, or a directory with all that is taken of it.
type selection struct {
	name   string // base name of the source as it was written: what it is called in a directory
	top    item   // symbolic links followed
	all    []item // below top, in the order of a walk
	root   *rootfs.Root
	unpack bool // if it is an archive
	like   bool // a directory made for the destination is like top
}

// relative is an item's path below the selection's top.
func (s *selection) relative(i *item) string {
	if s.top.path == "." {
		return i.path
	}
	return strings.TrimPrefix(i.path, s.top.path+"/")
}

// isPattern reports whether a path has meta characters that are not quoted.
func isPattern(source string) bool {
	for i := 0; i < len(source); i++ {
		switch source[i] {
		case '\\':
			i++
		case '*', '?', '[':
			return true
		}
	}
	return false
}

// splitPattern splits a path at its first component that is a pattern. Links in the base are followed, in the rest not.
func splitPattern(source string) (base, pattern string) {
	parts := strings.Split(source, "/")
	for i, part := range parts {
		if isPattern(part) {
			return path.Join(append([]string{"."}, parts[:i]...)...), strings.Join(parts[i:], "/")
		}
	}
	return source, ""
}

// selectFrom finds what a source names in the context.
func (c *Context) selectFrom(source *Source) ([]selection, error) {
	names := []string{source.Path}
	if isPattern(source.Path) {
		var err error
		if names, err = c.glob(source); err != nil {
			return nil, err
		}
	}
	var found []selection
	for _, name := range names {
		resolved, ok := c.tree.resolve(name)
		if !ok {
			return nil, c.missing(name, source.Written)
		}
		s := selection{name: path.Base(name), top: *c.tree.get(resolved), root: c.root, unpack: source.Unpack}
		if s.top.isDir() {
			s.all = c.tree.below(resolved)
		}
		found = append(found, s)
	}
	return found, nil
}

// glob gives the paths that match a source component by component.
func (c *Context) glob(source *Source) ([]string, error) {
	if _, err := path.Match(source.Path, ""); err != nil {
		return nil, fmt.Errorf("source %q: %w: %w", source.Path, err, errdef.ErrInvalid)
	}
	base, pattern := splitPattern(source.Path)
	at, ok := c.tree.resolve(base)
	if !ok {
		return nil, c.missing(base, source.Written)
	}
	if top := c.tree.get(at); !top.isDir() {
		return nil, nil
	}
	below := selection{top: *c.tree.get(at)}
	var names []string
	for _, i := range c.tree.below(at) {
		if ok, _ := path.Match(pattern, below.relative(&i)); ok {
			names = append(names, i.path)
		}
	}
	return names, nil
}

const maxLinks = 40

// resolve follows the symbolic links in a path, as if the tree's root were the root of all.
func (t *tree) resolve(name string) (string, bool) {
	done, rest := ".", strings.Split(path.Clean(name), "/")
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		if part == ".." {
			done = path.Dir(done)
			continue
		}
		next := path.Join(done, part)
		i := t.get(next)
		if i == nil {
			return "", false
		}
		if i.kind() != unix.S_IFLNK {
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", false
		}
		if path.IsAbs(i.link) {
			done = "."
		}
		var target []string
		for part := range strings.SplitSeq(i.link, "/") {
			if part != "" && part != "." {
				target = append(target, part)
			}
		}
		rest = append(target, rest...)
	}
	return done, true
}

// selectIn finds what a source names in a mounted tree.
func selectIn(root *rootfs.Root, source *Source) ([]selection, error) {
	names := []string{"/" + source.Path}
	if isPattern(source.Path) {
		var err error
		if names, err = globIn(root, source.Path); err != nil {
			return nil, err
		}
	}
	var found []selection
	for _, name := range names {
		s, err := selectOne(root, name)
		if err != nil {
			return nil, missingIn(name, err)
		}
		s.unpack = source.Unpack
		found = append(found, s)
	}
	return found, nil
}

func missingIn(name string, err error) error {
	if errors.Is(err, errdef.ErrNotFound) {
		return fmt.Errorf("%q: %w", path.Join("/", name), errdef.ErrNotFound)
	}
	return err
}

// globIn gives the paths of a mounted tree that match a source component by component.
func globIn(root *rootfs.Root, source string) ([]string, error) {
	if _, err := path.Match(source, ""); err != nil {
		return nil, fmt.Errorf("source %q: %w: %w", source, err, errdef.ErrInvalid)
	}
	base, pattern := splitPattern(source)
	at, err := root.Resolve("/" + base)
	if err != nil {
		return nil, missingIn(base, err)
	}
	found := []string{at}
	for part := range strings.SplitSeq(pattern, "/") {
		var next []string
		for _, dir := range found {
			st, err := root.Lstat(dir)
			if err != nil {
				return nil, err
			}
			if st.Mode&unix.S_IFMT != unix.S_IFDIR {
				continue
			}
			entries, err := root.ReadDir(dir)
			if err != nil {
				return nil, err
			}
			for _, e := range entries {
				if ok, _ := path.Match(part, e.Name()); ok {
					next = append(next, path.Join(dir, e.Name()))
				}
			}
		}
		found = next
	}
	return found, nil
}

func selectOne(root *rootfs.Root, name string) (selection, error) {
	resolved, err := root.Resolve(name)
	if err != nil {
		return selection{}, err
	}
	s := selection{name: path.Base(path.Clean(name)), root: root}
	if s.top, err = lstatIn(root, resolved); err != nil || !s.top.isDir() {
		return s, err
	}
	s.all, err = listBelow(root, resolved, nil)
	return s, err
}

func listBelow(root *rootfs.Root, dir string, items []item) ([]item, error) {
	entries, err := root.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		i, err := lstatIn(root, path.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		items = append(items, i)
		if !i.isDir() {
			continue
		}
		if items, err = listBelow(root, path.Join(dir, e.Name()), items); err != nil {
			return nil, err
		}
	}
	return items, nil
}

// lstatIn describes a path of a mounted tree, relative like those of a context.
func lstatIn(root *rootfs.Root, name string) (item, error) {
	i := item{path: strings.TrimPrefix(path.Clean("/"+name), "/")}
	if i.path == "" {
		i.path = "."
	}
	var err error
	if i.stat, err = root.Lstat(name); err != nil {
		return i, err
	}
	if i.kind() == unix.S_IFLNK {
		i.link, err = root.Readlink(name)
	}
	return i, err
}
