package graph

import (
	"errors"
	"fmt"
	"time"

	"strata/internal/errdef"
)

// exportVersion is the version of the exported form. Another one is not read.
const exportVersion = 1

// Bounds of an exported cache. Past maxExportLines the content lines of further entries are left out: they only explain.
const (
	MaxExport      = 64 << 20
	maxExported    = 20_000
	maxExportLines = 100_000
)

// Export is a cache as it travels: entries with their lines. What the results name travels beside it.
type Export struct {
	Version int `json:"version"`
	// Salt is that of the keys: keys of another salt mean nothing here.
	Salt    string     `json:"salt"`
	Entries []Exported `json:"entries"`
}

// Exported is an entry as it travels. Slot and Note are of the machine that it was made on and stay there.
type Exported struct {
	Entry
	// Alias is the key of all inputs of a step that takes only parts of them.
	Alias Key `json:"alias,omitempty"`
	// Content lines, or none of them when they would be too many; ContentTotal counts all.
	Content      []Line `json:"content,omitempty"`
	ContentTotal int    `json:"contentTotal,omitempty"`
}

// Export gathers the entries that links lead to. One that is gone by now is left out.
func (c *Cache) Export(links []Link) (Export, error) {
	x := Export{Version: exportVersion, Salt: salt, Entries: []Exported{}}
	seen := map[Key]bool{}
	total := 0
	for _, l := range links {
		if seen[l.Key] {
			continue
		}
		seen[l.Key] = true
		one, err := c.exported(l)
		if errors.Is(err, errdef.ErrNotFound) || errors.Is(err, errdef.ErrCorrupt) {
			continue
		}
		if err != nil {
			return x, err
		}
		if total += len(one.Content); total > maxExportLines {
			one.Content = nil
		}
		x.Entries = append(x.Entries, one)
	}
	return x, nil
}

func (c *Cache) exported(l Link) (Exported, error) {
	if l.Away != nil {
		return *l.Away, nil
	}
	e, err := c.Get(l.Key)
	if err != nil {
		return Exported{}, err
	}
	one := Exported{Entry: e, Alias: l.Alias}
	one.Slot, one.Note, one.Away = "", "", false
	one.Content, one.ContentTotal, err = c.ContentLines(l.Key)
	if len(one.Content) < one.ContentTotal {
		one.Content = nil
	}
	return one, err
}

// Check looks at an export that came from elsewhere. It keeps the entries whose lines prove their keys, and tells how many it dropped. An export
// of another version, or with keys of another salt, is errdef.ErrUnsupported.
func (x *Export) Check(now time.Time) (dropped int, err error) {
	if x.Version != exportVersion {
		return 0, fmt.Errorf("build cache of version %d, this strata reads version %d: %w", x.Version, exportVersion, errdef.ErrUnsupported)
	}
	if x.Salt != salt {
		return 0, fmt.Errorf("build cache with keys of %.40q, those of this strata are of %q: %w", x.Salt, salt, errdef.ErrUnsupported)
	}
	if len(x.Entries) > maxExported {
		return 0, fmt.Errorf("build cache of %d entries (at most %d): %w", len(x.Entries), maxExported, errdef.ErrLimit)
	}
	good := x.Entries[:0]
	for _, e := range x.Entries {
		if !e.proven() {
			dropped++
			continue
		}
		e.Slot, e.Note, e.Away = "", "imported", false
		if e.Created.After(now) {
			e.Created = now
		}
		e.Duration, e.Size = max(0, e.Duration), max(0, e.Size)
		good = append(good, e)
	}
	x.Entries = good
	return dropped, nil
}

// proven reports whether the entry's lines give its keys, as far as they are there, and makes its result canonical.
func (x *Exported) proven() bool {
	if !x.Key.valid() || !x.Definition.valid() || x.Alias != "" && !x.Alias.valid() || KeyOf(x.Lines) != x.Definition {
		return false
	}
	for _, in := range x.Inputs {
		if in != "" && !in.valid() {
			return false
		}
	}
	switch {
	case x.Key == x.Definition:
		x.Content, x.ContentTotal = nil, 0
	case len(x.Content) > 0 || x.ContentTotal == 0:
		if contentKey(x.Definition, x.Content) != x.Key {
			return false
		}
	}
	result, err := canonical(x.Result)
	if err != nil || len(x.Result) == 0 || string(result) == "null" {
		return false
	}
	x.Result = result
	return true
}
