package engine

import (
	"errors"
	"slices"
	"testing"
	"time"

	"strata/internal/errdef"
	"strata/internal/image"
	"strata/internal/oci"
)

func TestOverCap(t *testing.T) {
	now := time.Now()
	entry := func(name string, minutes int, layers ...oci.DiffID) cacheItem {
		return cacheItem{layers: layers, CacheUsage: CacheUsage{ID: name, Type: cacheRegular, LastUsed: now.Add(-time.Duration(minutes) * time.Minute)}}
	}
	mount := func(name string, minutes int, size int64) cacheItem {
		it := entry(name, minutes)
		it.Type, it.Size, it.trash = cacheMount, size, func(string) error { return nil }
		return it
	}
	sizes := map[oci.DiffID]int64{"sha256:a": 10, "sha256:b": 10, "sha256:c": 10, "sha256:d": 10, "sha256:image": 100, "sha256:live": 10}
	items := []cacheItem{
		entry("a", 30, "sha256:a"), entry("ab", 20, "sha256:a", "sha256:b"), entry("abc", 20, "sha256:a", "sha256:b", "sha256:c"),
		entry("d", 10, "sha256:d"), entry("image", 60, "sha256:image"), entry("live", 60, "sha256:live"), mount("mount", 15, 10),
	}
	owned := map[oci.DiffID]bool{"sha256:image": true}
	live := map[string]bool{image.LayerName("sha256:live"): true}
	for _, test := range []struct {
		keep   int64
		filter []string
		want   []string
	}{
		{60, nil, nil},
		{55, nil, []string{"abc"}},
		{40, nil, []string{"abc", "ab"}},
		{30, nil, []string{"abc", "ab", "a"}},
		{20, nil, []string{"abc", "ab", "a", "mount"}},
		{0, nil, []string{"abc", "ab", "a", "mount", "d"}},
		{0, []string{"type=exec.cachemount"}, []string{"mount"}},
		{0, []string{"type!=exec.cachemount", "until=12m"}, []string{"abc", "ab", "a"}},
	} {
		f, err := parseCacheFilter(test.filter, now)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, it := range overCap(items, f, test.keep, sizes, owned, live) {
			got = append(got, it.ID)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("down to %d, %v: %v, want %v", test.keep, test.filter, got, test.want)
		}
	}
}

func TestCacheFilters(t *testing.T) {
	now := time.Now()
	it := &cacheItem{mount: "deps", CacheUsage: CacheUsage{ID: "0123456789abcdef", Type: cacheMount, Description: "cached mount deps", LastUsed: now.Add(-time.Hour)}}
	for expr, want := range map[string]bool{
		"until=30m": true, "unused-for=2h": false, "id=deps": true, "id=0123456789": true, "id=01234": false, "id!=deps": false, "id~=^de": true,
		"type=exec.cachemount": true, "type==exec.cachemount": true, "type=regular": false, "description~=mount": true, "shared=false": true, "private=true": true, "shared": false,
	} {
		f, err := parseCacheFilter([]string{expr}, now)
		if expr == "shared" {
			if !errors.Is(err, errdef.ErrInvalid) {
				t.Errorf("%s: %v", expr, err)
			}
			continue
		}
		if err != nil || f.match(it) != want {
			t.Errorf("%s: %v, want %v", expr, err, want)
		}
	}
	for _, expr := range []string{"until=soon", "until!=1h", "size=1", "shared=maybe", "id~=("} {
		if _, err := parseCacheFilter([]string{expr}, now); !errors.Is(err, errdef.ErrInvalid) {
			t.Errorf("%s: %v", expr, err)
		}
	}
}
