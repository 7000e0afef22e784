package cgroup_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"strata/internal/cgroup"
	"strata/internal/errdef"
)

const id = "4dcb1f9ea3c1be6c2ae9a1cb0aa8d1a04b1b4b8b8b3e3ad1f1d0c9a3d5f0b7aa"

// fake writes a tree of files; SYS in a text is the directory of the control groups.
func fake(t *testing.T, files map[string]string) cgroup.Tree {
	t.Helper()
	dir := t.TempDir()
	tree := cgroup.Tree{Proc: filepath.Join(dir, "proc"), Sys: filepath.Join(dir, "sys")}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "SYS", tree.Sys)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

const unifiedMounts = `23 1 8:1 / / rw - ext4 /dev/sda1 rw
30 23 0:26 / SYS rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate
`

// unified is a machine with version 2, a container in it, and a session of the caller's.
func unified(t *testing.T, more map[string]string) cgroup.Tree {
	group := "sys/strata/" + id + "/"
	files := map[string]string{
		"proc/self/mountinfo":    unifiedMounts,
		"proc/self/cgroup":       "0::/user.slice/app.slice/x.scope\n",
		"proc/77/cgroup":         "0::/strata/" + id + "/init.scope\n",
		"proc/78/cgroup":         "0::/user.slice/app.slice/x.scope\n",
		"sys/cgroup.controllers": "cpuset cpu io memory hugetlb pids\n", "sys/cgroup.subtree_control": "cpu memory pids\n",
		"sys/cgroup.procs":                                "1\n",
		"sys/user.slice/app.slice/cgroup.procs":           "",
		"sys/user.slice/app.slice/cgroup.type":            "domain\n",
		"sys/user.slice/app.slice/cgroup.freeze":          "0\n",
		"sys/user.slice/app.slice/memory.swap.max":        "max\n",
		"sys/user.slice/app.slice/x.scope/memory.x":       "",
		"sys/user.slice/app.slice/cgroup.controllers":     "memory pids\n",
		"sys/user.slice/app.slice/cgroup.subtree_control": "memory pids\n",
		group + "cgroup.procs":                            "",
		group + "cgroup.freeze":                           "1\n",
		group + "init.scope/cgroup.procs":                 "77\n81\n",
		group + "cpu.stat":                                "usage_usec 2500000\nuser_usec 1\nsystem_usec 2\n",
		group + "memory.current":                          "10485760\n",
		group + "memory.max":                              "max\n",
		group + "memory.swap.max":                         "max\n",
		group + "memory.stat":                             "anon 8000000\nfile 2485760\ninactive_file 485760\n",
		group + "memory.events":                           "low 0\nhigh 0\nmax 12\noom 2\noom_kill 3\n",
		group + "io.stat":                                 "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n8:16 rbytes=4 wbytes=2\n",
		group + "pids.current":                            "2\n",
	}
	for name, text := range more {
		files[name] = text
	}
	return fake(t, files)
}

func TestUnifiedUsage(t *testing.T) {
	tree := unified(t, nil)
	g, err := tree.Of(77, id)
	if err != nil {
		t.Fatal(err)
	}
	want := cgroup.Usage{CPU: 2500 * time.Millisecond, Memory: 10000000, Read: 4100, Written: 8194, Pids: 2}
	if diff := cmp.Diff(want, g.Usage()); diff != "" {
		t.Error(diff)
	}
	if g.OOMKills() != 3 || !g.Frozen() || !g.Freezable() {
		t.Error(g.OOMKills(), g.Frozen(), g.Freezable())
	}
	if pids := g.Procs(); !slices.Equal(pids, []int{77, 81}) {
		t.Error(pids)
	}
}

func TestUnifiedLimit(t *testing.T) {
	g, err := unified(t, map[string]string{"sys/strata/" + id + "/memory.max": "67108864\n"}).Of(77, id)
	if err != nil || g.Usage().Limit != 64<<20 {
		t.Error(g.Usage(), err)
	}
}

