package runtime_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"strata/internal/runtime"
	"strata/internal/userns"
)

// In the container: its own config.json, and the namespaces of whoever started it.
const (
	checkedConfig = "/config.json"
	outerNames    = "/outer.json"
)

var namespaceFiles = map[specs.LinuxNamespaceType]string{
	specs.PIDNamespace: "pid", specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts", specs.MountNamespace: "mnt",
	specs.NetworkNamespace: "net", specs.CgroupNamespace: "cgroup", specs.UserNamespace: "user",
}

// checkInside is a container's process that holds what it finds against its config.json: a line for each item that is not so.
func checkInside() {
	var spec specs.Spec
	var outer map[string]string
	for path, into := range map[string]any{checkedConfig: &spec, outerNames: &outer} {
		raw, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(raw, into)
		}
		if err != nil {
			fmt.Println("wrong:", err)
			return
		}
	}
	wrong := func(format string, args ...any) { fmt.Printf("wrong: "+format+"\n", args...) }
	checkNamespaces(wrong, &spec, outer)
	checkProcess(wrong, spec.Process)
	checkMounts(wrong, &spec)
	checkPaths(wrong, &spec)
	fmt.Println("checked")
}

func checkNamespaces(wrong func(string, ...any), spec *specs.Spec, outer map[string]string) {
	own := map[string]bool{}
	for _, ns := range spec.Linux.Namespaces {
		own[namespaceFiles[ns.Type]] = true
	}
	for _, name := range namespaceFiles {
		now, err := os.Readlink("/proc/self/ns/" + name)
		if err != nil || (now != outer[name]) != own[name] {
			wrong("namespace %s: %s, outside %s, of its own %v, %v", name, now, outer[name], own[name], err)
		}
	}
	for _, file := range []string{"uid_map", "gid_map"} {
		now, err := os.ReadFile("/proc/self/" + file)
		if got := strings.Join(strings.Fields(string(now)), " "); outer[file] != "" && got != outer[file] {
			wrong("%s: %q, %v", file, got, err)
		}
	}
	if host, err := os.Hostname(); host != spec.Hostname {
		wrong("host name %q, %v", host, err)
	}
}

func checkProcess(wrong func(string, ...any), p *specs.Process) {
	status := map[string]string{}
	raw, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(raw)) {
		name, value, _ := strings.Cut(line, ":")
		status[name] = strings.Join(strings.Fields(value), " ")
	}
	want := map[string]string{
		"Uid": strings.Repeat(fmt.Sprint(p.User.UID)+" ", 3) + fmt.Sprint(p.User.UID), "Gid": strings.Repeat(fmt.Sprint(p.User.GID)+" ", 3) + fmt.Sprint(p.User.GID),
		"CapInh": mask(p.Capabilities.Inheritable), "CapBnd": mask(p.Capabilities.Bounding), "CapAmb": mask(p.Capabilities.Ambient),
		"CapEff": mask(p.Capabilities.Effective), "CapPrm": mask(p.Capabilities.Permitted), "NoNewPrivs": "0", "Seccomp": "2",
	}
	if p.User.UID != 0 {
		want["CapEff"], want["CapPrm"] = mask(nil), mask(nil)
	}
	if p.NoNewPrivileges {
		want["NoNewPrivs"] = "1"
	}
	groups := slices.Sorted(slices.Values(p.User.AdditionalGids))
	want["Groups"] = strings.Trim(fmt.Sprint(groups), "[]")
	if raw, err := os.ReadFile("/proc/self/setgroups"); err == nil && string(raw) == "deny\n" {
		delete(want, "Groups") // the caller's, which cannot be given up there: user_namespaces(7)
	}
	if p.User.Umask != nil {
		want["Umask"] = fmt.Sprintf("%04o", *p.User.Umask)
	}
	for name, value := range want {
		if status[name] != value {
			wrong("%s: %q, want %q", name, status[name], value)
		}
	}
	if wd, _ := os.Getwd(); wd != p.Cwd {
		wrong("working directory %q", wd)
	}
	for _, e := range p.Env {
		if !slices.Contains(os.Environ(), e) {
			wrong("environment: no %s in %q", e, os.Environ())
		}
	}
	if !slices.Equal(os.Args, p.Args) {
		wrong("arguments %q", os.Args)
	}
	for _, l := range p.Rlimits {
		var now unix.Rlimit
		if err := unix.Getrlimit(map[string]int{"RLIMIT_NOFILE": unix.RLIMIT_NOFILE, "RLIMIT_CORE": unix.RLIMIT_CORE}[l.Type], &now); err != nil || now.Cur != l.Soft || now.Max != l.Hard {
			wrong("%s: %v, want %v", l.Type, now, l)
		}
	}
	if adj, _ := os.ReadFile("/proc/self/oom_score_adj"); p.OOMScoreAdj != nil && strings.TrimSpace(string(adj)) != strconv.Itoa(*p.OOMScoreAdj) {
		wrong("oom_score_adj %s", adj)
	}
}

