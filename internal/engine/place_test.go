package engine

import (
	"strings"
	"testing"
)

func TestParsePlace(t *testing.T) {
	for _, c := range []struct {
		text       string
		kind       Kind
		path, name string
		again      string // how it is written, where that differs
	}{
		{"ubuntu", KindRegistry, "", "ubuntu", ""},
		{"localhost:5000/a:1", KindRegistry, "", "localhost:5000/a:1", ""},
		{"docker://quay.io/a:1", KindRegistry, "", "quay.io/a:1", "quay.io/a:1"},
		{"store:a:1", KindStore, "", "a:1", ""},
		{"oci:dir", KindLayout, "dir", "", ""},
		{"oci:dir:quay.io/a:1", KindLayout, "dir", "quay.io/a:1", ""},
		{"oci-archive:./a.tar:1", KindArchive, "./a.tar", "1", ""},
		{"docker-archive:/a.tar", KindDockerArchive, "/a.tar", "", ""},
		{"docker-daemon:a:1", KindDaemon, "", "a:1", ""},
		{"containers-storage:a", KindStorage, "", "a", ""},
		{"containers-storage:[vfs@/x]a:1", KindStorage, "vfs@/x", "a:1", ""},
	} {
		p, err := ParsePlace(c.text)
		if err != nil || p.Kind != c.kind || p.Path != c.path || p.Name != c.name {
			t.Errorf("%s: %+v, %v", c.text, p, err)
		}
		if c.again == "" {
			c.again = c.text
		}
		if p.String() != c.again {
			t.Errorf("%s is written %s", c.text, p)
		}
	}
	for _, text := range []string{"", "oci:", "oci::x", "store:", "docker-daemon:", "containers-storage:[x", "UPPER", "docker://"} {
		if p, err := ParsePlace(text); err == nil {
			t.Errorf("%q: %+v", text, p)
		}
	}
}

// What is written for a place leads to the same place.
func FuzzParsePlace(f *testing.F) {
	for _, s := range []string{"ubuntu", "oci:dir:1", "containers-storage:[vfs@/x]a", "docker://a.example/b@sha256:" + strings.Repeat("a", 64)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePlace(s)
		if err != nil {
			return
		}
		again, err := ParsePlace(p.String())
		if err != nil || again.String() != p.String() || again.Kind != p.Kind {
			t.Errorf("%q is %+v, written %q is %+v, %v", s, p, p, again, err)
		}
	})
}

func FuzzSyncList(f *testing.F) {
	f.Add("a:3.* b/c # all\n\n@x y")
	f.Add("quay.io/a:[0-9] localhost:5000/b")
	f.Fuzz(func(t *testing.T, text string) {
		lines, err := parseList(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, l := range lines {
			name, pattern := splitPattern(l.from)
			if l.from == "" || strings.ContainsAny(l.from+l.to, " \t\n#") || pattern != "" && name+":"+pattern != l.from {
				t.Errorf("%q gives %+v, %q %q", text, l, name, pattern)
			}
		}
	})
}
