package container

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"strata/internal/cgroup"
	"strata/internal/errdef"
)

// tick is the unit of times in /proc/<pid>/stat: USER_HZ is 100 on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// process is what /proc/<pid>/stat tells of a process (proc_pid_stat(5)).
type process struct {
	pid, parent, group, session, tty int
	foreground                       int // the process group that the terminal listens to
	name                             string
	state                            byte
	// own is the processor time of the process, children that of its ended and reaped children.
	own, children time.Duration
	priority      int
	nice, threads int
	start         uint64 // ticks since boot
	size, rss     int64  // bytes
}

func readProcess(pid int) (process, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	return parseProcess(raw)
}

// parseProcess reads a line of stat. The name in it may hold anything, parentheses and newlines too.
func parseProcess(raw []byte) (process, error) {
	open, end := bytes.IndexByte(raw, '('), bytes.LastIndexByte(raw, ')')
	if open < 0 || end < open {
		return process{}, fmt.Errorf("process stat %.60q: %w", raw, errdef.ErrInvalid)
	}
	fields := strings.Fields(string(raw[end+1:]))
	if len(fields) < 22 {
		return process{}, fmt.Errorf("process stat %.60q: %w", raw, errdef.ErrInvalid)
	}
	// Fields are counted from 1 in the manual, and the state is number 3.
	at := func(n int) int64 {
		v, err := strconv.ParseInt(fields[n-3], 10, 64)
		if err != nil {
			return 0
		}
		return v
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw[:open])))
	if err != nil {
		return process{}, fmt.Errorf("process stat %.60q: %w", raw, errdef.ErrInvalid)
	}
	return process{
		pid: pid, name: string(raw[open+1 : end]), state: fields[0][0],
		parent: int(at(4)), group: int(at(5)), session: int(at(6)), tty: int(at(7)), foreground: int(at(8)),
		own: time.Duration(at(14)+at(15)) * tick, children: time.Duration(at(16)+at(17)) * tick,
		priority: int(at(18)), nice: int(at(19)), threads: int(at(20)), start: uint64(at(22)),
		size: at(23), rss: at(24) * int64(os.Getpagesize()),
	}, nil
}

// processes gives those of a running container in the order of their ids, as this machine counts them.
func (s *Store) processes(rec Record) ([]process, error) {
	var pids []int
	if g, err := cgroup.Machine().Of(rec.State.Pid, rec.ID); err == nil {
		pids = g.Procs()
	}
	if len(pids) == 0 {
		return family(rec.State.Pid)
	}
	slices.Sort(pids)
	var all []process
	for _, pid := range slices.Compact(pids) {
		if p, err := readProcess(pid); err == nil { // else it has ended
			all = append(all, p)
		}
	}
	return all, nil
}

// family gives the process init, what is in its pid namespace, and what descends from these: the processes of a container
// that has no control group.
func family(init int) ([]process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	namespace := func(pid string) string {
		ns, _ := os.Readlink("/proc/" + pid + "/ns/pid") // "" of a process that we may not look into
		return ns
	}
	own, theirs := namespace("self"), namespace(strconv.Itoa(init))
	all := map[int]process{}
	in := map[int]bool{init: true}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		p, err := readProcess(pid)
		if err != nil {
			continue
		}
		all[pid] = p
		if theirs != "" && theirs != own && namespace(e.Name()) == theirs {
			in[pid] = true
		}
	}
	var members []process
	for _, p := range all {
		if descends(p, all, in) {
			members = append(members, p)
		}
	}
	slices.SortFunc(members, func(a, b process) int { return a.pid - b.pid })
	return members, nil
}

// descends reports whether p is in the set or an ancestor of it is. The ids were not read all at once: a chain of parents
// is followed no further than there are processes.
func descends(p process, all map[int]process, in map[int]bool) bool {
	for range len(all) {
		if in[p.pid] {
			return true
		}
		parent, ok := all[p.parent]
		if !ok {
			return false
		}
		p = parent
	}
	return false
}

// readSome reads at most limit bytes of a file.
func readSome(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}
