package base_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"strata/internal/base"
	"strata/internal/errdef"
)

func TestNames(t *testing.T) {
	for _, name := range base.Names() {
		if !base.Is(name) || !base.Is(name+":latest") || base.Is(name+":1") {
			t.Errorf("Is does not know %q", name)
		}
		img, err := base.Config(name)
		if err != nil || len(img.History) != len(base.Layers(name)) {
			t.Fatalf("%s: %v, %d layers of history", name, err, len(img.History))
		}
		a, _ := img.Marshal()
		again, _ := base.Config(name)
		if b, _ := again.Marshal(); !bytes.Equal(a, b) {
			t.Errorf("%s: the configuration differs from one call to the next", name)
		}
	}
	if base.Is("docker.io/library/toolbox") {
		t.Error("a foreign name counts as built in")
	}
	if _, err := base.Config("nothing"); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("Config of an unknown base: %v", err)
	}
}

// script installs a stand-in for the helper.
func script(t *testing.T, dir, text string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "strata-toolbox"), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	_, err := base.FindBeside(filepath.Join(dir, "bin"))
	if !errors.Is(err, errdef.ErrUnavailable) || errdef.Hint(err) == "" {
		t.Errorf("without a helper: %v (hint %q)", err, errdef.Hint(err))
	}
	script(t, filepath.Join(dir, "libexec/strata"), "")
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if s, err := base.FindBeside(filepath.Join(dir, "bin")); err != nil || !strings.Contains(s.Program, "libexec") {
		t.Errorf("FindBeside = %v, %v", s, err)
	}
}

func TestTar(t *testing.T) {
	dir := t.TempDir()
	script(t, dir, `[ "$2" = bad ] && { echo "no base bad" >&2; exit 1; }; echo "$1 $2 ${HOME-unset}"`)
	s, err := base.FindBeside(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := s.Tar(t.Context(), "static", &out); err != nil || out.String() != "--base static unset\n" {
		t.Errorf("Tar wrote %q, %v", out.String(), err)
	}
	if err := s.Tar(t.Context(), "bad", &out); err == nil || !strings.Contains(err.Error(), "no base bad") {
		t.Errorf("of a failing helper: %v", err)
	}
}

func TestKeyFollowsTheProgram(t *testing.T) {
	dir := t.TempDir()
	script(t, dir, "echo 1")
	s, err := base.FindBeside(dir)
	if err != nil {
		t.Fatal(err)
	}
	first, err := s.Key()
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := s.Key(); again != first {
		t.Errorf("key %q, then %q, of the same program", first, again)
	}
	script(t, dir, "echo 12")
	if changed, _ := s.Key(); changed == first {
		t.Error("the key of a changed program is the old one")
	}
}
