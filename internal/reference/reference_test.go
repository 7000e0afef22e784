package reference_test

import (
	_ "crypto/sha512" // what distribution accepts depends on what is linked
	"errors"
	"strings"
	"testing"

	oracle "github.com/distribution/reference"
	"pgregory.net/rapid"

	"strata/internal/errdef"
	"strata/internal/reference"
)

const hex64 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestParse(t *testing.T) {
	for _, c := range []struct{ in, full, familiar string }{
		{"ubuntu", "docker.io/library/ubuntu", "ubuntu"},
		{"ubuntu:22.04", "docker.io/library/ubuntu:22.04", "ubuntu:22.04"},
		{"user/x", "docker.io/user/x", "user/x"},
		{"docker.io/ubuntu", "docker.io/library/ubuntu", "ubuntu"},
		{"index.docker.io/library/ubuntu", "docker.io/library/ubuntu", "ubuntu"},
		{"docker.io/library/a/b", "docker.io/library/a/b", "library/a/b"},
		{"localhost/x", "localhost/x", "localhost/x"},
		{"localhost:5000/x:y", "localhost:5000/x:y", "localhost:5000/x:y"},
		{"host:5000", "docker.io/library/host:5000", "host:5000"},
		{"[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x"},
		{"Foo/x", "Foo/x", "Foo/x"},
		{"strata.internal/toolbox", "strata.internal/toolbox", "strata.internal/toolbox"},
		{"a--b/c__d:T@sha256:" + hex64, "docker.io/a--b/c__d:T@sha256:" + hex64, "a--b/c__d:T@sha256:" + hex64},
	} {
		r, err := reference.Parse(c.in)
		if err != nil || r.String() != c.full || r.Familiar() != c.familiar {
			t.Errorf("Parse(%q) = %q, %q, %v; want %q, %q", c.in, r, r.Familiar(), err, c.full, c.familiar)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for in, hint := range map[string]string{
		"":                                   "",
		hex64:                                "",
		"Ubuntu":                             "did you mean `ubuntu`?",
		"Ubuntu:Tag":                         "did you mean `ubuntu:Tag`?",
		"quay.io/Me/App:V1":                  "did you mean `quay.io/me/app:V1`?",
		"ubuntu:":                            "",
		"ubuntu:.x":                          "",
		"ubuntu:" + strings.Repeat("t", 129): "",
		"ubuntu@":                            "",
		"ubuntu@sha256:12":                   "",
		"ubuntu@md5:" + hex64:                "",
		"a//b":                               "",
		"a___b":                              "",
		"a..b":                               "",
		"-a":                                 "",
		"foo_bar.baz/x":                      "",
		"host:port/x":                        "",
		"http://host/x":                      "",
		strings.Repeat("a", 256):             "",
		"../x":                               "",
		"x\x00":                              "",
		"x y":                                "",
	} {
		_, err := reference.Parse(in)
		if !errors.Is(err, errdef.ErrInvalid) {
			t.Errorf("Parse(%q) = %v, want ErrInvalid", in, err)
		}
		if got := errdef.Hint(err); got != hint {
			t.Errorf("Parse(%q) hints %q, want %q", in, got, hint)
		}
	}
}

func TestTagsAndDigests(t *testing.T) {
	r, err := reference.Parse("ubuntu")
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Latest().Familiar(); got != "ubuntu:latest" {
		t.Errorf("Latest = %q", got)
	}
	tagged, err := r.WithTag("v1")
	if err != nil || tagged.Latest().Familiar() != "ubuntu:v1" {
		t.Errorf("WithTag = %q, %v", tagged, err)
	}
	if _, err := r.WithTag("-"); !errors.Is(err, errdef.ErrInvalid) {
		t.Errorf("WithTag(-) = %v", err)
	}
	pinned := tagged.WithDigest("sha256:" + hex64)
	if got := pinned.Latest().Familiar(); got != "ubuntu@sha256:"+hex64 {
		t.Errorf("WithDigest = %q", got)
	}
	if got := pinned.Repository().String(); got != "docker.io/library/ubuntu" {
		t.Errorf("Repository = %q", got)
	}
}

// same compares with distribution's own parser. One difference is meant: distribution takes "foo_bar.baz/x", whose
// first component is a domain by docker's rule but not by the grammar, and gives a name without a domain.
func same(t interface {
	Helper()
	Fatalf(string, ...any)
}, s string) {
	t.Helper()
	want, wantErr := oracle.ParseNormalizedNamed(s)
	if wantErr == nil && oracle.Domain(want) == "" {
		return
	}
	got, err := reference.Parse(s)
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("Parse(%q) = %v, distribution says %v", s, err, wantErr)
	}
	if err != nil {
		return
	}
	if got.String() != want.String() || got.Familiar() != oracle.FamiliarString(want) || got.Name() != want.Name() {
		t.Fatalf("Parse(%q) = %q, %q; distribution says %q, %q", s, got, got.Familiar(), want, oracle.FamiliarString(want))
	}
	if again, err := reference.Parse(got.String()); err != nil || again != got {
		t.Fatalf("%q does not parse to itself: %v, %v", got, again, err)
	}
	if again, err := reference.Parse(got.Familiar()); err != nil || again != got {
		t.Fatalf("familiar %q of %q parses to %v, %v", got.Familiar(), got, again, err)
	}
	if got.Latest().String() != oracle.TagNameOnly(want).String() {
		t.Fatalf("Latest of %q: %q", s, got.Latest())
	}
}

func TestSameAsDistribution(t *testing.T) {
	pieces := []string{"a", "b9", "A", ".", "_", "-", "/", ":", "@", "localhost", "docker.io", "index.docker.io", "library",
		"sha256:" + hex64, "@sha256:" + hex64, "@sha512:" + hex64 + hex64, "[::1]", "5000", ":5000/", "é", "\n", hex64, " "}
	rapid.Check(t, func(t *rapid.T) {
		same(t, strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 0, 8).Draw(t, "pieces"), ""))
	})
	same(t, strings.Repeat("a", 247))
	same(t, strings.Repeat("a", 248))
	same(t, "x.y/"+strings.Repeat("a", 255))
	same(t, "x.y/"+strings.Repeat("a", 256))
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"ubuntu", "a.b:1/c:d@sha256:" + hex64, "[::1]:5/x", "A/b", "a__b", hex64, "foo_bar.baz/x", "docker.io/a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { same(t, s) })
}
