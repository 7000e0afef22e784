package runtime

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

func plain() Params {
	return Params{Process: Process{Args: []string{"x"}, Caps: BuildCaps()}, RootPath: "/r", Seccomp: true, CgroupPath: "/strata/x"}
}

func makeSpec(t *testing.T, change func(*Params)) *specs.Spec {
	t.Helper()
	p := plain()
	change(&p)
	s, err := Spec(p)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mountAt(s *specs.Spec, dest string) *specs.Mount {
	i := slices.IndexFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == dest })
	if i < 0 {
		return nil
	}
	return &s.Mounts[i]
}

func has(s *specs.Spec, ns specs.LinuxNamespaceType) bool {
	return slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == ns })
}

func TestSpecDefaults(t *testing.T) {
	s := makeSpec(t, func(*Params) {})
	for _, ns := range []specs.LinuxNamespaceType{specs.PIDNamespace, specs.MountNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.NetworkNamespace} {
		if !has(s, ns) {
			t.Errorf("no %s namespace", ns)
		}
	}
	if s.Linux.CgroupsPath != "/strata/x" || s.Process.Cwd != "/" || s.Linux.Seccomp == nil || len(s.Process.Capabilities.Inheritable) != 0 {
		t.Errorf("%+v", s.Process)
	}
	if m := mountAt(s, "/dev/shm"); m == nil || !slices.Contains(m.Options, "size=67108864") {
		t.Errorf("shm %v", m)
	}
	for _, p := range []string{"/proc/kcore", "/proc/keys", "/proc/interrupts", "/sys/firmware"} {
		if !slices.Contains(s.Linux.MaskedPaths, p) {
			t.Errorf("%s is not masked", p)
		}
	}
	if m := mountAt(s, "/sys"); m == nil || m.Type != "sysfs" || !slices.Contains(m.Options, "ro") {
		t.Errorf("sys %v", m)
	}
}

func TestSpecRootless(t *testing.T) {
	s := makeSpec(t, func(p *Params) {
		p.Rootless, p.SingleID, p.HostNetwork, p.Process.Groups = true, true, true, []uint32{0, 5}
	})
	if s.Linux.CgroupsPath != "" || s.Linux.Resources != nil || has(s, specs.NetworkNamespace) || s.Process.User.AdditionalGids != nil {
		t.Errorf("%+v %+v", s.Linux, s.Process.User)
	}
	if m := mountAt(s, "/sys"); m == nil || m.Type != "bind" || !slices.Contains(m.Options, "rro") {
		t.Errorf("sys %v", m)
	}
	if m := mountAt(s, "/dev/pts"); slices.Contains(m.Options, "gid=5") {
		t.Errorf("pts %v", m)
	}
	if m := mountAt(s, "/sys/fs/cgroup"); m != nil {
		t.Errorf("cgroup %v", m)
	}
}

func TestSpecPrivileged(t *testing.T) {
	s := makeSpec(t, func(p *Params) { p.Privileged = true })
	if s.Linux.Seccomp != nil || s.Linux.MaskedPaths != nil || s.Linux.ReadonlyPaths != nil || !s.Linux.Resources.Devices[0].Allow {
		t.Errorf("%+v", s.Linux)
	}
	if len(s.Process.Capabilities.Bounding) != len(grantable(AllCaps())) {
		t.Errorf("%v", s.Process.Capabilities.Bounding)
	}
}

func TestSpecOwnMountsReplace(t *testing.T) {
	s := makeSpec(t, func(p *Params) {
		p.Mounts = []specs.Mount{{Destination: "/dev/shm/", Type: "tmpfs"}, {Destination: "/data", Type: "bind"}}
	})
	if mountAt(s, "/dev/shm") != nil || mountAt(s, "/dev/shm/") == nil || s.Mounts[len(s.Mounts)-1].Destination != "/data" {
		t.Errorf("%v", s.Mounts)
	}
}

func TestSpecRefuses(t *testing.T) {
	for _, change := range []func(*Params){
		func(p *Params) { p.Process.Args = nil },
		func(p *Params) { p.Process.Cwd = "relative" },
	} {
		p := plain()
		change(&p)
		if _, err := Spec(p); !errors.Is(err, errdef.ErrInvalid) {
			t.Errorf("%v", err)
		}
	}
}

