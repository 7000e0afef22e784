package container

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"strata/internal/errdef"
	"strata/internal/runtime"
)

// Access is what of the kernel a container reaches beside docker's defaults, in the words of docker's flags.
type Access struct {
	GroupAdd    []string          `json:",omitempty"` // names of the image's groups, or numbers
	Devices     []Device          `json:",omitempty"`
	CDI         []string          `json:",omitempty"` // devices by CDI's names: "vendor.com/class=name"
	DeviceRules []string          `json:",omitempty"` // "c 1:3 rwm"
	SecurityOpt []string          `json:",omitempty"` // as they were given
	Security    Security          `json:",omitzero"`
	Ulimits     []Ulimit          `json:",omitempty"`
	Sysctls     map[string]string `json:",omitempty"`
	OOMScoreAdj int               `json:",omitempty"`
	// IPC is "" or "private", "shareable", "none", "host", or "container:<id>"; PID is "", "host" or "container:<id>".
	IPC string `json:",omitempty"`
	PID string `json:",omitempty"`
	// UTS and Cgroupns are "host", or "" for one's own.
	UTS      string `json:",omitempty"`
	Cgroupns string `json:",omitempty"` // also "private", where that is not the machine's default
	// Userns is "" or "host" for the store's own user namespace, "private", "auto", "auto:size=N" or "container:<id>". IDs are nil, or
	// those that it has in one of the latter.
	Userns       string            `json:",omitempty"`
	IDs          *IDs              `json:",omitempty"`
	CgroupParent string            `json:",omitempty"`
	Annotations  map[string]string `json:",omitempty"`
	Secrets      []Secret          `json:",omitempty"`
}

// Security is what --security-opt says.
type Security struct {
	NoNewPrivileges bool `json:",omitempty"`
	// Seccomp is "" for the built-in filter, "unconfined", or a profile in moby's form.
	Seccomp  string   `json:",omitempty"`
	AppArmor string   `json:",omitempty"`
	Mask     []string `json:",omitempty"`
	Unmask   []string `json:",omitempty"` // paths that are not masked nor read-only after all; "ALL" is every one
	// WritableCgroups lets the container make control groups of its own below its own.
	WritableCgroups bool `json:",omitempty"`
}

// Ulimit is a limit of the container's processes by setrlimit(2); -1 is no limit.
type Ulimit struct {
	Name       string // "nofile"
	Soft, Hard int64
}

// ulimitNames are the limits by docker's names.
func ulimitNames() []string {
	return []string{"core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack"}
}

// ParseUlimit reads "name=soft[:hard]".
func ParseUlimit(s string) (Ulimit, error) {
	bad := func(why string) (Ulimit, error) {
		return Ulimit{}, fmt.Errorf("ulimit %q: %s: %w", s, why, errdef.ErrInvalid)
	}
	name, text, ok := strings.Cut(s, "=")
	if !ok {
		return bad("want NAME=SOFT[:HARD]")
	}
	if !slices.Contains(ulimitNames(), name) {
		return bad("there is no such limit; there are " + strings.Join(ulimitNames(), ", "))
	}
	soft, hard, two := strings.Cut(text, ":")
	if !two {
		hard = soft
	}
	u := Ulimit{Name: name}
	for _, v := range []struct {
		text string
		into *int64
	}{{soft, &u.Soft}, {hard, &u.Hard}} {
		if v.text == "unlimited" {
			v.text = "-1"
		}
		if n, err := fmt.Sscanf(v.text+" ", "%d ", v.into); n != 1 || err != nil || fmt.Sprint(*v.into) != v.text || *v.into < -1 {
			return bad("want a number, or -1 for no limit")
		}
	}
	if u.Hard != -1 && (u.Soft == -1 || u.Soft > u.Hard) {
		return bad("the soft limit must be less than or equal to the hard limit")
	}
	return u, nil
}

