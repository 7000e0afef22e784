//go:build cgo

package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

func TestLoad(t *testing.T) {
	const good = `{"process":{"args":["true"],"cwd":"/"},"root":{"path":"/r"}}`
	for _, c := range []struct {
		name, config string
		want         error
	}{
		{"good", good, nil},
		{"no JSON", "{", errdef.ErrInvalid},
		{"no process", `{"root":{"path":"/r"}}`, errdef.ErrInvalid},
		{"no command", strings.Replace(good, `"true"`, "", 1), errdef.ErrInvalid},
		{"relative directory", strings.Replace(good, `"cwd":"/"`, `"cwd":"x"`, 1), errdef.ErrInvalid},
		{"relative root", strings.Replace(good, `"/r"`, `"r"`, 1), errdef.ErrInvalid},
		{"no root", strings.Replace(good, `"root"`, `"other"`, 1), errdef.ErrInvalid},
		{"terminal", strings.Replace(good, `"args"`, `"terminal":true,"args"`, 1), errdef.ErrInvalid},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(c.config), 0o600); err != nil {
			t.Fatal(err)
		}
		spec, err := load(dir)
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) || err == nil && spec.Process.Args[0] != "true" {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if _, err := load(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no document: %v", err)
	}
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(maxConfig + 1); err != nil {
		t.Fatal(err)
	}
	if _, err := load(dir); !errors.Is(err, errdef.ErrLimit) {
		t.Errorf("large: %v", err)
	}
}

func TestProcess(t *testing.T) {
	p := &specs.Process{
		Args: []string{"a", "b"}, Env: []string{"X=1"}, Cwd: "/d", NoNewPrivileges: true,
		User:         specs.User{UID: 7, GID: 8, AdditionalGids: []uint32{9, 10}},
		Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_KILL"}, Effective: []string{"CAP_CHOWN"}},
		Rlimits:      []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: 20, Soft: 10}},
	}
	lp, err := process(p)
	if err != nil {
		t.Fatal(err)
	}
	if !lp.Init || !slices.Equal(lp.Args, p.Args) || !slices.Equal(lp.Env, p.Env) || lp.Cwd != "/d" || lp.UID != 7 || lp.GID != 8 ||
		!slices.Equal(lp.AdditionalGroups, []int{9, 10}) || !*lp.NoNewPrivileges {
		t.Errorf("%+v", lp)
	}
	if c := lp.Capabilities; !slices.Equal(c.Bounding, []string{"CAP_KILL"}) || !slices.Equal(c.Effective, []string{"CAP_CHOWN"}) || c.Permitted != nil {
		t.Errorf("%+v", c)
	}
	if len(lp.Rlimits) != 1 || lp.Rlimits[0].Type != unix.RLIMIT_NOFILE || lp.Rlimits[0].Hard != 20 || lp.Rlimits[0].Soft != 10 {
		t.Errorf("%+v", lp.Rlimits)
	}
	p.Rlimits[0].Type = "RLIMIT_NOSUCH"
	if _, err := process(p); !errors.Is(err, errdef.ErrInvalid) {
		t.Errorf("unknown limit: %v", err)
	}
}

func TestExitCode(t *testing.T) {
	for ws, want := range map[syscall.WaitStatus]int{0: 0, 3 << 8: 3, 255 << 8: 255, 9: 137, 15: 143} {
		if got := exitCode(ws); got != want {
			t.Errorf("%#x: %d, want %d", int(ws), got, want)
		}
	}
}