func TestBundle(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "b")
	s := makeSpec(t, func(p *Params) { p.Process.Terminal = true })
	if err := WriteBundle(dir, s); err != nil {
		t.Fatal(err)
	}
	if f, err := readFacts(dir); !f.Process.Terminal || err != nil {
		t.Errorf("%v %v", f.Process.Terminal, err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "config.json"))
	var back specs.Spec
	if err != nil || json.Unmarshal(raw, &back) != nil || back.Root.Path != "/r" {
		t.Errorf("%v %s", err, raw)
	}
}

func TestSeccompFollowsCaps(t *testing.T) {
	allows := func(caps []string, call string) bool {
		p, err := defaultSeccomp(caps)
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(p.Syscalls, func(s specs.LinuxSyscall) bool {
			return s.Action == specs.ActAllow && len(s.Args) == 0 && slices.Contains(s.Names, call)
		})
	}
	if allows(BuildCaps(), "mount") || !allows([]string{"CAP_SYS_ADMIN"}, "mount") || !allows(BuildCaps(), "chroot") {
		t.Error("the profile does not follow the capabilities")
	}
}

func TestLimitsAreLowered(t *testing.T) {
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own); err != nil {
		t.Fatal(err)
	}
	in := []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: own.Max + 1, Hard: own.Max + 2}, {Type: "RLIMIT_CORE", Soft: 0, Hard: 0}}
	out := lowered(in)
	if mayRaise() {
		t.Skip("this process may raise limits")
	}
	if out[0].Hard != own.Max || out[0].Soft != own.Max || out[1] != in[1] || in[0].Hard != own.Max+2 {
		t.Errorf("%v", out)
	}
}

func TestStartErrorTexts(t *testing.T) {
	for raw, want := range map[string]StartError{
		`runc run failed: unable to start container process: error during container init: exec: "x": executable file not found in $PATH`: {Exit: 127, Message: `exec: "x": executable file not found in $PATH`},
		`runc create failed: unable to start container process: exec: "/x": permission denied`:                                           {Exit: 126, Message: `exec: "/x": permission denied`},
		`exec failed: unable to start container process: exec: "/x": is a directory`:                                                     {Exit: 126, Message: `exec: "/x": is a directory`},
		"exec /x: exec format error":                                        {Exit: 126, Message: "exec /x: exec format error"},
		"executable file `x` not found in $PATH: No such file or directory": {Exit: 127, Message: "executable file `x` not found in $PATH: No such file or directory"},
		`runc run failed: unable to start container process: error during container init: error mounting "/a" to rootfs at "/b": stat /a: no such file or directory`: {Exit: 125, Message: `error mounting "/a" to rootfs at "/b": stat /a: no such file or directory`},
		`exec failed: unable to start container process: chdir to cwd ("/x") set in config.json failed: no such file or directory`:                                   {Exit: 125, Message: `chdir to cwd ("/x") set in config.json failed: no such file or directory`},
		`exec failed: unable to start container process: chdir to cwd ("/x") set in config.json failed: permission denied`:                                           {Exit: 126, Message: `chdir to cwd ("/x") set in config.json failed: permission denied`},
		"runc run failed: container with given ID already exists":                                                                                                    {Exit: 125, Message: "container with given ID already exists"},
	} {
		got := newStartError(raw)
		if got.Exit != want.Exit || got.Message != want.Message || got.Raw != raw {
			t.Errorf("%s:\n%+v", raw, got)
		}
	}
}

func TestBadIDs(t *testing.T) {
	r := &Runtime{Path: "/none", State: t.TempDir()}
	for _, id := range []string{"", "..", ".x", "a/b", "a*"} {
		if _, _, err := r.Start(t.Context(), id, bundleFor(t), Stdio{}); !errors.Is(err, errdef.ErrInvalid) {
			t.Errorf("%q: %v", id, err)
		}
	}
	_, _, err := r.Start(t.Context(), "x", bundleFor(t), Stdio{})
	var se *StartError
	if !errors.As(err, &se) || se.Exit != 125 {
		t.Errorf("runtime that is not there: %v", err)
	}
	if err := r.Delete(t.Context(), "x", true); err != nil {
		t.Error(err)
	}
}

