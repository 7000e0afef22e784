//go:build linux

package main_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestCommandsDoc runs every command of docs/commands.md as it stands there, and wants what it says.
func TestCommandsDoc(t *testing.T) {
	doc, err := os.ReadFile("../../docs/commands.md")
	if err != nil {
		t.Skip("the documentation is not here: ", err)
	}
	dir := t.TempDir()
	run, err := os.MkdirTemp("", "sr-")
	if err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "PATH="+bin(t)+":"+os.Getenv("PATH"), "STRATA_ROOT="+filepath.Join(dir, "store"), "STRATA_RUN="+run, "NO_COLOR=1")
	shell := func(line string) string {
		cmd := exec.Command("/bin/sh", "-c", line)
		cmd.Env, cmd.Dir = env, dir
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		_ = cmd.Run() // what it says is what counts
		return out.String()
	}
	t.Cleanup(func() {
		shell("strata system reset --force")
		os.RemoveAll(run)
	})
	commands := 0
	for _, block := range strings.Split(string(doc), "```console\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		for _, step := range strings.Split("\n"+block, "\n$ ")[1:] {
			line, want, _ := strings.Cut(step, "\n")
			commands++
			got := shell(line)
			if strings.Contains(line, "strata build -q") {
				if !strings.Contains(got, "sha256:") { // the id is left out there
					t.Errorf("$ %s\n%s", line, got)
				}
				continue
			}
			if strings.TrimSpace(got) != strings.TrimSpace(want) {
				t.Errorf("$ %s\n%swant:\n%s", line, got, want)
			}
		}
	}
	if commands < 30 {
		t.Errorf("only %d commands were found", commands)
	}
}
