package doctor_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"strata/internal/doctor"
)

// system writes a tree of proc, sys and etc files.
// unifiedMount is version 2 of control groups at their usual place in the tree SYSTEM.
const unifiedMount = "30 23 0:26 / SYSTEM/sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"

// system writes a tree of files; SYSTEM in a text is the tree itself.
func system(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "SYSTEM", root)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func run(t *testing.T, o doctor.Options) map[string]doctor.Check {
	t.Helper()
	o.Run = filepath.Join(t.TempDir(), "run")
	if o.Root == "" {
		o.Root = filepath.Join(t.TempDir(), "store")
	}
	checks := map[string]doctor.Check{}
	for _, c := range doctor.Run(context.Background(), o) {
		if (c.Status == doctor.OK) != (c.Fix == "") || c.Detail == "" {
			t.Errorf("%s: verdict %s with detail %q, fix %q", c.Name, c.Status, c.Detail, c.Fix)
		}
		checks[c.Name] = c
	}
	return checks
}

func TestMachine(t *testing.T) {
	cases := []struct {
		name, check string
		files       map[string]string
		want        doctor.Status
		says        string
	}{
		{"new kernel", "kernel", map[string]string{"proc/sys/kernel/osrelease": "6.1.0-13-amd64\n"}, doctor.OK, "6.1.0"},
		{"oldest kernel", "kernel", map[string]string{"proc/sys/kernel/osrelease": "5.11.0\n"}, doctor.OK, "5.11"},
		{"old kernel", "kernel", map[string]string{"proc/sys/kernel/osrelease": "5.10.0-28\n"}, doctor.Fail, "5.11"},
		{"no kernel", "kernel", nil, doctor.Warn, "cannot be read"},
		{"seccomp", "seccomp", map[string]string{"proc/sys/kernel/seccomp/actions_avail": "kill errno trace allow"}, doctor.OK, "filters"},
		{"no seccomp", "seccomp", nil, doctor.Warn, "without that protection"},
		{"docker around", "surroundings", map[string]string{".dockerenv": ""}, doctor.Warn, "inside a container"},
		{"nothing around", "surroundings", nil, doctor.OK, ""},
		{"no cgroups", "cgroups", nil, doctor.Warn, "none"},
		{"poor cgroups", "cgroups", map[string]string{"sys/fs/cgroup/a/cgroup.controllers": "cpuset hugetlb", "sys/fs/cgroup/cgroup.controllers": "cpuset hugetlb",
			"sys/fs/cgroup/cgroup.procs": "", "sys/fs/cgroup/cgroup.subtree_control": "", "proc/self/cgroup": "0::/a\n", "proc/self/mountinfo": unifiedMount}, doctor.Warn, "without memory, cpu, pids"},
		{"good cgroups", "cgroups", map[string]string{"sys/fs/cgroup/cgroup.controllers": "cpu io memory pids", "sys/fs/cgroup/cgroup.procs": "",
			"sys/fs/cgroup/cgroup.subtree_control": "", "proc/self/cgroup": "0::/a\n", "proc/self/mountinfo": unifiedMount}, doctor.OK, "version 2: memory cpu pids"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := run(t, doctor.Options{System: system(t, c.files)})[c.check]
			if got.Status != c.want || !strings.Contains(got.Detail, c.says) {
				t.Errorf("%s: %s (%s), want %s saying %q", c.check, got.Status, got.Detail, c.want, c.says)
			}
		})
	}
}

// TestSession2 is the login of a plain user on a machine with version 2 alone, whose group is root's, and one in a scope of his own.
func TestSession2(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may make groups anywhere")
	}
	files := map[string]string{
		"proc/self/mountinfo": unifiedMount, "sys/fs/cgroup/cgroup.controllers": "cpu memory pids",
		"proc/self/cgroup": "0::/user.slice/user-1000.slice/session-3.scope\n",
	}
	got := run(t, doctor.Options{System: system(t, files)})["cgroups"]
	if got.Status != doctor.Warn || !strings.Contains(got.Detail, "not delegated") || !strings.Contains(got.Fix, "systemd-run --user --scope") {
		t.Errorf("%+v", got)
	}
	slice := "sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice/"
	files["proc/self/cgroup"] = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-1.scope\n"
	files[slice+"cgroup.procs"], files[slice+"cgroup.subtree_control"], files[slice+"cgroup.controllers"] = "", "", "memory pids"
	got = run(t, doctor.Options{System: system(t, files)})["cgroups"]
	if got.Status != doctor.Warn || !strings.Contains(got.Detail, "without cpu") || !strings.Contains(got.Fix, "Delegate=cpu") {
		t.Errorf("%+v", got)
	}
}

