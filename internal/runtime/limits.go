package runtime

import (
	"os"
	"slices"
	"strings"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ContainerCaps gives the capabilities of a container's process: podman's eleven, and CAP_NET_RAW when it has a network
// namespace of its own, where raw packets harm nobody.
func ContainerCaps(ownNet bool) []string {
	caps := []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE",
		"CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
	}
	if ownNet {
		caps = append(caps, "CAP_NET_RAW")
	}
	return caps
}

// BuildCaps gives the capabilities of a build step: containerd's fourteen.
func BuildCaps() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
		"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
	}
}

// AllCaps gives every capability, of a privileged container.
func AllCaps() []string { return slices.Clone(capNames[:]) }

// capNames in the kernel's numbering (linux/capability.h).
var capNames = [...]string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
	"CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
	"CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
	"CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// grantable leaves out what this process has not itself: asking for it would fail the start.
func grantable(caps []string) []string {
	own := ownCaps()
	return slices.DeleteFunc(slices.Clone(caps), func(name string) bool {
		i := slices.Index(capNames[:], name)
		return i >= 0 && own&(1<<i) == 0
	})
}

// ownCaps are the permitted capabilities of this process, as a bit set; all when the kernel does not tell.
var ownCaps = sync.OnceValue(func() uint64 {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return ^uint64(0)
	}
	return uint64(data[0].Permitted) | uint64(data[1].Permitted)<<32
})

// rlimits maps the runtime-spec's names to the kernel's numbers.
var rlimits = map[string]int{
	"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_CPU": unix.RLIMIT_CPU,
	"RLIMIT_DATA": unix.RLIMIT_DATA, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS,
	"RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK, "RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE,
	"RLIMIT_NOFILE": unix.RLIMIT_NOFILE, "RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_RSS": unix.RLIMIT_RSS,
	"RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO, "RLIMIT_RTTIME": unix.RLIMIT_RTTIME,
	"RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING, "RLIMIT_STACK": unix.RLIMIT_STACK,
}

// lowered gives the limits with none above this process's own hard limit, unless it may raise that.
func lowered(limits []specs.POSIXRlimit) []specs.POSIXRlimit {
	if len(limits) == 0 || mayRaise() {
		return limits
	}
	limits = slices.Clone(limits)
	for i, l := range limits {
		var own unix.Rlimit
		resource, ok := rlimits[l.Type]
		if !ok || unix.Getrlimit(resource, &own) != nil {
			continue // the runtime says what is wrong with it
		}
		limits[i].Hard = min(l.Hard, own.Max)
		limits[i].Soft = min(l.Soft, limits[i].Hard)
	}
	return limits
}

// mayRaise: raising a hard limit takes CAP_SYS_RESOURCE in the machine's own user namespace.
var mayRaise = sync.OnceValue(func() bool {
	const sysResource = 24
	if ownCaps()&(1<<sysResource) == 0 {
		return false
	}
	ids, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && slices.Equal(strings.Fields(string(ids)), []string{"0", "0", "4294967295"})
})