// mask is a set of capabilities as the kernel prints it.
func mask(caps []string) string {
	var set uint64
	for _, c := range caps {
		set |= 1 << slices.Index(runtime.AllCaps(), c)
	}
	return fmt.Sprintf("%016x", set)
}

func checkMounts(wrong func(string, ...any), spec *specs.Spec) {
	type seen struct{ options, kind string }
	mounted := map[string]seen{}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		wrong("mounts: %v", err)
		return
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		before, after, _ := strings.Cut(s.Text(), " - ")
		fields := strings.Fields(before)
		mounted[fields[4]] = seen{fields[5], strings.Fields(after)[0]}
	}
	for _, m := range spec.Mounts {
		got, there := mounted[m.Destination]
		if !there || m.Type != "bind" && m.Type != "cgroup" && got.kind != m.Type {
			wrong("mount at %s: %+v, want a %s", m.Destination, got, m.Type)
			continue
		}
		places := []string{m.Destination}
		if m.Type == "cgroup" && got.kind == "tmpfs" { // of version 1: a memory file system with one mount for each controller
			places = slices.DeleteFunc(slices.Collect(maps.Keys(mounted)), func(at string) bool { return !strings.HasPrefix(at, m.Destination+"/") })
		}
		for _, at := range places {
			for _, o := range []string{"nosuid", "noexec", "nodev", "ro"} {
				if slices.Contains(m.Options, o) && !slices.Contains(strings.Split(mounted[at].options, ","), o) {
					wrong("mount at %s: %s, not %s", at, mounted[at].options, o)
				}
			}
		}
	}
	if ro := slices.Contains(strings.Split(mounted["/"].options, ","), "ro"); ro != spec.Root.Readonly {
		wrong("root: %s", mounted["/"].options)
	}
}

// checkPaths: what is masked shows nothing, what is read-only takes nothing.
func checkPaths(wrong func(string, ...any), spec *specs.Spec) {
	for _, path := range spec.Linux.MaskedPaths {
		st, err := os.Stat(path)
		switch {
		case err != nil: // the kernel has no such thing
		case st.IsDir():
			if entries, err := os.ReadDir(path); err == nil && len(entries) > 0 {
				wrong("%s shows %d entries", path, len(entries))
			}
		default:
			if raw, err := os.ReadFile(path); err == nil && len(raw) > 0 {
				wrong("%s shows %d bytes", path, len(raw))
			}
		}
	}
	for _, path := range spec.Linux.ReadonlyPaths {
		if _, err := os.Stat(path); err == nil && unix.Access(path, unix.W_OK) == nil {
			wrong("%s can be written", path)
		}
	}
}