func TestOldCgroupsServeRootOnly(t *testing.T) {
	got := run(t, doctor.Options{System: system(t, map[string]string{"sys/fs/cgroup/memory/cgroup.procs": ""})})["cgroups"]
	want := doctor.OK
	if os.Geteuid() != 0 {
		want = doctor.Warn
	}
	if got.Status != want || !strings.Contains(got.Detail, "version 1") {
		t.Errorf("%s: %s, want %s", got.Status, got.Detail, want)
	}
}

func TestForbiddenNamespaces(t *testing.T) {
	got := run(t, doctor.Options{System: system(t, map[string]string{"proc/sys/user/max_user_namespaces": "0\n", "proc/self/ns/user": ""})})["user namespaces"]
	want := doctor.OK // root needs none
	if os.Geteuid() != 0 {
		want = doctor.Fail
	}
	if got.Status != want || !strings.Contains(got.Detail, "user.max_user_namespaces = 0") {
		t.Errorf("%s: %s, want %s", got.Status, got.Detail, want)
	}
}

func TestRuntime(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good")
	if err := os.WriteFile(good, []byte("#!/bin/sh\necho runc version 9\necho more\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := run(t, doctor.Options{Runtime: good})["runtime"]; got.Status != doctor.OK || !strings.Contains(got.Detail, "runc version 9") || strings.Contains(got.Detail, "more") {
		t.Errorf("a good one: %+v", got)
	}
	if got := run(t, doctor.Options{Runtime: filepath.Join(dir, "absent")})["runtime"]; got.Status != doctor.Fail {
		t.Errorf("an absent one: %+v", got)
	}
}

func TestSteps(t *testing.T) {
	dir := t.TempDir()
	program := func(name string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	other, ours := program("crun"), program("strata-runc")
	check := func(runtime string, want doctor.Status, detail string) {
		t.Helper()
		if got := run(t, doctor.Options{Runtime: runtime})["build steps"]; got.Status != want || !strings.Contains(got.Detail, detail) {
			t.Errorf("%+v, want %s and %q", got, want, detail)
		}
	}
	check(other, doctor.OK, "crun is started for each")
	check(ours, doctor.Warn, "no strata-step")
	helper := program("strata-step")
	check(ours, doctor.OK, helper)
	check(other, doctor.OK, "crun is started for each")
	check(filepath.Join(dir, "absent"), doctor.Warn, "no runtime")
}

func TestThisMachine(t *testing.T) {
	root := t.TempDir()
	checks := run(t, doctor.Options{Root: root})
	if os.Geteuid() == 0 && checks["overlay"].Status == doctor.Fail {
		t.Skipf("no overlay on this file system: %s", checks["overlay"].Detail)
	}
	if left, err := os.ReadDir(root); err != nil || len(left) > 0 {
		t.Errorf("left behind in the store: %v, %v", left, err)
	}
	if got := checks["kernel"].Status; got != doctor.OK {
		t.Errorf("kernel: %s", got)
	}
}

func TestFacts(t *testing.T) {
	f := doctor.Look(doctor.Options{Root: t.TempDir(), System: system(t, map[string]string{
		"proc/sys/kernel/osrelease": "6.1.0-13-amd64\n", "proc/sys/kernel/seccomp/actions_avail": "kill errno allow",
		"proc/meminfo": "MemTotal:       16308136 kB\nMemFree: 1 kB\n", "etc/os-release": "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n",
		"sys/fs/cgroup/pids/cgroup.procs": "",
	})})
	if f.Kernel != "6.1.0-13-amd64" || f.System != "Debian GNU/Linux 12 (bookworm)" || f.Memory != 16308136<<10 || f.Cgroups != 1 || !f.Seccomp {
		t.Errorf("%+v", f)
	}
	if f.CPUs < 1 || f.Architecture == "" || f.Filesystem == "" {
		t.Errorf("of this machine: %+v", f)
	}
	if none := doctor.Look(doctor.Options{Root: t.TempDir(), System: t.TempDir()}); none.Kernel != "" || none.Memory != 0 || none.Cgroups != 0 || none.Seccomp {
		t.Errorf("of nothing: %+v", none)
	}
}

func TestWorst(t *testing.T) {
	c := func(s doctor.Status) doctor.Check { return doctor.Check{Status: s} }
	for want, checks := range map[doctor.Status][]doctor.Check{
		doctor.OK:   {c(doctor.OK), c(doctor.OK)},
		doctor.Warn: {c(doctor.OK), c(doctor.Warn), c(doctor.OK)},
		doctor.Fail: {c(doctor.Warn), c(doctor.Fail), c(doctor.OK)},
	} {
		if got := doctor.Worst(checks); got != want {
			t.Errorf("worst of %v = %s", checks, got)
		}
	}
}
