package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"strata/internal/atomicfile"
	"strata/internal/errdef"
	"strata/internal/layer"
	"strata/internal/oci"
)

// CacheOwner is how a RUN --mount=type=cache says that its new directory is made; nil is the default. It tells caches of one
// id apart.
type CacheOwner struct{ UID, GID, Mode *uint32 }

// cacheKey tells a cache from all others. layers and source are what a new one begins with.
func cacheKey(id string, layers []oci.DiffID, source string, o CacheOwner) (string, error) {
	key, err := json.Marshal([]any{id, layers, source, o.UID, o.GID, o.Mode})
	return string(key), err
}

// apply gives the directory its owner and mode.
func (o CacheOwner) apply(dir string, chown func(path string, uid, gid uint32) error) error {
	if o.UID == nil && o.GID == nil && o.Mode == nil {
		return nil
	}
	if err := chown(dir, or(o.UID, 0), or(o.GID, 0)); err != nil {
		return err
	}
	return unix.Chmod(dir, or(o.Mode, 0o755))
}

// Find gives the trees of the cache called name: an id as Dockerfiles have it, or [CacheMount.Tree] of one.
func (c *CacheMounts) Find(name string) ([]CacheMount, error) {
	all, err := c.List()
	if err != nil {
		return nil, err
	}
	var found []CacheMount
	for _, m := range all {
		if m.ID == name || m.Tree() == name {
			found = append(found, m)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("cache mount %q: %w", name, errdef.ErrNotFound)
	}
	return found, nil
}

// one is Find for a name that must mean one tree.
func (c *CacheMounts) one(name string) (CacheMount, error) {
	found, err := c.Find(name)
	if err != nil {
		return CacheMount{}, err
	}
	if len(found) == 1 {
		return found[0], nil
	}
	var trees []string
	for _, m := range found {
		trees = append(trees, m.Tree())
	}
	return CacheMount{}, fmt.Errorf("cache mount %q has %d directories (%s): name one of them: %w", name, len(found), strings.Join(trees, ", "), errdef.ErrInvalid)
}

// Export writes the cache's tree as a tar while no step uses it.
func (c *CacheMounts) Export(ctx context.Context, name string, w io.Writer) error {
	m, err := c.one(name)
	if err != nil {
		return err
	}
	lock, err := atomicfile.LockExclusive(ctx, m.Path+lockName)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	return layer.WriteTree(ctx, w, m.Path)
}

// Import makes dir, a directory on the same file system, the tree of the cache called name, while no step uses that. What
// was there before goes into trash. A cache that there is none of is made; o says which one of that id.
func (c *CacheMounts) Import(ctx context.Context, name, dir, trash string, o CacheOwner) error {
	m, err := c.one(name)
	var lock *atomicfile.Lock
	switch {
	case errors.Is(err, errdef.ErrNotFound):
		key, err := cacheKey(name, nil, "/", o)
		if err != nil {
			return err
		}
		tree, err := c.take(ctx, key, name, "locked")
		if err != nil {
			return err
		}
		m, lock = CacheMount{ID: name, Path: tree.path}, tree.lock
		if err := o.apply(tree.path, func(path string, uid, gid uint32) error { return unix.Lchown(path, int(uid), int(gid)) }); err != nil {
			lock.Unlock()
			return err
		}
	case err != nil:
		return err
	default:
		if lock, err = atomicfile.LockExclusive(ctx, m.Path+lockName); err != nil {
			return err
		}
	}
	defer lock.Unlock()
	return m.replace(dir, trash)
}

// replace puts dir in the place of the tree, with the tree's owner and mode.
func (m CacheMount) replace(dir, trash string) error {
	var st unix.Stat_t
	if err := unix.Lstat(m.Path, &st); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: "lstat", Path: m.Path, Err: err}
	} else if err == nil {
		if err := errors.Join(unix.Lchown(dir, int(st.Uid), int(st.Gid)), unix.Chmod(dir, st.Mode&0o7777)); err != nil {
			return err
		}
		free, err := os.MkdirTemp(trash, "cachemount-*")
		if err != nil {
			return err
		}
		if err := os.Rename(m.Path, filepath.Join(free, "tree")); err != nil {
			return err
		}
	}
	return os.Rename(dir, m.Path)
}