func bundleFor(t *testing.T) string {
	dir := t.TempDir()
	if err := WriteBundle(dir, makeSpec(t, func(*Params) {})); err != nil {
		t.Fatal(err)
	}
	return dir
}

// files is an image's tree of a few files.
type files map[string]string

func (f files) ReadFile(path string, limit int64) ([]byte, error) {
	data, ok := f[path]
	if !ok {
		return nil, errdef.ErrNotFound
	}
	return []byte(data), nil
}

func TestLookupUser(t *testing.T) {
	img := files{
		"/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nann:x:1000:100:Ann:/home/ann:/bin/sh\nbig:x:4294967296:0::/:\nneg:x:-1:0::/:\nbroken\n",
		"/etc/group":  "root:x:0:\nstaff:x:50:ann\nusers:x:100:\nwheel:x:10:ann,root\n",
	}
	for _, tc := range []struct {
		spec  string
		extra []string
		want  User
		err   string
	}{
		{"", nil, User{0, 0, []uint32{0, 10}, "root", "/root"}, ""},
		{"ann", nil, User{1000, 100, []uint32{100, 50, 10}, "ann", "/home/ann"}, ""},
		{"1000", []string{"staff", "77"}, User{1000, 100, []uint32{100, 50, 10, 77}, "ann", "/home/ann"}, ""},
		{"ann:staff", nil, User{1000, 50, []uint32{50}, "ann", "/home/ann"}, ""},
		{"4711", nil, User{4711, 0, []uint32{0}, "", "/"}, ""},
		{"4711:4712", nil, User{4711, 4712, []uint32{4712}, "", "/"}, ""},
		{"nosuch", nil, User{}, "unable to find user nosuch: no matching entries in passwd file"},
		{"ann:nosuch", nil, User{}, "unable to find group nosuch: no matching entries in group file"},
		{"2147483648", nil, User{}, "uids and gids must be in range 0-2147483647"},
		{"4294967296", nil, User{}, "uids and gids must be in range 0-2147483647"},
		{"0:4294967296", nil, User{}, "uids and gids must be in range 0-2147483647"},
		{"99999999999999999999", nil, User{}, "uids and gids"},
		{"-1", nil, User{}, "uids and gids must be in range 0-2147483647"},
		{"big", nil, User{}, "uids and gids must be in range 0-2147483647"},
	} {
		got, err := LookupUser(img, tc.spec, tc.extra)
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) || !errors.Is(err, errdef.ErrInvalid) {
				t.Errorf("%q: %+v, %v", tc.spec, got, err)
			}
			continue
		}
		if err != nil || got.UID != tc.want.UID || got.GID != tc.want.GID || got.Name != tc.want.Name || got.Home != tc.want.Home || !slices.Equal(got.Groups, tc.want.Groups) {
			t.Errorf("%q: %+v, %v", tc.spec, got, err)
		}
	}
	if u, err := LookupUser(files{}, "12", nil); err != nil || u.UID != 12 || u.Home != "/" {
		t.Errorf("without passwd: %+v, %v", u, err)
	}
}

func FuzzLookupUser(f *testing.F) {
	f.Add("ann:staff", "ann:x:1:1::/:\n", "staff:x:50:ann\n")
	f.Fuzz(func(t *testing.T, spec, passwd, group string) {
		u, err := LookupUser(files{"/etc/passwd": passwd, "/etc/group": group}, spec, nil)
		if err == nil && (u.UID > 1<<31-1 || u.GID > 1<<31-1 || len(u.Groups) == 0) {
			t.Errorf("%+v", u)
		}
	})
}

func BenchmarkSpec(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		s, err := Spec(plain())
		if err != nil {
			b.Fatal(err)
		}
		if err := WriteBundle(dir, s); err != nil {
			b.Fatal(err)
		}
	}
}