// TestRealConfig has a container check each item of its config.json from inside.
func TestRealConfig(t *testing.T) {
	five := 5
	umask := uint32(0o027)
	for name, change := range map[string]func(t *testing.T, p *runtime.Params){
		"root": func(*testing.T, *runtime.Params) {},
		"user": func(_ *testing.T, p *runtime.Params) {
			if !p.SingleID { // where there is no other user
				p.Process.UID, p.Process.GID, p.Process.Groups = 1000, 100, []uint32{7, 100}
			}
			p.Process.Caps, p.Process.NoNewPrivileges = runtime.BuildCaps(), true
		},
		"bounded": func(_ *testing.T, p *runtime.Params) {
			p.ReadOnly, p.Process.Caps = true, nil
			p.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 99, Hard: 100}, {Type: "RLIMIT_CORE"}}
			p.Process.OOMScoreAdj = &five
			p.Mounts = []specs.Mount{{Destination: "/scratch", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", "noexec", "ro"}}}
		},
		"shared network": func(_ *testing.T, p *runtime.Params) { p.HostNetwork = true },
		"mapped": func(t *testing.T, p *runtime.Params) {
			ns := mappedNamespaces(t, p.RootPath)
			p.NetworkPath = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.Net.Fd())
			p.UserPath = fmt.Sprintf("/proc/self/../%d/fd/%d", os.Getpid(), ns.User.Fd())
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			p := b.params(prog, "check")
			change(t, &p)
			must(t, os.MkdirAll(filepath.Join(b.root, "scratch"), 0o755))
			spec, err := runtime.Spec(p)
			must(t, err)
			spec.Process.User.Umask = &umask
			must(t, runtime.WriteBundle(b.bundle, spec))
			outer := map[string]string{}
			for _, ns := range namespaceFiles {
				outer[ns], _ = os.Readlink("/proc/self/ns/" + ns)
			}
			if p.UserPath != "" {
				outer["uid_map"], outer["gid_map"] = "0 200000 3000", "0 300000 65536"
			}
			raw, err := json.Marshal(outer)
			must(t, err)
			must(t, os.WriteFile(b.root+outerNames, raw, 0o644))
			config, err := os.ReadFile(filepath.Join(b.bundle, "config.json"))
			must(t, err)
			must(t, os.WriteFile(b.root+checkedConfig, config, 0o644))
			for _, way := range []string{"runtime", "runner"} {
				if way == "runner" && p.UserPath != "" {
					continue // builds have none
				}
				r, w := pipe(t)
				var code int
				if way == "runtime" {
					code, err = b.Run(t.Context(), checkedID(t, ""), b.bundle, runtime.Stdio{Out: w, Err: w}, nil)
				} else {
					code, err = inRunner(t, b, w)
				}
				w.Close()
				out, _ := io.ReadAll(r)
				if err != nil || code != 0 || string(out) != "checked\n" {
					t.Errorf("%s: code %d, %v\n%s", way, code, err, out)
				}
			}
		})
	}
}

// mappedNamespaces makes namespaces for a container whose root, on this machine, can reach what it is to run in.
func mappedNamespaces(t *testing.T, root string) *userns.Namespaces {
	t.Helper()
	if os.Geteuid() != 0 || userns.Namespaced() {
		t.Skip("ids of the machine's are given by root")
	}
	ns, err := userns.New(t.Context(), userns.Map{
		UIDs: []userns.Range{{Outside: 200_000, Count: 3000}}, GIDs: []userns.Range{{Outside: 300_000, Count: 65536}},
	})
	must(t, err)
	t.Cleanup(ns.Close)
	for dir := root; len(dir) > len(os.TempDir()); dir = filepath.Dir(dir) {
		must(t, os.Chmod(dir, 0o711))
	}
	must(t, os.Chmod(filepath.Join(root, prog), 0o755))
	return ns
}

// checkedID is an id for the container of a subtest.
func checkedID(t *testing.T, suffix string) string {
	return strings.ReplaceAll(id(t), "/", "-") + suffix
}

// inRunner runs the bundle in the warm helper, where there is one.
func inRunner(t *testing.T, b box, out *os.File) (int, error) {
	t.Helper()
	n, err := b.Runner()
	if err != nil {
		t.Skipf("no warm helper: %v", err)
	}
	defer n.Close()
	return n.Run(t.Context(), checkedID(t, "-warm"), b.bundle, runtime.Stdio{Out: out, Err: out}, nil)
}