// TestUnifiedWithoutControllers is a group to which no controller was passed on.
func TestUnifiedWithoutControllers(t *testing.T) {
	tree := fake(t, map[string]string{
		"proc/self/mountinfo": unifiedMounts, "proc/5/cgroup": "0::/a/" + id + "\n",
		"sys/a/" + id + "/cpu.stat": "usage_usec 1000\n", "sys/a/" + id + "/cgroup.freeze": "0\n",
	})
	g, err := tree.Of(5, id)
	if err != nil {
		t.Fatal(err)
	}
	want := cgroup.Usage{CPU: time.Millisecond, Memory: cgroup.Unknown, Read: cgroup.Unknown, Written: cgroup.Unknown, Pids: cgroup.Unknown}
	if diff := cmp.Diff(want, g.Usage()); diff != "" {
		t.Error(diff)
	}
	if g.Frozen() || g.OOMKills() != 0 {
		t.Error("frozen, or processes killed")
	}
}

func TestNoOwnGroup(t *testing.T) {
	tree := unified(t, nil)
	for _, pid := range []int{78, 79} {
		if _, err := tree.Of(pid, id); !errors.Is(err, errdef.ErrNotFound) {
			t.Errorf("%d: %v", pid, err)
		}
	}
}

const hybridMounts = `31 23 0:28 / SYS rw - tmpfs tmpfs rw,mode=755
32 31 0:30 / SYS/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /outer SYS/memory rw - cgroup cgroup rw,memory
36 31 0:36 / SYS/pids rw - cgroup cgroup rw,pids
37 31 0:34 / SYS/freezer rw - cgroup cgroup rw,freezer
38 31 0:35 / SYS/blkio rw - cgroup cgroup rw,blkio
41 31 0:38 / SYS/unified rw - cgroup2 cgroup2 rw
`

func hybrid(t *testing.T) cgroup.Tree {
	return fake(t, map[string]string{
		"proc/self/mountinfo":                                            hybridMounts,
		"proc/9/cgroup":                                                  "5:cpu,cpuacct:/" + id + "\n4:memory:/outer/job/" + id + "\n3:pids:/" + id + "\n2:freezer:/" + id + "\n1:blkio:/" + id + "\n0::/" + id + "\n",
		"sys/cpu,cpuacct/" + id + "/cpuacct.usage":                       "1500000000\n",
		"sys/memory/memory.memsw.limit_in_bytes":                         "9223372036854771712\n",
		"sys/memory/job/" + id + "/memory.usage_in_bytes":                "20000000\n",
		"sys/memory/job/" + id + "/memory.limit_in_bytes":                "9223372036854771712\n",
		"sys/memory/job/" + id + "/memory.stat":                          "cache 1\ntotal_inactive_file 5000000\n",
		"sys/memory/job/" + id + "/memory.oom_control":                   "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
		"sys/pids/" + id + "/pids.current":                               "4\n",
		"sys/pids/" + id + "/cgroup.procs":                               "9\n10\n",
		"sys/freezer/" + id + "/freezer.state":                           "THAWED\n",
		"sys/blkio/" + id + "/blkio.throttle.io_service_bytes_recursive": "8:0 Read 100\n8:0 Write 30\n8:0 Total 130\n8:16 Read 1\nTotal 131\n",
	})
}

func TestVersion1(t *testing.T) {
	tree := hybrid(t)
	g, err := tree.Of(9, id)
	if err != nil {
		t.Fatal(err)
	}
	want := cgroup.Usage{CPU: 1500 * time.Millisecond, Memory: 15000000, Read: 101, Written: 30, Pids: 4}
	if diff := cmp.Diff(want, g.Usage()); diff != "" {
		t.Error(diff)
	}
	if g.OOMKills() != 1 || g.Frozen() || !g.Freezable() || !slices.Equal(g.Procs(), []int{9, 10}) {
		t.Error(g.OOMKills(), g.Frozen(), g.Freezable(), g.Procs())
	}
}

// TestEnded is a first process that has ended and was not waited for: with version 1 it is shown in no group any more.
func TestEnded(t *testing.T) {
	tree := fake(t, map[string]string{
		"proc/self/mountinfo": hybridMounts,
		"proc/self/cgroup":    "5:cpu,cpuacct:/other\n4:memory:/outer/job\n3:pids:/\n",
		"proc/9/cgroup":       "5:cpu,cpuacct:/\n4:memory:/\n3:pids:/\n0::/\n",
		"sys/memory/job/" + id + "/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
		"sys/pids/" + id + "/pids.current":             "0\n",
	})
	g, err := tree.Of(9, id)
	if err != nil || g.OOMKills() != 1 || g.Usage().Pids != 0 {
		t.Error(g.OOMKills(), g.Usage(), err)
	}
	if _, err := tree.Of(9, "another"); !errors.Is(err, errdef.ErrNotFound) {
		t.Error(err)
	}
}

