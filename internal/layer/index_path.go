package layer

import (
	"fmt"
	"strings"

	"strata/internal/errdef"
)

// dir gives the directory with a clean name, making what is missing. Symbolic links are followed inside the tree.
func (x *indexer) dir(name string) (*node, error) {
	x.links = 0
	return x.walk(x.root, name)
}

func (x *indexer) walk(cur *node, name string) (*node, error) {
	for name != "" {
		var comp string
		var err error
		comp, name, _ = strings.Cut(name, "/")
		switch comp {
		case "", ".":
		case "..":
			if cur.up != nil {
				cur = cur.up
			}
		default:
			cur, err = x.step(cur, comp)
		}
		if err != nil {
			return nil, err
		}
	}
	return cur, nil
}

// step gives the directory comp in dir: through a symbolic link if it is one, a new one if there is none, or if something
// else stands there.
func (x *indexer) step(dir *node, comp string) (*node, error) {
	kid := dir.kids[comp]
	switch {
	case kid == nil:
		return x.imply(dir, comp, false)
	case kid.isDir():
		return kid, nil
	case kid.link == "":
		return x.imply(dir, comp, kid.isWhiteout())
	}
	if x.links++; x.links > maxLinks {
		return nil, fmt.Errorf("more than %d symbolic links: %w", maxLinks, errdef.ErrInvalid)
	}
	if strings.HasPrefix(kid.link, "/") {
		dir = x.root
	}
	return x.walk(dir, kid.link)
}

func (x *indexer) imply(dir *node, comp string, opaque bool) (*node, error) {
	if int(dir.depth)+1+len(comp) >= maxName {
		return nil, fmt.Errorf("path of more than %d bytes: %w", maxName, errdef.ErrLimit)
	}
	if err := x.count(&x.implied); err != nil {
		return nil, err
	}
	n := newImplied()
	n.opaque = opaque
	return n, x.put(dir, comp, n)
}
