package runtime

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// DefaultPath is docker's $PATH for a container whose image sets none.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Process is what runs in a container.
type Process struct {
	Args, Env []string
	// Cwd must be absolute; empty is "/". The runtime makes it when it is missing.
	Cwd      string
	UID, GID uint32
	// Groups are the supplementary groups, GID included (as [LookupUser] gives them).
	Groups []uint32
	// Terminal gives the process a pseudo terminal of Width columns and Height rows (0: unset).
	Terminal      bool
	Width, Height uint
	// Caps are capability names ("CAP_CHOWN").
	Caps            []string
	NoNewPrivileges bool
	// Rlimits are lowered to what this process may set.
	Rlimits     []specs.POSIXRlimit
	OOMScoreAdj *int
}

// Spec gives the process in the runtime's words.
func (p Process) Spec() *specs.Process {
	caps := grantable(p.Caps)
	s := &specs.Process{
		Terminal: p.Terminal,
		User:     specs.User{UID: p.UID, GID: p.GID, AdditionalGids: p.Groups},
		Args:     p.Args,
		Env:      p.Env,
		Cwd:      p.Cwd,
		// Nothing inheritable: a program's file capabilities must not bring back what its user lost.
		Capabilities:    &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
		NoNewPrivileges: p.NoNewPrivileges,
		Rlimits:         lowered(p.Rlimits),
		OOMScoreAdj:     p.OOMScoreAdj,
	}
	if s.Cwd == "" {
		s.Cwd = "/"
	}
	if p.Terminal && p.Width > 0 && p.Height > 0 {
		s.ConsoleSize = &specs.Box{Width: p.Width, Height: p.Height}
	}
	return s
}

// Params are what a container differs in from docker's defaults.
type Params struct {
	Process Process
	// RootPath is where the root file system is mounted when the container starts. ReadOnly makes it read-only inside.
	RootPath string
	ReadOnly bool
	Hostname string
	// Domainname is the NIS domain name, which is taken for the host's domain.
	Domainname string
	// Mounts come after the default ones; one with the same destination replaces a default one.
	Mounts []specs.Mount
	// HostNetwork leaves the process in the network namespace of the runtime; else it gets a new one with only loopback.
	HostNetwork bool
	// NetworkPath is the file of a network namespace that the process gets instead, UserPath that of a user namespace.
	NetworkPath, UserPath string
	Annotations           map[string]string
	// Seccomp applies moby's default profile.
	Seccomp bool
	// Privileged gives all capabilities and devices, writable /sys and cgroups; no seccomp, nothing masked.
	Privileged bool
	// CgroupPath is the container's place in the cgroup tree ("/strata/<id>"); not used when Rootless.
	CgroupPath string
	// Resources are limits of the container's processes; nil sets none. Where the machine cannot enforce one, some runtimes
	// say nothing: ask before.
	Resources *specs.LinuxResources
	// Rootless: this process is root of a user namespace only. SingleID: and that has a single id.
	Rootless, SingleID bool
	// ShmSize is the size of /dev/shm in bytes; 0 is docker's 64 MiB.
	ShmSize int64
}

// Spec gives the container in the runtime's words. The seccomp profile in it is shared: change nothing below it.
func Spec(p Params) (*specs.Spec, error) {
	switch {
	case len(p.Process.Args) == 0:
		return nil, fmt.Errorf("container without a command: %w", errdef.ErrInvalid)
	case p.Process.Cwd != "" && !strings.HasPrefix(p.Process.Cwd, "/"):
		return nil, fmt.Errorf("working directory %q is not absolute: %w", p.Process.Cwd, errdef.ErrInvalid)
	}
	if p.Privileged {
		p.Process.Caps = AllCaps()
	}
	s := &specs.Spec{
		Version:     version(p),
		Process:     p.Process.Spec(),
		Root:        &specs.Root{Path: p.RootPath, Readonly: p.ReadOnly},
		Hostname:    p.Hostname,
		Domainname:  p.Domainname,
		Mounts:      mounts(p),
		Annotations: p.Annotations,
		Linux:       &specs.Linux{Namespaces: namespaces(p)},
	}
	if p.Rootless && p.SingleID {
		s.Process.User.AdditionalGids = nil // setgroups(2) is forbidden in a namespace of one id
	}
	if p.Resources != nil {
		limits := *p.Resources
		s.Linux.Resources = &limits
	}
	if !p.Rootless {
		s.Linux.CgroupsPath = p.CgroupPath
		if s.Linux.Resources == nil {
			s.Linux.Resources = &specs.LinuxResources{}
		}
		s.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: p.Privileged, Access: "rwm"}}
	}
	if p.Privileged {
		return s, nil
	}
	s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = MaskedPaths(), ReadonlyPaths()
	if !p.Seccomp {
		return s, nil
	}
	var err error
	s.Linux.Seccomp, err = defaultSeccomp(s.Process.Capabilities.Bounding)
	return s, err
}

// version is the oldest version of the specification that has what the container's document says: crun of a few years ago takes no
// newer one than it knows.
func version(p Params) string {
	if p.Domainname != "" {
		return specs.Version
	}
	return "1.0.2"
}

func namespaces(p Params) []specs.LinuxNamespace {
	ns := []specs.LinuxNamespace{
		{Type: specs.PIDNamespace},
		{Type: specs.IPCNamespace},
		{Type: specs.UTSNamespace},
		{Type: specs.MountNamespace},
	}
	if !p.HostNetwork {
		ns = append(ns, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: p.NetworkPath})
	}
	if p.UserPath != "" {
		ns = append(ns, specs.LinuxNamespace{Type: specs.UserNamespace, Path: p.UserPath})
	}
	if UnifiedCgroups() {
		ns = append(ns, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	return ns
}

// UnifiedCgroups reports whether this machine has pure cgroup v2; with v1, docker's default is the host's namespace.
var UnifiedCgroups = sync.OnceValue(func() bool {
	var st unix.Statfs_t
	return unix.Statfs("/sys/fs/cgroup", &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
})

// ReadonlyPaths are those that a container without privileges cannot write to: moby's list.
func ReadonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

// MaskedPaths are those that a container without privileges sees empty: moby's list. The paths of thermal events, one a processor, tell
// of other containers' work.
var MaskedPaths = sync.OnceValue(func() []string {
	paths := []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
		"/sys/devices/virtual/powercap",
	}
	thermal, err := filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle")
	if err != nil {
		return paths // only a malformed pattern gives an error
	}
	return append(paths, thermal...)
})

// linuxSpec is a spec of which encoding/json does not look at the types of other systems' parts, for which each run would pay: what stands here hides
// what is embedded, and is empty.
type linuxSpec struct {
	*specs.Spec
	Solaris *struct{} `json:"solaris,omitempty"`
	Windows *struct{} `json:"windows,omitempty"`
	VM      *struct{} `json:"vm,omitempty"`
	ZOS     *struct{} `json:"zos,omitempty"`
	FreeBSD *struct{} `json:"freebsd,omitempty"`
}

// WriteBundle makes dir a bundle of spec, a container's on Linux.
func WriteBundle(dir string, spec *specs.Spec) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(linuxSpec{Spec: spec}); err != nil {
		return fmt.Errorf("bundle %s: %w", dir, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), b.Bytes(), 0o600); err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	return nil
}