// TestCheck asks what can be enforced where; the reasons name what is missing.
func TestCheck(t *testing.T) {
	noDelegation := map[string]string{"proc/self/cgroup": "0::/user.slice/session-3.scope\n"}
	busy := map[string]string{"sys/cgroup.type": "domain\n", "sys/cgroup.subtree_control": "", "sys/cgroup.procs": "1\n"}
	for name, c := range map[string]struct {
		tree     cgroup.Tree
		limit    cgroup.Limit
		rootless bool
		reason   string
	}{
		"v2":                         {unified(t, nil), cgroup.Memory, false, ""},
		"v2 swap":                    {unified(t, nil), cgroup.Swap, false, ""},
		"v2 no weight":               {unified(t, map[string]string{"sys/a/io.stat": ""}), cgroup.BlockWeight, false, "no io.weight"},
		"v2 weight not told":         {unified(t, nil), cgroup.BlockWeight, false, ""},
		"v2 freeze":                  {unified(t, nil), cgroup.Freeze, false, ""},
		"v2 delegated":               {unified(t, nil), cgroup.Memory, true, ""},
		"v2 delegated without cpu":   {unified(t, nil), cgroup.CPU, true, `controller "cpu" is not there`},
		"v2 not delegated":           {unified(t, noDelegation), cgroup.Memory, true, "not delegated"},
		"v2 not delegated, freezing": {unified(t, noDelegation), cgroup.Freeze, true, "not delegated"},
		"v2 in a busy group":         {unified(t, busy), cgroup.Memory, false, "processes are in the control group"},
		"v1":                         {hybrid(t), cgroup.Memory, false, ""},
		"v1 swap":                    {hybrid(t), cgroup.Swap, false, ""},
		"v1 no cpuset":               {hybrid(t), cgroup.CPUSet, false, `controller "cpuset" is not mounted`},
		"v1 no weight":               {hybrid(t), cgroup.BlockWeight, false, "no blkio.weight"},
		"v1 rootless":                {hybrid(t), cgroup.Pids, true, "version 1"},
	} {
		err := c.tree.Check(c.limit, c.rootless)
		switch {
		case c.reason == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.reason != "" && (err == nil || !strings.Contains(err.Error(), c.reason) || !errors.Is(err, errdef.ErrUnsupported)):
			t.Errorf("%s: %v, want %q", name, err, c.reason)
		}
	}
}

