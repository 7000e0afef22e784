package graph

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"strata/internal/atomicfile"
	"strata/internal/errdef"
)

// Bounds on what is read back and kept. An op's definition comes from a Dockerfile, which is bounded itself.
const (
	maxEntry        = 16 << 20
	maxContentFile  = 64 << 20
	maxContentLines = 100_000
)

const (
	entrySuffix   = ".json"
	contentSuffix = ".content"
	lockSuffix    = ".lock"
)

// Hold pins all that a result names, so that it cannot be collected, and then reports whether all of it exists.
type Hold func(ctx context.Context, result json.RawMessage) (bool, error)

// Cache keeps results by key:
//
//	entries/<key>.json     the entry; its modification time is when it was last used
//	entries/<key>.content  its content lines, apart so that a hit reads little
//	slots/<hash of slot>   the key that was last used in the slot
//	aliases/<key>          the key of the entry of a step that takes parts of its inputs
//	locks/<key>.lock       held while the key is run
type Cache struct {
	dir  string
	hold Hold
	// Durable flushes each entry to the disk as it is kept. Without it a power cut may take the last ones: their steps run
	// again.
	Durable bool
}

// Entry is what is kept of one run.
type Entry struct {
	Key Key `json:"key"`
	// Definition is the definition key; the same as Key unless content decided.
	Definition Key    `json:"definition"`
	Slot       string `json:"slot,omitempty"`
	Name       string `json:"name"`
	// Note says why it ran.
	Note string `json:"note,omitempty"`
	// Inputs are the keys of the inputs' entries, empty for given ones.
	Inputs []Key `json:"inputs,omitempty"`
	// Lines are the definition lines, those of the inputs' results last.
	Lines  []Line          `json:"lines,omitempty"`
	Result json.RawMessage `json:"result"`
	// Created is when the run ended, Duration how long it took.
	Created  time.Time     `json:"created"`
	Duration time.Duration `json:"duration"`
	// Size is a hint of how many bytes the result takes on disk.
	Size int64 `json:"size,omitempty"`
	// Away: the result never was here. The entry came from another cache, and nobody needed more of it.
	Away bool `json:"away,omitempty"`
	// LastUsed is the time of the last hit, or Created.
	LastUsed time.Time `json:"-"`
}

// content is what stands in a .content file.
type content struct {
	// Total counts all lines; only the first maxContentLines are kept.
	Total int    `json:"total"`
	Lines []Line `json:"lines"`
}

// Open opens the cache in dir, making it if need be.
func Open(dir string, hold Hold) (*Cache, error) {
	for _, sub := range []string{"entries", "slots", "aliases", "locks"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("build cache: %w", err)
		}
	}
	return &Cache{dir: dir, hold: hold}, nil
}

// Dir is the cache's directory, for whoever measures the store.
func (c *Cache) Dir() string { return c.dir }

// Get returns the entry of key: errdef.ErrNotFound without one, errdef.ErrCorrupt when it cannot be read.
func (c *Cache) Get(key Key) (Entry, error) {
	if !key.valid() {
		return Entry{}, fmt.Errorf("cache key %.80q: %w", key, errdef.ErrInvalid)
	}
	raw, used, err := readJSON(c.entry(key), maxEntry)
	if err != nil {
		return Entry{}, fmt.Errorf("cache entry %s: %w", key, err)
	}
	e, err := decodeEntry(raw)
	if err != nil {
		return Entry{}, fmt.Errorf("cache entry %s: %w", key, err)
	}
	if e.Key != key {
		return Entry{}, fmt.Errorf("cache entry %s: holds key %s: %w", key, e.Key, errdef.ErrCorrupt)
	}
	e.LastUsed = used
	return e, nil
}

func decodeEntry(raw []byte) (Entry, error) {
	var e Entry
	if err := json.Unmarshal(raw, &e); err != nil {
		return Entry{}, fmt.Errorf("%w: %w", errdef.ErrCorrupt, err)
	}
	if !e.Key.valid() || !e.Definition.valid() || len(e.Result) == 0 {
		return Entry{}, fmt.Errorf("key or result is missing: %w", errdef.ErrCorrupt)
	}
	return e, nil
}

