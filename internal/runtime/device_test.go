package runtime_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"strata/internal/errdef"
	"strata/internal/runtime"
)

const gadgets = `{"cdiVersion": "0.6.0", "kind": "example.org/gadget",
 "containerEdits": {"env": ["GADGETS=yes"]},
 "devices": [
  {"name": "one", "containerEdits": {"deviceNodes": [{"path": "/dev/gadget", "hostPath": "/dev/null"}], "mounts": [{"hostPath": "/etc", "containerPath": "/gadget", "options": ["ro", "bind"]}]}},
  {"name": "two", "containerEdits": {"env": ["TWO=2"]}}]}`

func TestDevices(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "gadget.json"), []byte(gadgets), 0o644); err != nil {
		t.Fatal(err)
	}
	d := runtime.OpenDevices([]string{dir})
	for name, want := range map[string]string{
		"example.org/gadget=one": "example.org/gadget=one",
		"example.org/gadget":     "example.org/gadget=one",
		"example.org/gadget=*":   "example.org/gadget=one example.org/gadget=two",
	} {
		if got, err := d.Find(name); err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for _, name := range []string{"example.org/gadget=three", "example.org/other", "", "=", "one"} {
		_, err := d.Find(name)
		if !errors.Is(err, errdef.ErrNotFound) || !strings.Contains(errdef.Hint(err), "example.org/gadget=two") {
			t.Errorf("%q: %v %q", name, err, errdef.Hint(err))
		}
	}
	spec, err := runtime.Spec(runtime.Params{Process: runtime.Process{Args: []string{"true"}}, RootPath: "/x"})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Inject(spec, []string{"example.org/gadget=one", "example.org/gadget=two"}, false); err != nil {
		t.Fatal(err)
	}
	env := strings.Join(spec.Process.Env, " ")
	if env != "GADGETS=yes TWO=2" {
		t.Error(env)
	}
	if !slices.ContainsFunc(spec.Mounts, func(m specs.Mount) bool { return m.Destination == "/gadget" && m.Source == "/etc" }) {
		t.Error("no mount:", spec.Mounts)
	}
	if len(spec.Linux.Devices) != 1 || spec.Linux.Devices[0].Path != "/dev/gadget" {
		t.Error(spec.Linux.Devices)
	}
	spec.Linux.Devices, spec.Mounts = nil, nil
	if err := d.Inject(spec, []string{"example.org/gadget=one"}, true); err != nil {
		t.Fatal(err)
	}
	if len(spec.Linux.Devices) != 0 || !slices.ContainsFunc(spec.Mounts, func(m specs.Mount) bool { return m.Destination == "/dev/gadget" && m.Source == "/dev/null" }) {
		t.Error("without rights:", spec.Linux.Devices, spec.Mounts)
	}
}

func TestIsDeviceName(t *testing.T) {
	for s, want := range map[string]bool{"v.com/c=x": true, "v/c=x:y": true, "v/c=x:y/z": false, "/dev/a": false, "v/c=": false, "=x": false, "a/b/c=d": false} {
		if runtime.IsDeviceName(s) != want {
			t.Errorf("%q: %v", s, !want)
		}
	}
}

// TestBrokenDevice holds that a description that cannot be read is named when its device is missed.
func TestBrokenDevice(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "bad.yaml"), []byte("kind: ["), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := runtime.OpenDevices([]string{dir}).Find("example.org/gadget=one")
	if !errors.Is(err, errdef.ErrNotFound) || !strings.Contains(errdef.Hint(err), "bad.yaml") {
		t.Error(err, errdef.Hint(err))
	}
}
