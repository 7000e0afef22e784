package remote

import (
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"strata/internal/errdef"
	"strata/internal/reference"
)

// confClient makes a client that knows one registries.conf, and these directories for hosts.toml.
func confClient(t *testing.T, text string, dirs ...string) *Client {
	t.Helper()
	c := newClient(t)
	file := filepath.Join(t.TempDir(), "registries.conf")
	write(t, file, text)
	made := New(Options{HostDirs: append([]string{}, dirs...), ConfFiles: []string{file}})
	made.pause = c.pause
	return made
}

func TestParseConf(t *testing.T) {
	const text = `
unqualified-search-registries = ["docker.io"]
short-name-mode = "enforcing"
[aliases]
"app" = "quay.io/team/app"
[[registry]]
location = "plain.example:5000"
insecure = true
[[registry]]
prefix = "docker.io/library/"
location = "mirror.example/hub"
[[registry.mirror]]
location = "near.example"
insecure = true
[[registry.mirror]]
location = "far.example/x"
pull-from-mirror = "digest-only"
[[registry]]
prefix = "*.bad.example"
blocked = true
`
	doc, err := parseConf("f", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	got, err := doc.entries("f")
	want := []confEntry{
		{prefix: "plain.example:5000", location: "plain.example:5000", insecure: true, file: "f"},
		{prefix: "docker.io/library", location: "mirror.example/hub", file: "f", mirrors: []confMirror{
			{"near.example", true, canPull | canResolve | canRefer}, {"far.example/x", false, canPull},
		}},
		{prefix: "*.bad.example", blocked: true, file: "f"},
	}
	if err != nil || !cmp.Equal(got, want, cmp.AllowUnexported(confEntry{}, confMirror{})) {
		t.Errorf("%v\n%s", err, cmp.Diff(want, got, cmp.AllowUnexported(confEntry{}, confMirror{})))
	}
}

// A file that is not there says nothing.
func TestConfMissing(t *testing.T) {
	if c, err := readConf([]string{filepath.Join(t.TempDir(), "registries.conf")}); err != nil || len(c.entries) != 0 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestParseConfRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"no TOML":               "[[registry",
		"scheme":                "[[registry]]\nlocation = \"https://a.example\"",
		"nothing":               "[[registry]]\nblocked = true",
		"star with path":        "[[registry]]\nprefix = \"*.a.example/x\"",
		"star with location":    "[[registry]]\nprefix = \"*.a.example\"\nlocation = \"b.example\"",
		"mirror of nowhere":     "[[registry]]\nprefix = \"a.example\"\n[[registry.mirror]]\ninsecure = true",
		"no such word":          "[[registry]]\nprefix = \"a.example\"\n[[registry.mirror]]\nlocation = \"b.example\"\npull-from-mirror = \"often\"",
		"a tag":                 "[[registry]]\nprefix = \"a.example/x:1\"",
		"spaces":                "[[registry]]\nprefix = \"a example\"",
		"version 1":             "[registries.search]\nregistries = [\"docker.io\"]",
		"a text for a boolean":  "[[registry]]\nprefix = \"a.example\"\nblocked = \"yes\"",
		"upper case repository": "[[registry]]\nprefix = \"a.example/X\"",
	} {
		file := filepath.Join(t.TempDir(), "registries.conf")
		write(t, file, text)
		if _, err := readConf([]string{file}); !errors.Is(err, errdef.ErrInvalid) && !errors.Is(err, errdef.ErrUnsupported) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConfMatches(t *testing.T) {
	for _, c := range []struct {
		prefix, name string
		want         bool
	}{
		{"docker.io", "docker.io/library/x", true},
		{"docker.io/library", "docker.io/library/x", true},
		{"docker.io/lib", "docker.io/library/x", false},
		{"docker.io/library/x", "docker.io/library/x", true},
		{"docker.io/library/x", "docker.io/library/xy", false},
		{"a.example", "a.example:5000/x", false},
		{"*.example", "a.example/x", true},
		{"*.example", "a.b.example:5000/x", true},
		{"*.example", "aexample.org/x", false},
	} {
		ref, err := reference.Parse(c.name)
		if err != nil {
			t.Fatal(err)
		}
		if got := (confEntry{prefix: c.prefix}).matches(ref); got != c.want {
			t.Errorf("%s matches %s: %v", c.prefix, c.name, got)
		}
	}
}

func TestAlias(t *testing.T) {
	for _, c := range []struct{ from, to, name, want string }{
		{"", "", "library/x", "library/x"},
		{"", "hub", "library/x", "hub/library/x"},
		{"library", "hub/official", "library/x", "hub/official/x"},
		{"library/x", "y", "library/x", "y"},
		{"library", "", "library/x", "x"},
		{"library", "hub", "other/x", "other/x"},
		{"library", "hub", "library2/x", "library2/x"},
	} {
		a := &alias{c.from, c.to}
		if got := a.repo(c.name); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
		if got := a.scopes([]string{"repository:" + c.name + ":pull,push", "registry:catalog:*"}); got[0] != "repository:"+c.want+":pull,push" || got[1] != "registry:catalog:*" {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// Mirrors are asked first and under their own names; what they lack the location has; a push goes there.
func TestConfMirrors(t *testing.T) {
	var mirrorAsked, pushed atomic.Int32
	mirror := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v2/cache/") {
			mirrorAsked.Add(1)
		}
		if r.URL.RawQuery != "" {
			t.Errorf("the mirror is asked with %s", r.URL.RawQuery)
		}
		refuse(w, 404, "MANIFEST_UNKNOWN", "unknown")
	}))
	store := plainRegistry()
	place := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" && !strings.HasPrefix(r.URL.Path, "/v2/team/real/") {
			t.Errorf("asked for %s", r.URL.Path)
		}
		if r.Method == http.MethodPut {
			pushed.Add(1)
		}
		store.ServeHTTP(w, r)
	}))
	c := confClient(t, `
[[registry]]
prefix = "registry.example/shown"
location = "`+place+`/team/real"
[[registry.mirror]]
location = "`+mirror+`/cache"
`)
	ref := parse(t, "registry.example/shown/app:1")
	push(t, c, ref)
	if pushed.Load() == 0 || mirrorAsked.Load() != 0 {
		t.Errorf("%d pushes, the mirror was asked %d times", pushed.Load(), mirrorAsked.Load())
	}
	if _, err := c.Manifest(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	if mirrorAsked.Load() == 0 {
		t.Error("the mirror was not asked")
	}
	if tags, err := c.Tags(t.Context(), ref, 0); err != nil || len(tags) != 1 {
		t.Errorf("%v, %v", tags, err)
	}
	list, err := c.Config(t.Context())
	if err != nil || len(list) != 1 || list[0].Registry != "registry.example/shown" || len(list[0].Mirrors) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
}

