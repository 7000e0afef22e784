package dockerfile_test

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"testing"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	"pgregory.net/rapid"

	"strata/internal/dockerfile"
	"strata/internal/errdef"
)

func ignore(t testing.TB, src string) *dockerfile.Ignore {
	t.Helper()
	ig, err := dockerfile.ParseIgnore(strings.NewReader(src), ".dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	return ig
}

func TestIgnore(t *testing.T) {
	for _, tc := range []struct {
		rules   string
		ignored string // paths
		taken   string
	}{
		{"", "", "a a/b"},
		{"a", "a a/b a/b/c", "b b/a"},
		{"/a", "a a/b", "b/a"},
		{"a/", "a a/b", "b"},
		{"*.go", "x.go", "d/x.go x.c"},
		{"**/*.go", "x.go d/x.go d/e/x.go", "x.c"},
		{"**", "a a/b", ""},
		{"*", "a a/b .git", ""},
		{"*\n!a", "b b/a", "a a/b"},
		{"*\n!a/b", "a b a/c", "a/b a/b/c"},
		{"*.md\n!README.md", "x.md", "README.md"},
		{"!README.md\n*.md", "README.md", "x"},
		{"*/temp*", "x/temp x/tempo", "temp x/y/temp"},
		{"temp?", "tempa", "temp tempab"},
		{"# a\n #b\na#b", "#b a#b", "a # b"},
		{"\ufeffa\r\nb\r\n", "a b", "c"},
		{"  a  \n\n! a/b ", "a", "a/b"},
		{"a/../b", "b", "a"},
		{"a/**/z", "a/z a/b/z a/b/c/z", "z b/z"},
		{"a/**\n!a/keep", "a/x", "a/keep"},
		{"[ab]\n\\*", "a b *", "c"},
		{"!!x\n*", "x", ""},
		{"node_modules\n**/node_modules", "node_modules/a x/node_modules/b", "x/node"},
		{".", "", "a"},
	} {
		ig := ignore(t, tc.rules)
		for _, p := range strings.Fields(tc.ignored) {
			if v := ig.Match(p); !v.Ignored || v.Rule == nil || v.Rule.Negate {
				t.Errorf("%q takes %s (%+v)", tc.rules, p, v.Rule)
			}
		}
		for _, p := range strings.Fields(tc.taken) {
			if v := ig.Match(p); v.Ignored {
				t.Errorf("%q ignores %s by %+v", tc.rules, p, v.Rule)
			}
		}
	}
}

func TestIgnoreNamesTheRule(t *testing.T) {
	ig := ignore(t, "# comment\n*.log\n!keep.log\n/build/\n")
	for p, want := range map[string]string{
		"a.log": "2 *.log true", "keep.log": "3 !keep.log false", "build/x/y": "4 /build/ true", "other": "none false",
	} {
		v := ig.Match(p)
		got := "none"
		if v.Rule != nil {
			got = fmt.Sprint(v.Rule.Line, " ", v.Rule.Text)
		}
		if got = fmt.Sprint(got, " ", v.Ignored); got != want {
			t.Errorf("%s: %s, want %s", p, got, want)
		}
	}
}

func TestIgnoreNil(t *testing.T) {
	var ig *dockerfile.Ignore
	if v := ig.Match("a/b"); v.Ignored || ig.SkipDir("a", v) || len(ig.Rules()) != 0 {
		t.Error("a nil Ignore ignores")
	}
}

func TestIgnoreSkipDir(t *testing.T) {
	for _, tc := range []struct {
		rules, dir string
		skip       bool
	}{
		{"a", "a", true},
		{"a", "b", false},
		{"a\n!b", "a", true},
		{"a\n!a/x", "a", false},
		{"a\n!a/x", "a/y", true},
		{"a\n!a/*/z", "a/y", false},
		{"a\n!**/keep", "a", false},
		{"*\n!src/*.go", "doc", true},
		{"*\n!src/*.go", "src/deep", true},
	} {
		ig := ignore(t, tc.rules)
		if got := ig.SkipDir(tc.dir, ig.Match(tc.dir)); got != tc.skip {
			t.Errorf("%q %s: %v", tc.rules, tc.dir, got)
		}
	}
}

func TestIgnoreErrors(t *testing.T) {
	for src, class := range map[string]error{
		"a\n!\n":                       errdef.ErrInvalid,
		"[a\n":                         errdef.ErrInvalid,
		strings.Repeat("a\n", 20_000):  errdef.ErrLimit,
		strings.Repeat("a", 2<<20):     nil,
		strings.Repeat("#xxxx\n", 4e5): errdef.ErrLimit,
	} {
		_, err := dockerfile.ParseIgnore(strings.NewReader(src), ".dockerignore")
		if err == nil || class != nil && !errors.Is(err, class) {
			t.Errorf("%.20q: %v", src, err)
		}
	}
	_, err := dockerfile.ParseIgnore(strings.NewReader("a\n[b\n"), ".dockerignore")
	if !strings.HasPrefix(err.Error(), `.dockerignore:2: "[b": `) {
		t.Error(err)
	}
}

// oracle walks to a path as BuildKit does: docker's reader of ignore files, one matcher of all patterns, the parents'
// results handed down.
func oracle(t interface{ Fatal(...any) }, src, p string) bool {
	patterns, err := ignorefile.ReadAll(strings.NewReader(src))
	if err != nil {
		t.Fatal(err)
	}
	pm, err := patternmatcher.New(patterns)
	if err != nil {
		t.Fatal(err)
	}
	var info patternmatcher.MatchInfo
	ignored := false
	for i := range len(p) + 1 {
		if i == len(p) || p[i] == '/' {
			if ignored, info, err = pm.MatchesUsingParentResults(p[:i], info); err != nil {
				t.Fatal(err)
			}
		}
	}
	return ignored
}

// TestIgnoreIsBuildKit: for random rules and paths the verdict is BuildKit's, and a directory that may be skipped holds
// nothing that is taken.
func TestIgnoreIsBuildKit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		part := rapid.SampledFrom([]string{"a", "b", "c", "*", "**", "a*", "?", "[ab]"})
		name := rapid.SampledFrom([]string{"a", "b", "c", "ab", "d"})
		var rules []string
		for range rapid.IntRange(1, 5).Draw(t, "rules") {
			rule := strings.Join(rapid.SliceOfN(part, 1, 3).Draw(t, "parts"), "/")
			if rapid.Bool().Draw(t, "negate") {
				rule = "!" + rule
			}
			rules = append(rules, rule)
		}
		src := strings.Join(rules, "\n")
		p := strings.Join(rapid.SliceOfN(name, 1, 4).Draw(t, "path"), "/")
		ig, err := dockerfile.ParseIgnore(strings.NewReader(src), ".dockerignore")
		if err != nil {
			t.Fatal(err)
		}
		got := ig.Match(p)
		if want := oracle(t, src, p); got.Ignored != want {
			t.Fatalf("%q %s: ignored is %v, BuildKit says %v", src, p, got.Ignored, want)
		}
		for dir := path.Dir(p); dir != "." && !got.Ignored; dir = path.Dir(dir) {
			if ig.SkipDir(dir, ig.Match(dir)) {
				t.Fatalf("%q: %s may be skipped, but %s is taken", src, dir, p)
			}
		}
	})
}

func FuzzIgnore(f *testing.F) {
	f.Add("*\n!a/**\n#x\n/b/", "a/b/c")
	f.Add("[a-", "a")
	f.Add("!", "a")
	f.Add("**/\\", "a")
	f.Add("!!a\n\ufeff", "!a")
	f.Fuzz(func(t *testing.T, src, p string) {
		ig, err := dockerfile.ParseIgnore(strings.NewReader(src), ".dockerignore")
		p = strings.TrimPrefix(path.Clean("/"+p), "/")
		if err != nil || p == "" {
			return
		}
		v := ig.Match(p)
		if v.Ignored && v.Rule == nil {
			t.Fatal("ignored by no rule")
		}
		for dir := path.Dir(p); dir != "." && !v.Ignored; dir = path.Dir(dir) {
			if ig.SkipDir(dir, ig.Match(dir)) {
				t.Fatalf("%q: %s may be skipped, but %s is taken", src, dir, p)
			}
		}
	})
}
