package engine

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"strata/internal/build"
	"strata/internal/errdef"
	"strata/internal/fetch"
	"strata/internal/graph"
	"strata/internal/oci"
)

// The kinds of things in the build cache, in BuildKit's words.
const (
	cacheRegular = "regular"
	cacheMount   = "exec.cachemount"
	cacheHTTP    = "source.http"
	cacheGit     = "source.git.checkout"
)

// cacheItem is one thing in the build cache that can go by itself.
type cacheItem struct {
	CacheUsage
	// key and layers of an entry; several entries share layers.
	key    graph.Key
	layers []oci.DiffID
	// trash renames anything else away; errdef.ErrConflict while it is in use.
	trash func(trash string) error
	// mount is the id of a cache mount, as the Dockerfile has it.
	mount string
}

// cacheItems lists the build cache. owned are the layers that images and containers have.
func (v *inventory) cacheItems(owned map[oci.DiffID]bool) ([]cacheItem, error) {
	var items []cacheItem
	for _, entry := range v.entries {
		it := cacheItem{key: entry.Key, layers: build.ResultLayers(entry.Result), CacheUsage: CacheUsage{ID: string(entry.Key), Type: cacheRegular,
			Description: entry.Name, Size: entry.Size, Created: entry.Created, LastUsed: entry.LastUsed}}
		if n := len(it.layers); n > 0 {
			it.Shared = owned[it.layers[n-1]] // the last one is what it made
		}
		items = append(items, it)
	}
	if v.others == nil {
		mounts, err := v.e.mountItems()
		if err != nil {
			return nil, err
		}
		fetched, err := v.e.fetchedItems()
		if err != nil {
			return nil, err
		}
		v.others = append(append([]cacheItem{}, mounts...), fetched...)
	}
	return append(items, v.others...), nil
}

// mountItems are the directories of RUN --mount=type=cache.
func (e *Engine) mountItems() ([]cacheItem, error) {
	caches := e.cacheMounts()
	list, err := caches.List()
	if err != nil {
		return nil, err
	}
	var items []cacheItem
	for _, m := range list {
		size, err := m.Usage()
		if err != nil {
			return nil, err
		}
		items = append(items, cacheItem{
			mount: m.ID, trash: func(trash string) error { return caches.Trash(m, trash) },
			CacheUsage: CacheUsage{ID: m.Tree(), Type: cacheMount, Description: "cached mount " + m.ID, Size: size, Created: m.Used, LastUsed: m.Used},
		})
	}
	return items, nil
}

// fetchedItems are what ADD fetched from elsewhere.
func (e *Engine) fetchedItems() ([]cacheItem, error) {
	list, err := fetch.List(e.fetchDir())
	if err != nil {
		return nil, err
	}
	var items []cacheItem
	for _, k := range list {
		kind := cacheHTTP
		if filepath.Base(filepath.Dir(k.Path)) == "git" {
			kind = cacheGit
		}
		items = append(items, cacheItem{trash: k.Trash, CacheUsage: CacheUsage{
			ID: filepath.Base(k.Path), Type: kind, Description: k.Name, Size: k.Size, Created: k.Used, LastUsed: k.Used,
		}})
	}
	return items, nil
}

// cacheFilter selects things in the build cache.
type cacheFilter []func(it *cacheItem) bool

// parseCacheFilter reads buildx's filters: until (unused-for), id, type, description, shared, private; key=value, key!=value
// or key~=pattern. Different ones must all hold.
func parseCacheFilter(exprs []string, now time.Time) (cacheFilter, error) {
	var f cacheFilter
	for _, expr := range exprs {
		key, value, ok := strings.Cut(expr, "=")
		if !ok {
			return nil, fmt.Errorf("filter %.100q: want key=value: %w", expr, errdef.ErrInvalid)
		}
		op := "="
		if n := len(key); n > 0 && (key[n-1] == '!' || key[n-1] == '~') {
			key, op = key[:n-1], key[n-1:]+"="
		}
		value = strings.TrimPrefix(value, "=")
		test, err := cacheTest(strings.TrimSpace(key), op, strings.TrimSpace(value), now)
		if err != nil {
			return nil, fmt.Errorf("filter %.100q: %w", expr, err)
		}
		f = append(f, test)
	}
	return f, nil
}

func cacheTest(key, op, value string, now time.Time) (func(it *cacheItem) bool, error) {
	var is func(it *cacheItem) bool
	switch key {
	case "until", "unused-for":
		age, err := time.ParseDuration(value)
		if err != nil || age < 0 || op != "=" {
			return nil, fmt.Errorf("want a duration such as 24h: %w", errdef.ErrInvalid)
		}
		limit := now.Add(-age)
		return func(it *cacheItem) bool { return !it.LastUsed.After(limit) }, nil
	case "shared", "private":
		want, err := strconv.ParseBool(value)
		if value == "" {
			want, err = true, nil
		}
		if err != nil || op == "~=" {
			return nil, fmt.Errorf("want true or false: %w", errdef.ErrInvalid)
		}
		if key == "private" {
			want = !want
		}
		is = func(it *cacheItem) bool { return it.Shared == want }
	case "id", "type", "description":
		match := func(s string) bool { return s == value }
		if op == "~=" {
			re, err := regexp.Compile(value)
			if err != nil {
				return nil, fmt.Errorf("pattern: %w: %w", err, errdef.ErrInvalid)
			}
			match = re.MatchString
		}
		is = func(it *cacheItem) bool {
			switch key {
			case "id":
				return match(it.ID) || it.mount != "" && match(it.mount) || op == "=" && len(value) >= 6 && strings.HasPrefix(it.ID, value)
			case "type":
				return match(it.Type)
			}
			return match(it.Description)
		}
	default:
		return nil, fmt.Errorf("unknown key; there are until, id, type, description, shared, private: %w", errdef.ErrInvalid)
	}
	if op == "!=" {
		return func(it *cacheItem) bool { return !is(it) }, nil
	}
	return is, nil
}

// match reports whether all filters hold.
func (f cacheFilter) match(it *cacheItem) bool {
	for _, test := range f {
		if !test(it) {
			return false
		}
	}
	return true
}

// CacheEntries lists the build cache, the things that the filters select, oldest first by last use.
func (e *Engine) CacheEntries(ctx context.Context, filters []string) ([]CacheUsage, error) {
	f, err := parseCacheFilter(filters, time.Now())
	if err != nil {
		return nil, err
	}
	have, err := e.inventory(ctx)
	if err != nil {
		return nil, err
	}
	items, err := have.cacheItems(have.owned(newGone()))
	if err != nil {
		return nil, err
	}
	var all []CacheUsage
	for i := range items {
		if f.match(&items[i]) {
			all = append(all, items[i].CacheUsage)
		}
	}
	slices.SortStableFunc(all, func(a, b CacheUsage) int { return a.LastUsed.Compare(b.LastUsed) })
	return all, nil
}
