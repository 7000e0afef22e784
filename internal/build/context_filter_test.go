package build

import (
	"errors"
	"strings"
	"testing"

	"strata/internal/errdef"
)

func TestFilter(t *testing.T) {
	c := open(t, plant(t, map[string]string{"a/b/c.go": "", "a/b/d.txt": "", "a/e.txt": "", "a/x/y/z": "", "f.txt": "", "l": "-> a"}), "")
	for _, k := range []struct{ path, include, exclude, want string }{
		{"a", "", "*.txt", "b b/c.go b/d.txt x x/y x/y/z"},
		{"a", "", "**/*.txt", "b b/c.go x x/y x/y/z"},
		{"a", "", "b", "e.txt x x/y x/y/z"},
		{"a", "", "b !b/c.go", "(b) b/c.go e.txt x x/y x/y/z"},
		{"a", "", "*", ""},
		{"a", "", "** !**/z", "(x) (x/y) x/y/z"},
		{".", "a/b", "", "(a) a/b a/b/c.go a/b/d.txt"},
		{".", "a/b", "**/*.txt", "(a) a/b a/b/c.go"},
		{".", "**/*.txt", "", "(a) (a/b) a/b/d.txt a/e.txt f.txt"},
		{".", "**/*.txt", "a/b", "(a) a/e.txt f.txt"},
		{".", "*/*/y", "", "(a) (a/x) a/x/y a/x/y/z"},
		{"a", "x/y/z", "", "(x) (x/y) x/y/z"},
		{".", "none*", "", ""},
		{"l", "e.txt", "", "e.txt"},
		{".", "l", "", "l"},
	} {
		source := &Source{Path: k.path, Include: k.include, Parents: k.include != ""}
		found, err := c.selectFrom(source)
		if err != nil {
			t.Fatal(err)
		}
		f, err := newFilter(source, strings.Fields(k.exclude))
		if err == nil {
			err = f.apply(&found[0])
		}
		var got []string
		for i := range found[0].all {
			name := found[0].relative(&found[0].all[i])
			if found[0].all[i].implied {
				name = "(" + name + ")"
			}
			got = append(got, name)
		}
		if strings.Join(got, " ") != k.want || err != nil {
			t.Errorf("%s include %q exclude %q: %v\n got %s\nwant %s", k.path, k.include, k.exclude, err, strings.Join(got, " "), k.want)
		}
	}
	for _, include := range []string{"none", "l/e.txt", "a/b/none", ""} {
		source := &Source{Path: ".", Include: include, Parents: true}
		found, _ := c.selectFrom(source)
		f, err := newFilter(source, nil)
		if err == nil {
			err = f.apply(&found[0])
		}
		if !errors.Is(err, errdef.ErrNotFound) {
			t.Errorf("%q: %v", include, err)
		}
	}
}