// rlimit is the limit in the runtime's words.
func (u Ulimit) rlimit() specs.POSIXRlimit {
	return specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(u.Name), Soft: uint64(u.Soft), Hard: uint64(u.Hard)}
}

func rlimits(list []Ulimit) []specs.POSIXRlimit {
	var all []specs.POSIXRlimit
	for _, u := range list {
		all = append(all, u.rlimit())
	}
	return all
}

// check refuses what could not be started, with docker's rules.
func (a *Access) check(h HostConfig) error {
	if a.OOMScoreAdj < -1000 || a.OOMScoreAdj > 1000 {
		return fmt.Errorf("invalid value %d, range for oom score adj is [-1000, 1000]: %w", a.OOMScoreAdj, errdef.ErrInvalid)
	}
	for _, c := range slices.Concat(h.CapAdd, h.CapDrop) {
		if c = capName(c); c != "CAP_ALL" && !slices.Contains(runtime.AllCaps(), c) {
			return fmt.Errorf("unknown capability: %q: %w", c, errdef.ErrInvalid)
		}
	}
	for _, ns := range []struct{ flag, mode, words string }{
		{"IPC", a.IPC, " private shareable none host "}, {"PID", a.PID, " host "}, {"UTS", a.UTS, " host "}, {"cgroup namespace", a.Cgroupns, " host private "},
	} {
		if _, joins := joined(ns.mode); ns.mode == "" || strings.Contains(ns.words, " "+ns.mode+" ") || joins && (ns.flag == "IPC" || ns.flag == "PID") {
			continue
		}
		return fmt.Errorf("%s mode %q: want one of%s: %w", ns.flag, ns.mode, strings.TrimRight(ns.words, " "), errdef.ErrInvalid)
	}
	if strings.Contains(a.CgroupParent, "..") {
		return fmt.Errorf("cgroup parent %q: want a path without '..': %w", a.CgroupParent, errdef.ErrInvalid)
	}
	for _, rule := range a.DeviceRules {
		if _, err := parseDeviceRule(rule); err != nil {
			return err
		}
	}
	return a.checkSysctls(h)
}

// checkSysctls lets through what belongs to a namespace of the container's own: all else is the machine's.
func (a *Access) checkSysctls(h HostConfig) error {
	for _, name := range slices.Sorted(maps.Keys(a.Sysctls)) {
		why := "it is not of a namespace: changing it would change the machine"
		switch {
		case strings.HasPrefix(name, "net."):
			why = ""
			if h.Network == "host" {
				why = "not allowed in the host's network namespace"
			}
		case strings.HasPrefix(name, "fs.mqueue."), slices.Contains([]string{"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced"}, name):
			why = ""
			if a.IPC == "host" {
				why = "not allowed in the host's IPC namespace"
			}
		case name == "kernel.domainname", name == "kernel.hostname":
			why = "use --" + strings.TrimPrefix(name, "kernel.")
		}
		if why != "" {
			return fmt.Errorf("sysctl %q: %s: %w", name, why, errdef.ErrInvalid)
		}
	}
	return nil
}

// extend adds to a container's document what its Access asks for.
func (s *Store) extend(spec *specs.Spec, rec Record) error {
	a := rec.Host.Access
	spec.Linux.Sysctl = a.Sysctls
	if err := a.confine(spec, rec.Host.Privileged); err != nil {
		return err
	}
	if err := s.namespaces(spec, rec); err != nil {
		return err
	}
	if path := s.cgroupBelow(rec, spec.Linux.CgroupsPath); path != "" {
		spec.Linux.CgroupsPath = path
	}
	return s.devices(spec, rec)
}

// cgroupBelow is the place of the container's control group below the one that the user named, "" without such; other is where it
// would be.
func (s *Store) cgroupBelow(rec Record, other string) string {
	parent := rec.Host.Access.CgroupParent
	if parent == "" || other == "" && s.opt.Userns {
		return ""
	}
	return "/" + strings.Trim(parent, "/") + "/" + rec.ID
}
