package container

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseUlimit(t *testing.T) {
	for s, want := range map[string]Ulimit{
		"nofile=1": {"nofile", 1, 1}, "nofile=1:2": {"nofile", 1, 2}, "core=-1": {"core", -1, -1}, "stack=5:-1": {"stack", 5, -1}, "core=unlimited": {"core", -1, -1},
		"nofile": {}, "nofile=": {}, "nofile=2:1": {}, "nofile=-1:2": {}, "files=1": {}, "core=-2": {}, "core=1x": {}, "core=1:2:3": {}, "core= 1": {},
	} {
		got, err := ParseUlimit(s)
		if err != nil {
			got = Ulimit{}
		}
		if got != want {
			t.Errorf("%q: %v, want %v (%v)", s, got, want, err)
		}
	}
	if r := (Ulimit{"core", -1, -1}).rlimit(); r.Soft != ^uint64(0) || r.Type != "RLIMIT_CORE" {
		t.Errorf("no limit: %v", r)
	}
}

func TestParseDevice(t *testing.T) {
	for s, want := range map[string]Device{
		"/dev/a": {"/dev/a", "/dev/a", "rwm"}, "/dev/a:/dev/b": {"/dev/a", "/dev/b", "rwm"}, "/dev/a:r": {"/dev/a", "/dev/a", "r"},
		"/dev/a:/dev/b:mw": {"/dev/a", "/dev/b", "mw"}, "a": {}, "/dev/a:b": {}, "/dev/a:/b:x": {}, "/dev/a:/b:rr": {}, "/a:/b:r:w": {}, "": {},
	} {
		got, err := ParseDevice(s)
		if err != nil {
			got = Device{}
		}
		if got != want {
			t.Errorf("%q: %v, want %v (%v)", s, got, want, err)
		}
	}
}

func TestDeviceRule(t *testing.T) {
	for s, ok := range map[string]bool{"c 1:3 rwm": true, "b *:* r": true, "c 1:* w": true, "c 1 r": false, "x 1:1 r": false, "c 1:1 x": false, "c 1:1": false, "c -1:1 r": false} {
		if r, err := parseDeviceRule(s); (err == nil) != ok {
			t.Errorf("%q: %v %v", s, r, err)
		}
	}
	r, err := parseDeviceRule("c 1:* rw")
	if err != nil || *r.Major != 1 || r.Minor != nil || r.Access != "rw" || !r.Allow {
		t.Errorf("%+v %v", r, err)
	}
}

func TestParseSecurity(t *testing.T) {
	files := func(string) ([]byte, error) { return []byte(`{"defaultAction": "SCMP_ACT_ALLOW"}`), nil }
	s, err := ParseSecurity([]string{"no-new-privileges", "seccomp=unconfined", "mask=/a:/b", "unmask=ALL", "apparmor=x"}, files)
	want := Security{NoNewPrivileges: true, Seccomp: "unconfined", Mask: []string{"/a", "/b"}, Unmask: []string{"ALL"}, AppArmor: "x"}
	if diff := cmp.Diff(want, s); diff != "" || err != nil {
		t.Error(diff, err)
	}
	for _, bad := range []string{"no-new-privileges=maybe", "mask=a", "seccomp", "x=y", "systempaths=all", "label=user:x"} {
		if _, err := ParseSecurity([]string{bad}, files); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestParseSecret(t *testing.T) {
	file := filepath.Join(t.TempDir(), "value")
	if err := os.WriteFile(file, []byte("v"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := func(name string) (string, bool) { return "x", name == "X" }
	s, err := ParseSecret("id=a,src="+file+",target=b,mode=400,uid=3", env)
	if err != nil || s.Target != "/run/secrets/b" || s.Mode != 0o400 || s.UID != 3 || s.Source != file {
		t.Errorf("%+v %v", s, err)
	}
	if s, err = ParseSecret("id=X", env); err != nil || string(s.Value) != "x" || s.Env != "X" {
		t.Errorf("%+v %v", s, err)
	}
	if raw, err := json.Marshal(s); err != nil || strings.Contains(string(raw), "Value") {
		t.Errorf("%s %v", raw, err)
	}
	for _, bad := range []string{"", "src=" + file, "id=..", "id=a/b,env=X", "id=a,env=Y", "id=X,nonsense=1", "id=X,mode=9", "id=X,uid=-1", "id=a,src=" + file + ",env=X", "id=X,target"} {
		if _, err := ParseSecret(bad, env); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func FuzzParseFlags(f *testing.F) {
	for _, s := range []string{"nofile=1:2", "/dev/a:/b:r", "c 1:3 rwm", "id=a,env=X", "no-new-privileges", "bind,src=/a,dst=/b"} {
		f.Add(s)
	}
	none := func(string) ([]byte, error) { return nil, os.ErrNotExist }
	f.Fuzz(func(t *testing.T, s string) {
		if u, err := ParseUlimit(s); err == nil && u.Hard != -1 && u.Soft > u.Hard {
			t.Errorf("%q: %v", s, u)
		}
		if d, err := ParseDevice(s); err == nil && (d.Path[0] != '/' || d.Container[0] != '/') {
			t.Errorf("%q: %v", s, d)
		}
		_, _ = parseDeviceRule(s)
		_, _ = ParseSecurity([]string{s}, none)
		if sec, err := ParseSecret(s, func(string) (string, bool) { return "", true }); err == nil && !strings.HasPrefix(sec.Target, "/") {
			t.Errorf("%q: %v", s, sec)
		}
	})
}
