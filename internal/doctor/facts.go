package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Facts are what a machine is.
type Facts struct {
	Kernel       string // its release
	System       string // the distribution's name and version
	Architecture string // the kernel's word: x86_64
	Name         string // the host name
	CPUs         int    // that this process may use
	Memory       int64  // bytes
	// Cgroups is the version of the control groups: 2, 1, or 0 for none.
	Cgroups int
	// Seccomp says that system calls can be filtered.
	Seccomp bool
	// Forwarding says that this machine passes IPv4 packets on between its networks.
	Forwarding bool
	// Filesystem is the kind that the store is on.
	Filesystem string
}

// Look reads the facts. What cannot be read is zero.
func Look(o Options) Facts {
	f := Facts{
		Kernel:     o.read("proc/sys/kernel/osrelease"),
		System:     distribution(o),
		CPUs:       runtime.NumCPU(),
		Memory:     memory(o.read("proc/meminfo")),
		Cgroups:    cgroupVersion(o),
		Seccomp:    strings.Contains(o.read("proc/sys/kernel/seccomp/actions_avail"), "errno"),
		Forwarding: o.read("proc/sys/net/ipv4/ip_forward") == "1",
		Filesystem: filesystem(existing(o.Root)),
	}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		f.Architecture, f.Name = unix.ByteSliceToString(uts.Machine[:]), unix.ByteSliceToString(uts.Nodename[:])
	}
	return f
}

// Quick makes those checks of [Run] that try nothing out.
func Quick(ctx context.Context, o Options) []Check {
	var all []Check
	for _, check := range []func(context.Context, Options) Check{kernel, ids, seccomp, cgroups} {
		all = append(all, check(ctx, o))
	}
	return all
}

// distribution is PRETTY_NAME of os-release(5).
func distribution(o Options) string {
	text := o.read("etc/os-release")
	if text == "" {
		text = o.read("usr/lib/os-release")
	}
	for line := range strings.Lines(text) {
		value, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME=")
		if !ok {
			continue
		}
		if plain, err := strconv.Unquote(value); err == nil {
			return plain
		}
		return strings.Trim(value, "'")
	}
	return ""
}

// memory reads MemTotal of /proc/meminfo, which is in units of 1024 bytes.
func memory(meminfo string) int64 {
	for line := range strings.Lines(meminfo) {
		var kilobytes int64
		if _, err := fmt.Sscanf(line, "MemTotal: %d kB", &kilobytes); err == nil {
			return kilobytes << 10
		}
	}
	return 0
}

// cgroupVersion tells version 2 by the file cgroup.controllers in its root, version 1 by a controller's directory.
func cgroupVersion(o Options) int {
	if _, err := os.Stat(o.path("sys/fs/cgroup/cgroup.controllers")); err == nil {
		return 2
	}
	if len(oldControllers(o)) > 0 {
		return 1
	}
	return 0
}

// oldControllers lists those controllers of version 1 that limits need.
func oldControllers(o Options) []string {
	var found []string
	for _, controller := range []string{"memory", "cpu", "pids"} {
		if _, err := os.Stat(filepath.Join(o.path("sys/fs/cgroup"), controller, "cgroup.procs")); err == nil {
			found = append(found, controller)
		}
	}
	return found
}

// filesystem names the file system of dir as docker does.
func filesystem(dir string) string {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return "unknown"
	}
	switch uint32(st.Type) { // the kernel's numbers have 32 bits, the field differs between machines
	case unix.EXT4_SUPER_MAGIC:
		return "extfs"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlayfs"
	case unix.F2FS_SUPER_MAGIC:
		return "f2fs"
	case unix.NFS_SUPER_MAGIC:
		return "nfs"
	case unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, 0xff534d42: // the last is cifs
		return "cifs"
	case unix.FUSE_SUPER_MAGIC:
		return "fuse"
	case 0x2fc12fc1:
		return "zfs"
	}
	return fmt.Sprintf("%#x", uint32(st.Type))
}
