package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFind(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "tool"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "text"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", "/nonexistent:"+dir)
	if got, err := find("tool"); err != nil || got != dir+"/tool" {
		t.Errorf("find(tool) = %q, %v", got, err)
	}
	if got, err := find("a/b"); err != nil || got != "a/b" {
		t.Errorf("find(a/b) = %q, %v", got, err)
	}
	for _, name := range []string{"text", "missing"} {
		if got, err := find(name); err == nil {
			t.Errorf("find(%s) = %q, want an error", name, got)
		}
	}
}
