package cgroup

import (
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Unknown stands for a figure that the machine does not tell, because it lacks the controller.
const Unknown = -1

// Usage is what a group has used. Figures are [Unknown] where there is no controller that tells them.
type Usage struct {
	CPU time.Duration // of all processors, since the group was made
	// Memory in bytes, without the page cache that the kernel may take back at once.
	Memory int64
	// Limit of the memory in bytes; 0 is none.
	Limit int64
	// Read and Written are bytes moved to and from block devices.
	Read, Written int64
	Pids          int64
}

// Usage reads what the group has used until now.
func (g Group) Usage() Usage {
	if g.unified != "" {
		return g.usage2()
	}
	return g.usage1()
}

func (g Group) usage1() Usage {
	u := Usage{
		CPU:    time.Duration(number(g.dirs["cpuacct"], "cpuacct.usage")),
		Memory: number(g.dirs["memory"], "memory.usage_in_bytes"),
		Limit:  max(number(g.dirs["memory"], "memory.limit_in_bytes"), 0),
		Pids:   number(g.dirs["pids"], "pids.current"),
	}
	u.Memory = reclaimed(u.Memory, keyed(g.dirs["memory"], "memory.stat")["total_inactive_file"])
	if u.Limit > 1<<62 { // how version 1 says "none"
		u.Limit = 0
	}
	u.Read, u.Written = Unknown, Unknown
	for _, name := range []string{"blkio.throttle.io_service_bytes_recursive", "blkio.io_service_bytes_recursive"} {
		if text, err := text(g.dirs["blkio"], name); err == nil {
			u.Read, u.Written = serviceBytes(text)
			break
		}
	}
	return u
}

// usage2 reads the files of version 2 (Documentation/admin-guide/cgroup-v2.rst).
func (g Group) usage2() Usage {
	u := Usage{
		CPU:    Unknown,
		Memory: number(g.unified, "memory.current"),
		Limit:  max(number(g.unified, "memory.max"), 0),
		Pids:   number(g.unified, "pids.current"),
		Read:   Unknown, Written: Unknown,
	}
	if usec, ok := keyed(g.unified, "cpu.stat")["usage_usec"]; ok {
		u.CPU = time.Duration(usec) * time.Microsecond
	}
	u.Memory = reclaimed(u.Memory, keyed(g.unified, "memory.stat")["inactive_file"])
	if text, err := text(g.unified, "io.stat"); err == nil {
		u.Read, u.Written = ioStat(text)
	}
	return u
}

// reclaimed takes the page cache that is not in use from the memory in use, as docker's stats do.
func reclaimed(usage, cache int64) int64 {
	if usage == Unknown || cache > usage {
		return usage
	}
	return usage - cache
}

// serviceBytes adds up lines "8:0 Read 4096" over all devices.
func serviceBytes(text string) (read, written int64) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		n, err := strconv.ParseInt(f[2], 10, 64)
		switch {
		case err != nil:
		case strings.EqualFold(f[1], "read"):
			read += n
		case strings.EqualFold(f[1], "write"):
			written += n
		}
	}
	return read, written
}

// ioStat adds up lines "8:0 rbytes=4096 wbytes=0 rios=1 …" over all devices.
func ioStat(text string) (read, written int64) {
	for field := range strings.FieldsSeq(text) {
		name, value, _ := strings.Cut(field, "=")
		n, err := strconv.ParseInt(value, 10, 64)
		switch {
		case err != nil:
		case name == "rbytes":
			read += n
		case name == "wbytes":
			written += n
		}
	}
	return read, written
}

// OOMKills is how many processes of the group the kernel killed for lack of memory.
func (g Group) OOMKills() int64 {
	if g.unified != "" {
		return keyed(g.unified, "memory.events")["oom_kill"]
	}
	return keyed(g.dirs["memory"], "memory.oom_control")["oom_kill"]
}

// Freezable reports whether the group's processes can be made to stand still.
func (g Group) Freezable() bool {
	_, err := g.freezer()
	return err == nil
}

// Frozen reports whether they do, or were told to.
func (g Group) Frozen() bool {
	state, err := g.freezer()
	return err == nil && state != "0" && state != "THAWED"
}

func (g Group) freezer() (string, error) {
	if g.unified != "" {
		return text(g.unified, "cgroup.freeze")
	}
	return text(g.dirs["freezer"], "freezer.state")
}

// Procs lists the processes in the group and in those below it.
func (g Group) Procs() []int {
	dir := g.unified
	for _, c := range []string{"pids", "memory", "cpu", "freezer", "devices"} {
		if dir == "" {
			dir = g.dirs[c]
		}
	}
	if dir == "" {
		return nil
	}
	var pids []int
	// A group that goes away meanwhile has no processes.
	_ = filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // the group is gone
		}
		if !e.IsDir() {
			return nil
		}
		list, _ := text(name, "cgroup.procs")
		for field := range strings.FieldsSeq(list) {
			if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	return pids
}

// text reads a file of a group's directory.
func text(dir, name string) (string, error) {
	if dir == "" {
		return "", fs.ErrNotExist
	}
	raw, err := read(filepath.Join(dir, name))
	return strings.TrimSpace(string(raw)), err
}

// number reads a file of one number: [Unknown] without the file, 0 for "max".
func number(dir, name string) int64 {
	s, err := text(dir, name)
	if err != nil {
		return Unknown
	}
	if s == "max" {
		return 0
	}
	// A limit may be larger than an int64 holds: the largest is as good as none.
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return Unknown
	}
	return int64(min(n, 1<<63-1))
}

// keyed reads a file of lines "name number".
func keyed(dir, name string) map[string]int64 {
	s, err := text(dir, name)
	if err != nil {
		return nil
	}
	values := map[string]int64{}
	for line := range strings.Lines(s) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			values[key] = n
		}
	}
	return values
}
