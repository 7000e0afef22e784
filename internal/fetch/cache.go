package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"strata/internal/atomicfile"
	"strata/internal/disk"
	"strata/internal/errdef"
	"strata/internal/progress"
)

// Options say where a Cache is and what it works with.
type Options struct {
	// Dir keeps what was fetched; made when something is.
	Dir string
	// Secrets by id: HTTP_AUTH_HEADER_<host> and HTTP_AUTH_TOKEN_<host> for files, GIT_AUTH_HEADER and GIT_AUTH_TOKEN, with
	// or without .<host>, for repositories.
	Secrets map[string][]byte
	// Agent is the socket of the ssh agent for repositories reached by ssh; "" is none.
	Agent string
	// Sink takes the progress; nil discards it.
	Sink progress.Sink
}

// Cache fetches files and repositories and keeps them. Safe for concurrent use, by several processes too.
type Cache struct {
	Options
	pause time.Duration // before a second try
}

// Open gives the cache in o.Dir.
func Open(o Options) *Cache {
	if o.Sink == nil {
		o.Sink = progress.Discard
	}
	return &Cache{o, 250 * time.Millisecond}
}

const (
	urlDir     = "url"
	gitDir     = "git"
	lockSuffix = ".lock"
	nameSuffix = ".name"
)

// secret gives one by its id, without the line end that a file has.
func (c *Cache) secret(id string) (string, bool) {
	value, ok := c.Secrets[id]
	return strings.TrimRight(string(value), "\r\n"), ok
}

// place is where the thing called name is kept.
func (c *Cache) place(kind, name string) string {
	sum := sha256.Sum256([]byte(name))
	return filepath.Join(c.Dir, kind, hex.EncodeToString(sum[:16]))
}

// lock makes place and takes its lock; name is what people call it.
func (c *Cache) lock(ctx context.Context, place, name string) (*atomicfile.Lock, error) {
	if err := os.MkdirAll(place, 0o700); err != nil {
		return nil, err
	}
	lock, err := atomicfile.LockExclusive(ctx, place+lockSuffix)
	if err != nil {
		return nil, err
	}
	err = os.MkdirAll(place, 0o700) // it may have been pruned meanwhile
	now := time.Now()
	if err == nil {
		err = os.Chtimes(place+lockSuffix, now, now)
	}
	if err == nil {
		err = atomicfile.Write(place+nameSuffix, []byte(Redact(name)), 0o600)
	}
	if err != nil {
		lock.Unlock()
		return nil, err
	}
	return lock, nil
}

// Kept is one thing in the cache.
type Kept struct {
	// Name of it, without passwords: a URL.
	Name string
	// Path of its directory.
	Path string
	// Size is what it takes on the disk, in bytes.
	Size int64
	// Used is when it was last wanted.
	Used time.Time
}

// List gives all that is kept in dir, as [Options] has it.
func List(dir string) ([]Kept, error) {
	var all []Kept
	for _, kind := range []string{urlDir, gitDir} {
		locks, err := filepath.Glob(filepath.Join(dir, kind, "*"+lockSuffix))
		if err != nil {
			return nil, err
		}
		for _, lock := range locks {
			k := Kept{Path: strings.TrimSuffix(lock, lockSuffix)}
			if info, err := os.Stat(lock); err == nil {
				k.Used = info.ModTime()
			}
			name, err := os.ReadFile(k.Path + nameSuffix)
			if err == nil {
				k.Name = string(name)
				k.Size, err = disk.Usage(k.Path)
			}
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			all = append(all, k)
		}
	}
	return all, nil
}

// Trash renames what is kept into the directory trash, on the same file system. errdef.ErrConflict when it is in use.
func (k Kept) Trash(trash string) error {
	lock, err := atomicfile.TryExclusive(k.Path + lockSuffix)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	free, err := os.MkdirTemp(trash, "fetched-*")
	if err != nil {
		return err
	}
	err = os.Rename(k.Path, filepath.Join(free, "kept"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", k.Name, err)
	}
	os.Remove(k.Path + nameSuffix)
	return os.Remove(k.Path + lockSuffix)
}

// unavailable is the error for what a server or a program did not give.
func unavailable(what string, err error) error {
	return fmt.Errorf("%s: %w: %w", what, errdef.ErrUnavailable, err)
}