// Nothing is asked of what is blocked, whatever else a hosts.toml says; what is beside it is not touched by that.
func TestConfBlocked(t *testing.T) {
	host := serve(t, plainRegistry())
	dir := hosts(t, host, `server = "http://`+host+`"`)
	c := confClient(t, "[[registry]]\nprefix = \""+host+"/evil\"\nblocked = true\n", dir)
	_, err := c.Manifest(t.Context(), parse(t, host+"/evil/app:1"))
	if !errors.Is(err, errdef.ErrDenied) || !strings.Contains(err.Error(), "registries.conf blocks "+host+"/evil") {
		t.Errorf("%v", err)
	}
	push(t, c, parse(t, host+"/good/app:1"))
}

// A registry that is no loopback address may speak plain HTTP only where a file, or the caller, says so.
func TestConfInsecure(t *testing.T) {
	host := serveOn(t, otherAddress(t), plainRegistry())
	ref := parse(t, host+"/app:1")
	if _, err := confClient(t, "").Head(t.Context(), ref); !errors.Is(err, errdef.ErrUnavailable) {
		t.Errorf("nobody said so: %v", err)
	}
	push(t, confClient(t, "[[registry]]\nlocation = \""+host+"\"\ninsecure = true\n"), ref)
	if _, err := New(Options{HostDirs: []string{}, Insecure: true}).Head(t.Context(), ref); err != nil {
		t.Errorf("the caller said so: %v", err)
	}
}

// A hosts.toml of the registry's own counts more than registries.conf.
func TestConfBesideHosts(t *testing.T) {
	host := serve(t, plainRegistry())
	dir := hosts(t, "registry.example", `server = "http://`+host+`"`)
	c := confClient(t, "[[registry]]\nprefix = \"registry.example\"\nlocation = \"127.0.0.1:1\"\n", dir)
	push(t, c, parse(t, "registry.example/app:1"))
}

func FuzzConf(f *testing.F) {
	f.Add([]byte("[[registry]]\nprefix = \"docker.io/library\"\nlocation = \"a.example/b\"\n[[registry.mirror]]\nlocation = \"c.example\"\n"), "library/x")
	f.Add([]byte("[[registry]]\nprefix = \"*.example\"\nblocked = true\n"), "a")
	f.Add([]byte("[registries.block]\nregistries = [\"x\"]"), "a")
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		doc, err := parseConf("f", data)
		if err != nil {
			return
		}
		entries, err := doc.entries("f")
		if err != nil {
			return
		}
		for _, e := range entries {
			if e.prefix == "" || strings.Contains(e.prefix+e.location, "://") {
				t.Errorf("%+v", e)
			}
			ref, err := reference.Parse(strings.TrimPrefix(e.prefix, "*.") + "/" + name)
			if err != nil || !e.matches(ref) {
				continue
			}
			_, from, _ := strings.Cut(e.prefix, "/")
			_, to, _ := strings.Cut(e.location, "/")
			if got := (&alias{from, to}).repo(ref.Path); !strings.HasPrefix(got, to) || strings.Contains(got, "//") {
				t.Errorf("%+v: %s becomes %q", e, ref.Path, got)
			}
		}
	})
}
