package engine

import (
	"slices"
	"testing"
)

func TestSortTags(t *testing.T) {
	want := []string{"v2", "1.10", "1.9.1", "1.9", "1.9-rc1", "1.2", "develop", "stable"}
	got := sortTags([]string{"stable", "1.9-rc1", "1.2", "develop", "1.10", "v2", "1.9", "1.9.1"})
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func FuzzCompareTags(f *testing.F) {
	f.Add("1.9", "1.10", "v1")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		if compareTags(a, b) != -compareTags(b, a) {
			t.Errorf("%q and %q: not the other way round", a, b)
		}
		if compareTags(a, a) != 0 {
			t.Errorf("%q is not itself", a)
		}
	})
}
