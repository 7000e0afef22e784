package userns

import (
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// marker is the environment variable by which a process that entered knows the namespace: it holds the inode of the user
// namespace, so that a copy of the variable elsewhere proves nothing.
const marker = "STRATA_USERNS"

// Active reports whether this process runs inside the namespace that strata made for the user. The environment alone is
// not believed: the id map must be a partial one and the marker must name the very namespace.
func Active() bool { return active() }

var active = sync.OnceValue(func() bool {
	want := os.Getenv(marker)
	if want == "" || !Namespaced() {
		return false
	}
	ino, err := inode("/proc/self/ns/user")
	return err == nil && want == fmt.Sprint(ino)
})

// Namespaced reports whether this process is in a user namespace other than the machine's first, whoever made it:
// [Enter], a container, unshare. In one, overlays need userxattr, and device nodes cannot be made.
func Namespaced() bool { return namespaced() }

var namespaced = sync.OnceValue(func() bool { return !Idmap().Full() })

// Single reports whether this process is in a user namespace that maps one id only: files can have no other owner.
func Single() bool {
	m := Idmap()
	return count(m.UIDs) == 1 || count(m.GIDs) == 1
}

// Userxattr reports whether overlay's marks are user.overlay.*: only the first namespace's CAP_SYS_ADMIN sets others.
func Userxattr() bool { return Namespaced() || !capable(unix.CAP_SYS_ADMIN) }

// OneOwner reports whether this process cannot give files to other users: only one is mapped, or it may not change owners.
func OneOwner() bool { return Single() || !capable(unix.CAP_CHOWN) }

// capable reports whether this process has a capability. A kernel that does not tell grants all.
func capable(capability int) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) != nil {
		return true
	}
	return data[capability/32].Effective&(1<<(capability%32)) != 0
}

// MustEnter reports whether this process can do all of strata's work only after [Enter]. Where that is refused it can still
// do what needs no container, as a user who owns all files.
func MustEnter() bool { return os.Geteuid() != 0 && !Active() }

// Range maps Count ids: Inside and up in the namespace are Outside and up in the namespace around it.
type Range struct{ Inside, Outside, Count uint32 }

// Map is the id map of a user namespace.
type Map struct{ UIDs, GIDs []Range }

// Full reports whether m is the map of the machine's first user namespace: every id is itself.
func (m Map) Full() bool {
	full := Range{0, 0, 1<<32 - 1}
	return len(m.UIDs) == 1 && m.UIDs[0] == full
}

// HasUID reports whether the user id exists inside the namespace. An empty map, which nobody could read, has all.
func (m Map) HasUID(id uint32) bool { return has(m.UIDs, id) }

// HasGID is [Map.HasUID] for group ids.
func (m Map) HasGID(id uint32) bool { return has(m.GIDs, id) }

func has(ranges []Range, id uint32) bool {
	for _, r := range ranges {
		if id >= r.Inside && id-r.Inside < r.Count {
			return true
		}
	}
	return len(ranges) == 0
}

// Idmap is this process's map. Where /proc is not readable it is empty.
func Idmap() Map { return idmap() }

var idmap = sync.OnceValue(func() Map {
	return Map{UIDs: readMap("/proc/self/uid_map"), GIDs: readMap("/proc/self/gid_map")}
})

func readMap(path string) []Range {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return parseMap(string(data))
}

// parseMap reads the format of /proc/PID/uid_map: inside, outside, count, one range a line. See user_namespaces(7).
func parseMap(text string) []Range {
	var ranges []Range
	for line := range strings.Lines(text) {
		var r Range
		if _, err := fmt.Sscan(line, &r.Inside, &r.Outside, &r.Count); err == nil {
			ranges = append(ranges, r)
		}
	}
	return ranges
}

func count(ranges []Range) (n uint64) {
	for _, r := range ranges {
		n += uint64(r.Count)
	}
	return n
}

func inode(path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return st.Ino, nil
}
