package graph

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"strata/internal/atomicfile"
)

// An alias leads from the key of a step's lines and all of its inputs' results to the key under which its result is kept, for
// a step that takes only a part of an input ([Vertex.Selects]): while nothing changed, the part need not be looked at.

func (c *Cache) aliasFile(full Key) string { return filepath.Join(c.dir, "aliases", string(full)) }

// alias gives the key that full leads to; "" when it leads nowhere.
func (c *Cache) alias(full Key) Key {
	raw, _, err := readFile(c.aliasFile(full), 64)
	if err != nil || !Key(raw).valid() {
		return ""
	}
	return Key(raw)
}

func (c *Cache) setAlias(full, key Key) error {
	if full == "" || c.alias(full) == key {
		return nil
	}
	return atomicfile.Write(c.aliasFile(full), []byte(key), 0o600)
}

// usefulAlias reports whether an alias leads to an entry.
func (c *Cache) usefulAlias(name string) bool {
	key := Key("")
	if Key(name).valid() {
		key = c.alias(Key(name))
	}
	if key == "" {
		return false
	}
	_, err := os.Lstat(c.entry(key))
	return !errors.Is(err, fs.ErrNotExist)
}
