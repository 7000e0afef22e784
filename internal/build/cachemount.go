package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"strata/internal/atomicfile"
	"strata/internal/disk"
	"strata/internal/errdef"
)

// CacheMounts are the directories of RUN --mount=type=cache, which outlive builds. Below dir each cache has a directory of
// its own with numbered trees: one when it is shared or locked, as many as were in use at once when it is private. The lock
// of a tree is held by the step that uses it and dies with its process.
type CacheMounts struct{ dir string }

// OpenCacheMounts gives the cache mounts kept in dir, which is made when the first one is.
func OpenCacheMounts(dir string) *CacheMounts { return &CacheMounts{dir} }

// CacheMount is one tree of a cache.
type CacheMount struct {
	// ID as the Dockerfile has it.
	ID string
	// Path of the tree.
	Path string
	// Used is when a step last took it.
	Used time.Time
}

// Tree names the tree among all: the directory of its cache and its number.
func (m CacheMount) Tree() string {
	return filepath.Join(filepath.Base(filepath.Dir(m.Path)), filepath.Base(m.Path))
}

const (
	cacheInfo = "id.json"
	lockName  = ".lock"
)

// cacheTree is a tree in use.
type cacheTree struct {
	path  string
	fresh bool // just made: nothing is in it
	lock  *atomicfile.Lock
}

// take gives a step a tree of the cache that key names; id is what people call it.
func (c *CacheMounts) take(ctx context.Context, key, id, sharing string) (*cacheTree, error) {
	sum := sha256.Sum256([]byte(key))
	dir := filepath.Join(c.dir, hex.EncodeToString(sum[:16]))
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, err
	}
	info, err := json.Marshal(id)
	if err == nil {
		err = atomicfile.Write(filepath.Join(dir, cacheInfo), info, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("cache %q: %w", id, err)
	}
	for n := 0; ; n++ {
		path := filepath.Join(dir, strconv.Itoa(n))
		lock, err := lockTree(ctx, path+lockName, sharing)
		if sharing == "private" && errors.Is(err, errdef.ErrConflict) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cache %q: %w", id, err)
		}
		t := &cacheTree{path: path, lock: lock}
		if err := t.open(); err != nil {
			lock.Unlock()
			return nil, fmt.Errorf("cache %q: %w", id, err)
		}
		return t, nil
	}
}

func lockTree(ctx context.Context, path, sharing string) (*atomicfile.Lock, error) {
	switch sharing {
	case "private":
		return atomicfile.TryExclusive(path)
	case "locked":
		return atomicfile.LockExclusive(ctx, path)
	}
	return atomicfile.LockShared(ctx, path)
}

// open makes the tree unless it is there, and notes that it was used.
func (t *cacheTree) open() error {
	err := os.Mkdir(t.path, 0o755)
	if err == nil {
		t.fresh = true
		return os.Chmod(t.path, 0o755) // whatever the umask
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	now := time.Now()
	return os.Chtimes(t.path+lockName, now, now)
}

// List gives every tree. One that is removed meanwhile is left out.
func (c *CacheMounts) List() ([]CacheMount, error) {
	dirs, err := os.ReadDir(c.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []CacheMount
	for _, d := range dirs {
		dir := filepath.Join(c.dir, d.Name())
		raw, err := os.ReadFile(filepath.Join(dir, cacheInfo))
		var id string
		if err != nil || json.Unmarshal(raw, &id) != nil {
			continue
		}
		trees, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, t := range trees {
			path := filepath.Join(dir, t.Name())
			if lock, err := os.Stat(path + lockName); err == nil && t.IsDir() {
				all = append(all, CacheMount{ID: id, Path: path, Used: lock.ModTime()})
			}
		}
	}
	return all, nil
}

// Trash renames a tree that no step uses into the directory trash, on the same file system. errdef.ErrConflict for one
// that is in use.
func (c *CacheMounts) Trash(m CacheMount, trash string) error {
	lock, err := atomicfile.TryExclusive(m.Path + lockName)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	free, err := os.MkdirTemp(trash, "cachemount-*")
	if err != nil {
		return err
	}
	if err := os.Rename(m.Path, filepath.Join(free, "tree")); err != nil {
		return err
	}
	return os.Remove(m.Path + lockName)
}

// HasCacheMounts reports whether a step of the plan uses a cache mount.
func (p *Plan) HasCacheMounts() bool {
	for _, s := range p.Stages {
		for _, step := range s.Steps {
			if step.Run != nil && slices.ContainsFunc(step.Run.Mounts, func(m Mount) bool { return m.Type == MountCache }) {
				return true
			}
		}
	}
	return false
}

// Usage is what the tree takes on the disk, in bytes.
func (m CacheMount) Usage() (int64, error) { return disk.Usage(m.Path) }
