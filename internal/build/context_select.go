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

// selection is what one source of a COPY or ADD comes to: a file, or a directory with all that is below it.
type selection struct {
	name string // base name of the source as it was written: what it is called in a directory
	top  item   // symbolic links followed
	all  []item // below top, in the order of a walk
}

// relative is an item's path below the selection's top.
func (s *selection) relative(i *item) string {
	if s.top.path == "." {
		return i.path
	}
	return strings.TrimPrefix(i.path, s.top.path+"/")
}

func isPattern(source string) bool { return strings.ContainsAny(source, `*?[\`) }

// selectFrom finds what sources name in the context.
func (c *Context) selectFrom(sources []string) ([]selection, error) {
	var found []selection
	for _, source := range sources {
		names := []string{source}
		if isPattern(source) {
			var err error
			if names, err = c.tree.glob(source); err != nil {
				return nil, err
			}
		}
		for _, name := range names {
			resolved, ok := c.tree.resolve(name)
			if !ok {
				return nil, c.missing(name)
			}
			s := selection{name: path.Base(name), top: *c.tree.get(resolved)}
			if s.top.isDir() {
				s.all = c.tree.below(resolved)
			}
			found = append(found, s)
		}
	}
	return found, nil
}

// glob gives the paths that match pattern component by component.
func (t *tree) glob(pattern string) ([]string, error) {
	if _, err := path.Match(pattern, ""); err != nil {
		return nil, fmt.Errorf("source %q: %w: %w", pattern, err, errdef.ErrInvalid)
	}
	var names []string
	for i := range t.items {
		if ok, _ := path.Match(pattern, t.items[i].path); ok && t.items[i].path != "." {
			names = append(names, t.items[i].path)
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

// selectIn finds what sources name in a mounted tree.
func selectIn(root *rootfs.Root, sources []string) ([]selection, error) {
	var found []selection
	for _, source := range sources {
		names := []string{"/" + source}
		if isPattern(source) {
			var err error
			if names, err = root.Glob(source); err != nil {
				return nil, err
			}
		}
		for _, name := range names {
			s, err := selectOne(root, name)
			if errors.Is(err, errdef.ErrNotFound) {
				return nil, fmt.Errorf("%q: %w", path.Clean(name), errdef.ErrNotFound)
			}
			if err != nil {
				return nil, err
			}
			found = append(found, s)
		}
	}
	return found, nil
}

func selectOne(root *rootfs.Root, name string) (selection, error) {
	resolved, err := root.Resolve(name)
	if err != nil {
		return selection{}, err
	}
	s := selection{name: path.Base(path.Clean(name))}
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
		if i.kind() == unix.S_IFSOCK {
			continue
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