// TestDelegated is what systemd gives a plain user: to his service manager (user@.service) the controllers of its Delegate=, to the
// slices below what units there ask for. A login's own group is root's.
func TestDelegated(t *testing.T) {
	const user = "sys/user.slice/user-1000.slice/user@1000.service/"
	session := func(delegated, passedOn string, more map[string]string) cgroup.Tree {
		files := map[string]string{
			"proc/self/mountinfo":       unifiedMounts,
			"proc/self/cgroup":          "0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-1.scope\n",
			user + "cgroup.controllers": delegated, user + "cgroup.subtree_control": passedOn, user + "cgroup.procs": "", user + "cgroup.type": "domain\n",
			user + "app.slice/cgroup.procs": "", user + "app.slice/cgroup.type": "domain\n",
			user + "app.slice/cgroup.controllers": passedOn, user + "app.slice/cgroup.subtree_control": "memory pids\n",
		}
		for name, text := range more {
			files[name] = text
		}
		return fake(t, files)
	}
	const most, all = "memory pids\n", "cpu memory pids\n"
	for name, c := range map[string]struct {
		tree   cgroup.Tree
		can    []cgroup.Limit
		cannot []cgroup.Limit
	}{
		"old systemd":                        {session(most, most, nil), []cgroup.Limit{cgroup.Memory, cgroup.Pids, cgroup.Freeze}, []cgroup.Limit{cgroup.CPU, cgroup.CPUSet, cgroup.BlockWeight}},
		"delegated, and asked for by a unit": {session(all, all, nil), []cgroup.Limit{cgroup.Memory, cgroup.CPU, cgroup.Pids}, []cgroup.Limit{cgroup.CPUSet}},
		"delegated, and asked for by none":   {session(all, most, nil), []cgroup.Limit{cgroup.CPU}, []cgroup.Limit{cgroup.CPUSet}},
		"processes in the way":               {session(all, most, map[string]string{user + "cgroup.procs": "1\n"}), []cgroup.Limit{cgroup.Memory}, []cgroup.Limit{cgroup.CPU}},
		"a login by ssh": {session(all, all, map[string]string{"proc/self/cgroup": "0::/user.slice/user-1000.slice/session-3.scope\n"}),
			nil, []cgroup.Limit{cgroup.Memory, cgroup.CPU, cgroup.Pids, cgroup.Freeze}},
	} {
		for _, l := range c.can {
			if err := c.tree.Check(l, true); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, l := range c.cannot {
			if err := c.tree.Check(l, true); !errors.Is(err, errdef.ErrUnsupported) {
				t.Errorf("%s: %s: %v", name, l, err)
			}
		}
	}
}

// TestHasten holds that it moves this process to where it is, and only where there are groups of version 1 and processors to spare.
func TestHasten(t *testing.T) {
	tree := fake(t, map[string]string{
		"proc/self/mountinfo": "30 23 0:26 / SYS/cpu rw - cgroup cgroup rw,cpu\n31 23 0:27 / SYS/unified rw - cgroup2 cgroup2 rw\n",
		"proc/self/cgroup":    "2:cpu:/own\n0::/other\n", "sys/cpu/own/cgroup.procs": "1\n",
		"proc/loadavg": "90.20 90.18 90.12 1/100000 11206\n",
	})
	procs := filepath.Join(tree.Sys, "cpu/own/cgroup.procs")
	stop := tree.Hasten()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if raw, _ := os.ReadFile(procs); string(raw) == "0\n" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing was written")
		}
	}
	stop()
	stop() // twice is no error
	v2 := unified(t, nil)
	v2.Hasten()()
	if raw, err := os.ReadFile(filepath.Join(v2.Sys, "cgroup.procs")); err != nil || string(raw) != "1\n" {
		t.Errorf("version 2: %q, %v", raw, err)
	}
	busy := fake(t, map[string]string{
		"proc/self/mountinfo": "30 23 0:26 / SYS/cpu rw - cgroup cgroup rw,cpu\n", "proc/self/cgroup": "2:cpu:/own\n",
		"sys/cpu/own/cgroup.procs": "1\n", "proc/loadavg": "0.20 0.18 0.12 99999/100000 11206\n",
	})
	busy.Hasten()()
	// It has no way to say that it will write nothing.
	time.Sleep(20 * time.Millisecond)
	if raw, err := os.ReadFile(filepath.Join(busy.Sys, "cpu/own/cgroup.procs")); err != nil || string(raw) != "1\n" {
		t.Errorf("a busy machine: %q, %v", raw, err)
	}
}

// TestMachine reads this machine's own tree, whatever it is.
func TestMachine(t *testing.T) {
	tree := cgroup.Machine()
	if _, err := tree.Of(os.Getpid(), id); !errors.Is(err, errdef.ErrNotFound) {
		t.Error(err)
	}
	if err := tree.Check(cgroup.Memory, true); err != nil && errdef.Hint(err) == "" {
		t.Error("no hint:", err)
	}
}

// FuzzFiles lets hostile texts stand in every file that is parsed.
func FuzzFiles(f *testing.F) {
	f.Add(unifiedMounts, "0::/a/"+id+"\n", "usage_usec 1\n", "8:0 rbytes=1\n")
	f.Add(hybridMounts, "4:memory:/"+id+"\n", "max", "8:0 Read 1\n")
	f.Add(`1 2 3:4 / SYS/a\040b rw - cgroup2 a b`, "0::../"+id, "-1", "")
	f.Fuzz(func(t *testing.T, mounts, place, stat, io string) {
		dir := "sys/" + id + "/"
		tree := fake(t, map[string]string{
			"proc/self/mountinfo": mounts, "proc/self/cgroup": place, "proc/3/cgroup": place,
			dir + "cpu.stat": stat, dir + "memory.current": stat, dir + "memory.stat": stat, dir + "io.stat": io,
		})
		for _, l := range []cgroup.Limit{cgroup.Memory, cgroup.Freeze} {
			_ = tree.Check(l, true)
			_ = tree.Check(l, false)
		}
		if g, err := tree.Of(3, id); err == nil {
			g.Usage()
			g.Procs()
			g.Frozen()
			g.OOMKills()
		}
	})
}
