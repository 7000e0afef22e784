package cgroup

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// Limit is something that a container's processes can be held to.
type Limit string

// The limits, as messages name them.
const (
	Memory      Limit = "memory limit"
	Swap        Limit = "swap limit"
	CPU         Limit = "CPU limit"
	CPUSet      Limit = "choice of CPUs"
	Pids        Limit = "limit of processes"
	BlockWeight Limit = "block I/O weight"
	// DeviceWeight and DeviceRate are of one device.
	DeviceWeight Limit = "block I/O weight of a device"
	DeviceRate   Limit = "rate of a device"
	Swappiness   Limit = "memory swappiness"
	OOMDisable   Limit = "switch of the OOM killer"
	RealTime     Limit = "real-time CPU limit"
	Freeze       Limit = "pause"
)

// knob is what a limit takes: the controller in both versions, and a file of it that not every kernel has.
type knob struct {
	v1, v2 string
	files1 []string
	files2 []string
	only1  bool // version 2 has nothing like it
}

func (l Limit) knob() knob {
	switch l {
	case Memory:
		return knob{v1: "memory", v2: "memory"}
	case Swap:
		return knob{v1: "memory", v2: "memory", files1: []string{"memory.memsw.limit_in_bytes"}, files2: []string{"memory.swap.max"}}
	case CPU:
		return knob{v1: "cpu", v2: "cpu"}
	case CPUSet:
		return knob{v1: "cpuset", v2: "cpuset"}
	case Pids:
		return knob{v1: "pids", v2: "pids"}
	case BlockWeight:
		return knob{v1: "blkio", v2: "io", files1: []string{"blkio.weight", "blkio.bfq.weight"}, files2: []string{"io.weight", "io.bfq.weight"}}
	case DeviceWeight:
		return knob{v1: "blkio", v2: "io", files1: []string{"blkio.weight_device", "blkio.bfq.weight_device"}, files2: []string{"io.bfq.weight"}}
	case DeviceRate:
		return knob{v1: "blkio", v2: "io", files1: []string{"blkio.throttle.read_bps_device"}, files2: []string{"io.max"}}
	case Swappiness:
		return knob{v1: "memory", files1: []string{"memory.swappiness"}, only1: true}
	case OOMDisable:
		return knob{v1: "memory", files1: []string{"memory.oom_control"}, only1: true}
	case RealTime:
		return knob{v1: "cpu", files1: []string{"cpu.rt_runtime_us"}, only1: true}
	case Freeze:
		return knob{v1: "freezer"} // version 2 freezes without a controller
	}
	return knob{}
}

// Check says why a new container's processes could not be held to l: nil if they can. rootless says that we are root of a
// user namespace only.
func (t Tree) Check(l Limit, rootless bool) error {
	all, err := t.hierarchies()
	if err != nil {
		return err
	}
	k := l.knob()
	if v2 := t.unified(all); v2 != nil {
		if k.only1 {
			return l.refuse("control groups of version 2 have none", "")
		}
		return l.refuse(t.check2(*v2, k, rootless))
	}
	return l.refuse(t.check1(all, k, rootless))
}

// refuse makes an error of a reason, if there is one.
func (l Limit) refuse(reason, hint string) error {
	if reason == "" {
		return nil
	}
	return errdef.WithHint(fmt.Errorf("%s: %s: %w", l, reason, errdef.ErrUnsupported), hint)
}

const asRoot = "run it as root: sudo strata …"

func (t Tree) check1(all []hierarchy, k knob, rootless bool) (reason, hint string) {
	if rootless {
		return "this machine has control groups of version 1, which only root may make", asRoot
	}
	for _, h := range all {
		if !has(h.controllers, k.v1) {
			continue
		}
		if unix.Access(h.dir, unix.W_OK) != nil {
			return fmt.Sprintf("control groups cannot be made in %s", h.dir), ""
		}
		if k.files1 != nil && absent(h.dir, k.files1) {
			return fmt.Sprintf("this kernel's control groups have no %s", k.files1[0]), ""
		}
		return "", ""
	}
	return fmt.Sprintf("the control group controller %q is not mounted", k.v1), ""
}

