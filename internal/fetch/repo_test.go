package fetch

import (
	"errors"
	"strings"
	"testing"

	"strata/internal/errdef"
)

func TestParseRepo(t *testing.T) {
	const sha = "0123456789abcdef0123456789abcdef01234567"
	for source, want := range map[string]string{
		"https://h/a/b.git":                                          "https://h/a/b.git#:",
		"https://h/a/b.git#v1":                                       "https://h/a/b.git#v1:",
		"https://h/a/b.git#v1:d/e/":                                  "https://h/a/b.git#v1:d/e",
		"https://h/a/b.git#:../../d":                                 "https://h/a/b.git#:d",
		"https://u@h:81/b.git?ref=x&subdir=d":                        "https://xxxxx@h:81/b.git#x:d",
		"https://h/b.git?branch=m&keep-git-dir=1":                    "https://h/b.git#refs/heads/m: keep-git-dir",
		"https://h/b.git?tag=refs/tags/m&submodules=0":               "https://h/b.git#refs/tags/m: no-submodules",
		"https://h/b.git?mtime=commit&fetch-by-commit&commit=" + sha: "https://h/b.git#: mtime=commit",
		"http://h/b.git":                                             "http://h/b.git#:",
		"git://h/b":                                                  "git://h/b#:",
		"ssh://git@h/b#x":                                            "ssh://git@h/b#x:",
		"git@h:a/b.git":                                              "git@h:a/b.git#:",
		"git@h:a/b.git#v1:d":                                         "git@h:a/b.git#v1:d",
		"git@h:a?branch=x#":                                          "git@h:a#refs/heads/x:",
		"git@h:a#x?y":                                                "git@h:a#x?y:",
	} {
		r, err := ParseRepo(source)
		if err != nil || r == nil {
			t.Errorf("%s: %v, %v", source, r, err)
			continue
		}
		if got := r.String(); got != want {
			t.Errorf("%s:\n got %s\nwant %s", source, got, want)
		}
	}
	for _, source := range []string{"", "a", "./git@h:a", "https://h/a", "https://h/a.git/x", "ftp://h/a.git", "a b@h:c", "@h:c", "u@:c", "u@-o:c", "u@h", "http://%zz/b.git", "file:///a.git", "github.com/a/b"} {
		if r, err := ParseRepo(source); r != nil || err != nil {
			t.Errorf("%q: %v, %v", source, r, err)
		}
	}
	for _, source := range []string{
		"https://h/b.git?x=1", "https://h/b.git?ref=", "https://h/b.git?ref=a&ref=b", "https://h/b.git?ref=a#b", "https://h/b.git?tag=a&branch=b",
		"https://h/b.git?submodules=x", "https://h/b.git?mtime=x", "https://h/b.git#-x", "https://h/b.git?checksum=xyz", "https://h/b.git?fetch-by-commit",
	} {
		if _, err := ParseRepo(source); !errors.Is(err, errdef.ErrInvalid) {
			t.Errorf("%q: %v", source, err)
		}
	}
}

func TestRepoPinAndKeep(t *testing.T) {
	r, err := ParseRepo("https://h/b.git?checksum=ABC&keep-git-dir=false")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Pin("abc"); err != nil {
		t.Error(err)
	}
	if err := r.Pin("abcd"); !errors.Is(err, errdef.ErrInvalid) {
		t.Error(err)
	}
	if err := r.Keep(true); !errors.Is(err, errdef.ErrInvalid) {
		t.Error(err)
	}
}

func TestRedact(t *testing.T) {
	for source, want := range map[string]string{
		"https://u:p@h/x": "https://xxxxx@h/x", "https://tok@h/x": "https://xxxxx@h/x", "https://h/x": "https://h/x", "git@h:x": "git@h:x", "ssh://git@h/x": "ssh://git@h/x",
	} {
		if got := Redact(source); got != want {
			t.Errorf("%s: %s", source, got)
		}
	}
}

func TestFileName(t *testing.T) {
	for source, want := range map[string]string{
		"https://h/a/b.tar.gz": "b.tar.gz", "https://h/a/b/": "b", "https://h/": "__unnamed__", "https://h": "__unnamed__", "https://h/a%20b?q=/x#y": "a b",
		"https://h/a/..": "download", "https://h/a%0ab": "download", "https://h/a%2fb": "b", "http://%zz": "__unnamed__",
	} {
		if got := FileName(source); got != want {
			t.Errorf("%s: %q, want %q", source, got, want)
		}
	}
}

func TestChoose(t *testing.T) {
	id := func(c string) string { return strings.Repeat(c, 40) }
	lines := id("a") + "\trefs/heads/x\n" + id("b") + "\trefs/tags/x\n" + id("c") + "\trefs/tags/x^{}\n" + id("d") + "\trefs/tags/y\n" + id("e") + "\trefs/pull/1\nnonsense\n"
	for ref, want := range map[string]Commit{
		"x": {ID: id("a"), Ref: "refs/heads/x"}, "refs/tags/x": {id("c"), "refs/tags/x", id("b")}, "y": {ID: id("d"), Ref: "refs/tags/y"},
		"pull/1": {ID: id("e"), Ref: "refs/pull/1"}, "refs/heads/x": {ID: id("a"), Ref: "refs/heads/x"},
	} {
		if got, err := choose(lines, ref); got != want || err != nil {
			t.Errorf("%s: %+v, %v", ref, got, err)
		}
	}
	if _, err := choose(lines, "z"); !errors.Is(err, errdef.ErrNotFound) {
		t.Error(err)
	}
}

func FuzzParseRepo(f *testing.F) {
	for _, s := range []string{"https://h/a.git?branch=m#x:y", "git@h:a?tag=v#b", "ssh://git@h/b", "https://%zz.git", "git@h:a.git#:../..", "-@h:a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, source string) {
		r, err := ParseRepo(source)
		if r == nil || err != nil {
			return
		}
		if r.Remote == "" || strings.HasPrefix(r.Remote, "-") || strings.HasPrefix(r.Ref, "-") {
			t.Fatalf("git would take %+v for flags", r)
		}
		if r.Dir != "" && (strings.HasPrefix(r.Dir, "/") || strings.Contains("/"+r.Dir+"/", "/../")) {
			t.Fatalf("directory %q", r.Dir)
		}
	})
}