// ContentLines returns the content lines of key's entry, none when the definition decided, and how many there were: more
// than there are lines when they were too many to keep.
func (c *Cache) ContentLines(key Key) (lines []Line, total int, err error) {
	if !key.valid() {
		return nil, 0, fmt.Errorf("cache key %.80q: %w", key, errdef.ErrInvalid)
	}
	raw, _, err := readJSON(c.content(key), maxContentFile)
	if errors.Is(err, errdef.ErrNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("cache entry %s: content lines: %w", key, err)
	}
	var got content
	if err := json.Unmarshal(raw, &got); err != nil {
		return nil, 0, fmt.Errorf("cache entry %s: content lines: %w: %w", key, errdef.ErrCorrupt, err)
	}
	return got.Lines, got.Total, nil
}

// Last returns the key that was last used in slot, errdef.ErrNotFound when none was.
func (c *Cache) Last(slot string) (Key, error) {
	raw, _, err := readFile(c.slot(slot), 64)
	if err != nil {
		return "", fmt.Errorf("slot %q: %w", slot, err)
	}
	if key := Key(raw); key.valid() {
		return key, nil
	}
	return "", fmt.Errorf("slot %q: %w", slot, errdef.ErrCorrupt)
}

// Walk calls fn with every entry, in the order of keys. What cannot be read is left out: it is a miss for everybody.
func (c *Cache) Walk(fn func(Entry) error) error {
	keys, err := c.keys()
	if err != nil {
		return err
	}
	for _, key := range keys {
		e, err := c.Get(key)
		if err != nil {
			continue
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

// keys are those that have an entry, in their order.
func (c *Cache) keys() ([]Key, error) {
	names, err := os.ReadDir(filepath.Join(c.dir, "entries"))
	if err != nil {
		return nil, err
	}
	keys := make([]Key, 0, len(names))
	for _, n := range names {
		if key, ok := strings.CutSuffix(n.Name(), entrySuffix); ok && Key(key).valid() {
			keys = append(keys, Key(key))
		}
	}
	return keys, nil
}

// Damaged calls fn with every entry that cannot be read, or whose content lines cannot, and ends at its first error.
func (c *Cache) Damaged(fn func(key Key, err error) error) error {
	keys, err := c.keys()
	if err != nil {
		return err
	}
	for _, key := range keys {
		_, err := c.Get(key)
		if err == nil {
			_, _, err = c.ContentLines(key)
		}
		if errors.Is(err, errdef.ErrCorrupt) {
			if err := fn(key, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// Remove forgets key's entry. Without one it does nothing.
func (c *Cache) Remove(key Key) error {
	if !key.valid() {
		return fmt.Errorf("cache key %.80q: %w", key, errdef.ErrInvalid)
	}
	for _, path := range []string{c.entry(key), c.content(key)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Touch notes that key's entry was used now.
func (c *Cache) Touch(key Key) error {
	if !key.valid() {
		return fmt.Errorf("cache key %.80q: %w", key, errdef.ErrInvalid)
	}
	err := os.Chtimes(c.entry(key), time.Time{}, time.Now())
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cache entry %s: %w", key, errdef.ErrNotFound)
	}
	return err
}

// Tidy removes what nobody will find again: slots that lead to no entry, content lines without their entry, entries that
// cannot be read, locks and unpublished files of dead processes. What is young may be on its way to being published by a
// solve that goes on meanwhile, and stays.
func (c *Cache) Tidy() error {
	for _, sub := range []string{"entries", "slots", "aliases", "locks"} {
		dir := filepath.Join(c.dir, sub)
		names, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, n := range names {
			path := filepath.Join(dir, n.Name())
			if c.useful(sub, path) {
				continue
			}
			if err := tidy(sub, path); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errdef.ErrConflict) {
				return err
			}
		}
	}
	return nil
}

// onItsWay is longer than it takes to publish an entry.
const onItsWay = time.Minute

func tidy(sub, path string) error {
	if sub == "locks" {
		lock, err := atomicfile.TryExclusive(path)
		if err != nil {
			return err
		}
		defer lock.Unlock()
		return os.Remove(path)
	}
	st, err := os.Lstat(path)
	if err != nil {
		return err
	}
	name := filepath.Base(path)
	if (atomicfile.IsTemp(name) || strings.HasSuffix(name, contentSuffix)) && time.Since(st.ModTime()) < onItsWay {
		return nil
	}
	return os.Remove(path)
}

func (c *Cache) useful(sub, path string) bool {
	name := filepath.Base(path)
	switch sub {
	case "slots":
		key, _, err := readFile(path, 64)
		if err != nil || !Key(key).valid() {
			return false
		}
		_, err = os.Lstat(c.entry(Key(key)))
		return err == nil
	case "aliases":
		return c.usefulAlias(name)
	case "entries":
		key := Key(strings.TrimSuffix(strings.TrimSuffix(name, entrySuffix), contentSuffix))
		_, err := c.Get(key)
		return err == nil
	}
	return false
}

// lookup gives the entry of key, and whether its result can be relied on.
func (c *Cache) lookup(ctx context.Context, key Key) (Entry, bool, error) {
	e, err := c.Get(key)
	if err != nil {
		return Entry{}, false, nil // not there, or not readable: to be made again
	}
	ok, err := c.hold(ctx, e.Result)
	return e, ok && err == nil, err
}

// used notes a hit: the entry's time, and that slot now leads to it.
func (c *Cache) used(key Key, slot string) error {
	if err := c.Touch(key); err != nil && !errors.Is(err, errdef.ErrNotFound) {
		return err
	}
	return c.setSlot(slot, key)
}

func (c *Cache) setSlot(slot string, key Key) error {
	if slot == "" {
		return nil
	}
	if last, err := c.Last(slot); err == nil && last == key {
		return nil
	}
	return atomicfile.Write(c.slot(slot), []byte(key), 0o600)
}

// put keeps a run: content lines first, so that whoever sees the entry finds them.
func (c *Cache) put(e Entry, lines []Line) error {
	if lines == nil {
		// A key is either of a definition or of content, but a damaged cache may hold anything.
		if err := os.Remove(c.content(e.Key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	} else if err := c.writeJSON(c.content(e.Key), content{len(lines), lines[:min(len(lines), maxContentLines)]}); err != nil {
		return err
	}
	if err := c.writeJSON(c.entry(e.Key), e); err != nil {
		return err
	}
	return c.setSlot(e.Slot, e.Key)
}

func (c *Cache) entry(key Key) string {
	return filepath.Join(c.dir, "entries", string(key)+entrySuffix)
}

func (c *Cache) content(key Key) string {
	return filepath.Join(c.dir, "entries", string(key)+contentSuffix)
}

func (c *Cache) lock(key Key) string {
	return filepath.Join(c.dir, "locks", string(key)+lockSuffix)
}

func (c *Cache) slot(slot string) string {
	sum := sha256.Sum256([]byte(slot))
	return filepath.Join(c.dir, "slots", hex.EncodeToString(sum[:16]))
}

func (c *Cache) writeJSON(path string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if c.Durable {
		return atomicfile.WriteDurable(path, atomicfile.Stamp(raw), 0o600)
	}
	return atomicfile.Write(path, atomicfile.Stamp(raw), 0o600)
}

// readJSON reads what writeJSON wrote, at most limit bytes, its checksum checked and taken out.
func readJSON(path string, limit int64) ([]byte, time.Time, error) {
	raw, used, err := readFile(path, limit)
	if err == nil {
		raw, err = atomicfile.Unstamp(raw)
	}
	return raw, used, err
}

// readFile reads a file of at most limit bytes, and its modification time.
func readFile(path string, limit int64) ([]byte, time.Time, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, time.Time{}, errdef.ErrNotFound
	}
	if err != nil {
		return nil, time.Time{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, time.Time{}, err
	}
	if info.Size() > limit {
		return nil, time.Time{}, fmt.Errorf("%d bytes, at most %d: %w", info.Size(), limit, errdef.ErrCorrupt)
	}
	raw := make([]byte, info.Size())
	if _, err := io.ReadFull(f, raw); err != nil {
		return nil, time.Time{}, err
	}
	return raw, info.ModTime(), nil
}