func (t Tree) check2(v2 hierarchy, k knob, rootless bool) (reason, hint string) {
	parent := v2.dir
	if rootless {
		own, err := t.own()
		if err != nil {
			return err.Error(), asRoot
		}
		// Runtimes make a plain user's groups beside that of the caller: where processes are, no limits can be set below.
		parent = v2.at(path.Dir(own))
	}
	if !writable(parent, rootless) {
		if rootless {
			return "your session's control group was not delegated to you", "systemd-run --user --scope strata …   (or " + asRoot + ")"
		}
		return fmt.Sprintf("control groups cannot be made in %s", parent), ""
	}
	if k.v2 == "" {
		return "", ""
	}
	from := v2.provider(parent, k.v2, rootless)
	if from == "" {
		reason = fmt.Sprintf("the control group controller %q is not there", k.v2)
		if rootless {
			return reason, "have it delegated to you (sudo systemctl edit user@.service: [Service] Delegate=cpu cpuset io memory pids), or " + asRoot
		}
		return reason, ""
	}
	for dir := parent; ; dir = filepath.Dir(dir) {
		if reason := occupied(dir, k.v2); reason != "" {
			return reason, ""
		}
		if dir == from {
			break
		}
	}
	if k.files2 != nil && absent(parent, k.files2) {
		return fmt.Sprintf("this kernel's control groups have no %s", k.files2[0]), ""
	}
	return "", ""
}

// provider is the nearest group at or above dir that has the controller to pass on, "" where there is none: a service manager passes
// on to its slices only what its units ask for, and runtimes pass on the rest, as far as they may write.
func (h hierarchy) provider(dir, controller string, rootless bool) string {
	for {
		if list, err := text(dir, "cgroup.controllers"); err == nil && has(strings.Fields(list), controller) {
			return dir
		}
		up := filepath.Dir(dir)
		if dir == h.dir || !writable(up, rootless) {
			return ""
		}
		dir = up
	}
}

// own is the group of this process in version 2.
func (t Tree) own() (string, error) {
	all, err := places(filepath.Join(t.Proc, "self"))
	if err != nil {
		return "", err
	}
	for _, p := range all {
		if p.controllers == "" {
			return p.path, nil
		}
	}
	return "", fmt.Errorf("own control group: %w", errdef.ErrNotFound)
}

// writable reports whether groups can be made in dir. A plain user must be able to move processes through it too.
func writable(dir string, rootless bool) bool {
	names := []string{"."}
	if rootless {
		names = append(names, "cgroup.procs", "cgroup.subtree_control")
	}
	for _, name := range names {
		if unix.Access(filepath.Join(dir, name), unix.W_OK) != nil {
			return false
		}
	}
	return true
}

// occupied says why a controller cannot be passed on to the groups below dir: processes are in dir itself. The machine's
// own root group, which has no type, may have both.
func occupied(dir, controller string) string {
	if list, err := text(dir, "cgroup.subtree_control"); err == nil && has(strings.Fields(list), controller) {
		return ""
	}
	if _, err := text(dir, "cgroup.type"); err != nil {
		return ""
	}
	if procs, err := text(dir, "cgroup.procs"); err != nil || procs == "" {
		return ""
	}
	return fmt.Sprintf("processes are in the control group %s itself, so that it passes no controller on", dir)
}

// maxSample bounds how many groups are looked at for a file.
const maxSample = 256

// absent reports whether the hierarchy at dir lacks all of files. They need not be in a root group, so those directly below
// are asked too; where none tells anything, the runtime will.
func absent(dir string, files []string) bool {
	present := func(d string) bool {
		for _, f := range files {
			if _, err := os.Lstat(filepath.Join(d, f)); err == nil {
				return true
			}
		}
		return false
	}
	if present(dir) {
		return false
	}
	d, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer d.Close()
	entries, _ := d.ReadDir(maxSample)
	told := false
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		below := filepath.Join(dir, e.Name())
		if present(below) {
			return false
		}
		// A group that does have the controller would have the file.
		told = told || hasFilesOf(below, files[0])
	}
	return told
}

// hasFilesOf reports whether a group has files of the controller to which file belongs ("memory.swap.max": "memory.").
func hasFilesOf(dir, file string) bool {
	controller, _, _ := strings.Cut(file, ".")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, e := range entries {
		// Pressure is told of every controller in every group.
		if name := e.Name(); strings.HasPrefix(name, controller+".") && !strings.HasSuffix(name, ".pressure") {
			return true
		}
	}
	return false
}
