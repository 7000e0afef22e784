package cgroup

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestMade(t *testing.T) {
	tree := fakeMachine(t, "25 1 0:20 / SYS/memory rw - cgroup none rw,memory\n"+
		"26 1 0:21 / SYS/cpu,cpuacct rw - cgroup none rw,cpu,cpuacct\n27 1 0:22 / SYS/unified rw - cgroup2 none rw\n",
		"3:cpu,cpuacct:/user\n2:memory:/\n0::/session\n")
	got, err := tree.Made("abc", "")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{tree.Sys + "/memory/abc", tree.Sys + "/cpu,cpuacct/user/abc", tree.Sys + "/unified/session/abc"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	tree = fakeMachine(t, "25 1 0:20 / SYS rw - cgroup2 none rw\n", "0::/session\n")
	if got, err = tree.Made("abc", "/strata/abc"); err != nil || !slices.Equal(got, []string{tree.Sys + "/strata/abc"}) {
		t.Errorf("%q, %v", got, err)
	}
}

// fakeMachine is a tree with these mounts, in which SYS stands for where control groups are, and these groups of our own.
func fakeMachine(t *testing.T, mounts, own string) Tree {
	t.Helper()
	tree := Tree{Proc: t.TempDir(), Sys: t.TempDir()}
	if err := os.Mkdir(filepath.Join(tree.Proc, "self"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"mountinfo": strings.ReplaceAll(mounts, "SYS", tree.Sys), "cgroup": own} {
		if err := os.WriteFile(filepath.Join(tree.Proc, "self", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

// TestClear has a process in a group below another: both groups go, the process too, and no other.
func TestClear(t *testing.T) {
	all, err := Machine().hierarchies()
	if err != nil || os.Getuid() != 0 {
		t.Skip("needs root and control groups:", err)
	}
	own, err := places("/proc/self")
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range all {
		for _, p := range own {
			if !p.of(h) || slices.Contains(h.controllers, "cpuset") { // where a group takes no process before it is set up
				continue
			}
			dir := filepath.Join(h.at(p.path), "strata-clear-test")
			if err := os.MkdirAll(filepath.Join(dir, "below"), 0o755); err != nil {
				continue // read-only here
			}
			inside, outside := exec.Command("sleep", "1000"), exec.Command("sleep", "1000")
			for _, c := range []*exec.Cmd{inside, outside} {
				if err := c.Start(); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(dir, "below", "cgroup.procs"), []byte(strconv.Itoa(inside.Process.Pid)), 0); err != nil {
				t.Errorf("%s: %v", dir, err)
			}
			if err := Clear(t.Context(), []string{dir, dir + "-absent"}); err != nil {
				t.Error(err)
			}
			if err := inside.Wait(); err == nil || err.Error() != "signal: killed" {
				t.Errorf("the process inside: %v", err)
			}
			if _, err := os.Stat(dir); !os.IsNotExist(err) {
				t.Errorf("%s: %v", dir, err)
			}
			if err := outside.Process.Kill(); err != nil {
				t.Errorf("the process outside: %v", err)
			}
			_ = outside.Wait()
		}
	}
}
