package build

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"strata/internal/dockerfile"
	"strata/internal/errdef"
)

// plant makes files ("name": content), directories ("name/") and links ("name": "-> target") in a new directory, all
// with times in the past.
func plant(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(data, "-> "); ok {
			err = os.Symlink(target, full)
		} else if strings.HasSuffix(name, "/") {
			err = os.MkdirAll(full, 0o755)
		} else {
			err = os.WriteFile(full, []byte(data), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func open(t testing.TB, dir, ignore string) *Context {
	t.Helper()
	ig, err := dockerfile.ParseIgnore(strings.NewReader(ignore), ".dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewContext(dir, ig, ".dockerignore", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.walk(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.root.Close() })
	return c
}

func paths(items []item) string {
	var names []string
	for _, i := range items {
		names = append(names, i.path)
	}
	return strings.Join(names, " ")
}

func TestContextWalk(t *testing.T) {
	dir := plant(t, map[string]string{"a": "1", "node_modules/x": "2", "node_modules/keep/y": "3", "src/b": "4", "src-2": "5", "l": "-> a", "e/": ""})
	for ignore, want := range map[string]string{
		"":                                   ". a e l node_modules node_modules/keep node_modules/keep/y node_modules/x src src/b src-2",
		"node_modules":                       ". a e l src src/b src-2",
		"node_modules\n!node_modules/keep":   ". a e l node_modules node_modules/keep node_modules/keep/y src src/b src-2",
		"node_modules\n!node_modules/keep/y": ". a e l node_modules node_modules/keep node_modules/keep/y src src/b src-2",
		"*":                                  ".",
		"**\n!src/b":                         ". src src/b",
	} {
		c := open(t, dir, ignore)
		if got := paths(c.tree.items); got != want {
			t.Errorf("%q:\n got %s\nwant %s", ignore, got, want)
		}
		for name, n := range c.tree.byPath {
			if c.tree.items[n].path != name {
				t.Errorf("%q: %s leads to %s", ignore, name, c.tree.items[n].path)
			}
		}
	}
	if got := paths(open(t, dir, "").tree.below("src")); got != "src/b" {
		t.Errorf("below src: %s", got)
	}
}

func TestContextSelect(t *testing.T) {
	dir := plant(t, map[string]string{"a.go": "1", "b.go": "2", "d/c.go": "3", "link": "-> d", "file": "-> /d/../a.go", "up": "-> ../../d/c.go", "loop": "-> loop"})
	c := open(t, dir, "")
	for source, want := range map[string]string{
		"*.go":      "a.go=a.go b.go=b.go",
		"d":         "d=d",
		"link":      "link=d",
		"link/c.go": "c.go=d/c.go",
		"file":      "file=a.go",
		"up":        "up=d/c.go",
		".":         ".=.",
		"x*":        "",
		"d/*":       "c.go=d/c.go",
		"link/*":    "c.go=d/c.go",
		"*/c.go":    "c.go=d/c.go",
	} {
		found, err := c.selectFrom(&Source{Path: source})
		if err != nil {
			t.Errorf("%s: %v", source, err)
		}
		var got []string
		for _, s := range found {
			got = append(got, s.name+"="+s.top.path)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got %q, want %q", source, got, want)
		}
	}
	for _, source := range []string{"loop", "none", "a.go/x", "[a", "none/*.go"} {
		if _, err := c.selectFrom(&Source{Path: source}); err == nil {
			t.Errorf("%s: no error", source)
		}
	}
}

func TestContextMissing(t *testing.T) {
	dir := plant(t, map[string]string{"package.json": "1", "secret": "2", "src/app.py": "3", "README": "4"})
	c := open(t, dir, "secret\n")
	c.dockerfile = "secret"
	for written, want := range map[string]string{
		"package.jsn":   `did you mean "package.json"?`,
		"readme":        `did you mean "README"?`,
		"app.py":        `did you mean "src/app.py"?`,
		"secret":        `.dockerignore:1: "secret" leaves it out; add the line "!secret" after it`,
		"zzz":           "build context, " + dir + ": ls " + dir,
		dir + "/README": `paths begin at the build context: write "README"`,
		"/dev/null":     "copy /dev/null into " + dir + " first",
		"../x/y":        "build from " + filepath.Dir(dir) + ": strata build -f " + dir + "/secret " + filepath.Dir(dir),
		"../../y":       "build from " + filepath.Dir(filepath.Dir(dir)) + ": ",
		"..":            "",
	} {
		_, err := c.selectFrom(&Source{Path: source(written), Written: written})
		if source(written) == "." {
			err = c.missing(".", written)
		}
		outside := errors.Is(err, errdef.ErrInvalid) && strings.Contains(err.Error(), "outside of the build context")
		inside := errors.Is(err, errdef.ErrNotFound) && strings.Contains(err.Error(), `"/`+source(written)+`": not found`)
		if outside == inside || !strings.Contains(errdef.Hint(err), want) || outside != strings.HasPrefix(written, "..") {
			t.Errorf("%s: %v, hint %q", written, err, errdef.Hint(err))
		}
	}
}

func TestNewContextErrors(t *testing.T) {
	dir := plant(t, map[string]string{"f": ""})
	if _, err := NewContext(filepath.Join(dir, "none"), nil, "", dir); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("missing: %v", err)
	}
	if _, err := NewContext(filepath.Join(dir, "f"), nil, "", dir); !errors.Is(err, errdef.ErrInvalid) {
		t.Errorf("file: %v", err)
	}
}

func TestStatIndex(t *testing.T) {
	dir, cache := plant(t, map[string]string{"a": "one", "b": "two"}), t.TempDir()
	sums := func(at time.Time) (map[string]string, *statIndex) {
		c, err := NewContext(dir, nil, "", cache)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.walk(); err != nil {
			t.Fatal(err)
		}
		defer c.root.Close()
		c.index.begin(at)
		got, err := c.digests(t.Context(), []*item{c.tree.get("a"), c.tree.get("b")})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.index.save(); err != nil {
			t.Fatal(err)
		}
		return got, c.index
	}
	now := time.Now()
	if _, x := sums(now); len(x.fresh) != 0 {
		t.Error("remembered files that were written a moment ago")
	}
	first, x := sums(now.Add(time.Hour))
	if len(x.fresh) != 2 || first["a"] == first["b"] {
		t.Errorf("kept %d, %v", len(x.fresh), first)
	}
	again, x := sums(now.Add(time.Hour))
	if len(x.known) != 2 || again["a"] != first["a"] {
		t.Errorf("known %d, %v", len(x.known), again)
	}
	name := filepath.Join(dir, "a")
	written := func() time.Time {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		return info.ModTime()
	}
	for before := written(); written().Equal(before); { // until the kernel's clock has gone on
		if err := os.WriteFile(name, []byte("six"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if third, _ := sums(now.Add(time.Hour)); third["a"] == first["a"] || third["b"] != first["b"] {
		t.Errorf("after a change: %v, before: %v", third, first)
	}
}

func TestStatIndexNoticesAChangeWhileReading(t *testing.T) {
	dir := plant(t, map[string]string{"a": "one"})
	c := open(t, dir, "")
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("longer"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := c.digests(t.Context(), []*item{c.tree.get("a")}); !errors.Is(err, errdef.ErrConflict) {
		t.Errorf("got %v", err)
	}
}

func FuzzDecodeIndex(f *testing.F) {
	f.Add(encodeIndex(nil))
	f.Add(encodeIndex(map[fileID][32]byte{{1, 2, 3, 4, 5}: {6}}))
	f.Add([]byte(indexMagic))
	f.Fuzz(func(t *testing.T, raw []byte) {
		known := map[fileID][32]byte{}
		for _, r := range decodeIndex(raw) {
			known[r.ID] = r.Sum
		}
		if len(known) == 1 && !bytes.Equal(encodeIndex(known), raw) {
			t.Errorf("another encoding of one record: %q", raw)
		}
	})
}
