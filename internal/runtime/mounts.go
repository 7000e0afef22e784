package runtime

import (
	"fmt"
	"path"
	"slices"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

const defaultShm = 64 << 20

// Tree is the file system that a container is to run in: *rootfs.Root.
type Tree interface {
	Lstat(name string) (unix.Stat_t, error)
}

// Ordinary refuses a tree in which what every runtime mounts on is a link: not each runtime stays in the tree when it follows one
// (CVE-2026-47766).
func Ordinary(t Tree) error {
	for _, dir := range []string{"/dev", "/proc", "/sys"} {
		st, err := t.Lstat(dir)
		if err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
			return errdef.WithHint(fmt.Errorf("%s of the container is a symbolic link, where its kernel's files are to be mounted: %w", dir, errdef.ErrInvalid),
				"the image has to have a directory there, or nothing")
		}
	}
	return nil
}

// mounts gives docker's default mounts, as far as this container can have them, and then the caller's.
func mounts(p Params) []specs.Mount {
	shm := p.ShmSize
	if shm <= 0 {
		shm = defaultShm
	}
	pts := []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}
	if !p.SingleID {
		pts = append(pts, "gid=5")
	}
	all := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: pts},
		sysMount(p),
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=" + strconv.FormatInt(shm, 10)}},
	}
	if m, ok := cgroupMount(p); ok {
		all = slices.Insert(all, 4, m)
	}
	replaced := func(m specs.Mount) bool {
		return slices.ContainsFunc(p.Mounts, func(own specs.Mount) bool {
			return path.Clean(own.Destination) == m.Destination
		})
	}
	return append(slices.DeleteFunc(all, replaced), p.Mounts...)
}

// sysMount: a sysfs can be mounted only by the owner of the network namespace that it shows, which the root of a user
// namespace is not for the host's.
func sysMount(p Params) specs.Mount {
	mode := "ro"
	if p.Privileged {
		mode = "rw"
	}
	if p.Rootless && p.HostNetwork {
		return specs.Mount{Destination: "/sys", Type: "bind", Source: "/sys", Options: []string{"rbind", "rslave", "nosuid", "noexec", "nodev", "r" + mode}}
	}
	return specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", mode}}
}

// cgroupMount: without a cgroup namespace a rootless container would show the host's hierarchies or none at all; and
// where /sys is bound whole, its cgroups come along.
func cgroupMount(p Params) (specs.Mount, bool) {
	if p.Rootless && (p.HostNetwork || !UnifiedCgroups()) {
		return specs.Mount{}, false
	}
	mode := "ro"
	if p.Privileged {
		mode = "rw"
	}
	return specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{mode, "nosuid", "noexec", "nodev"}}, true
}
