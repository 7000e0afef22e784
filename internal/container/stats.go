package container

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"strata/internal/cgroup"
	"strata/internal/errdef"
)

// Unknown stands in a [Usage] for a figure that cannot be told.
const Unknown = cgroup.Unknown

// Usage is what a container's processes have used, and use. The zero value is that of a container that does not run.
type Usage struct {
	At  time.Time
	CPU time.Duration // of all processors together, since the start
	// Memory in use and Limit in bytes; without a limit of its own a container has the machine's memory.
	Memory, Limit int64
	// Received and Sent count the bytes of the container's network; Unknown when it has the host's.
	Received, Sent int64
	// Read and Written count the bytes from and to block devices.
	Read, Written int64
	Pids          int64
}

// Usage reads what the container has used until now: from its control group, or from its processes where it has none.
func (s *Store) Usage(rec Record) (Usage, error) {
	if !rec.State.Alive() {
		return Usage{}, nil
	}
	u := Usage{At: time.Now(), Received: Unknown, Sent: Unknown}
	machine, err := machineMemory()
	if err != nil {
		return u, err
	}
	u.Limit = machine
	g, err := cgroup.Machine().Of(rec.State.Pid, rec.ID)
	var c cgroup.Usage
	if err == nil {
		c = g.Usage()
	}
	if err != nil || c.CPU == Unknown || c.Memory == Unknown || c.Pids == Unknown || c.Read == Unknown {
		if c, err = s.summed(rec, c, err == nil); err != nil {
			return u, err
		}
	}
	u.CPU, u.Memory, u.Read, u.Written, u.Pids = c.CPU, c.Memory, c.Read, c.Written, c.Pids
	if c.Limit > 0 && c.Limit < machine {
		u.Limit = c.Limit
	}
	if rec.Host.Network != "host" {
		u.Received, u.Sent = traffic(rec.State.Pid)
	}
	return u, nil
}

// summed fills what the control group does not tell, all of it without one, from the processes.
func (s *Store) summed(rec Record, c cgroup.Usage, grouped bool) (cgroup.Usage, error) {
	all, err := s.processes(rec)
	if err != nil {
		return c, err
	}
	var sum cgroup.Usage
	for _, p := range all {
		sum.CPU += p.own + p.children
		sum.Memory += p.rss
		sum.Pids += int64(p.threads) // what a control group counts too
		r, w := blockBytes(p.pid)
		sum.Read, sum.Written = sum.Read+r, sum.Written+w
	}
	if !grouped {
		return sum, nil
	}
	if c.CPU == Unknown {
		c.CPU = sum.CPU
	}
	if c.Memory == Unknown {
		c.Memory = sum.Memory
	}
	if c.Pids == Unknown {
		c.Pids = sum.Pids
	}
	if c.Read == Unknown {
		c.Read, c.Written = sum.Read, sum.Written
	}
	return c, nil
}

// Percent is the share of one processor that was used since before, in per cent: of two busy ones it is 200.
func (u Usage) Percent(before Usage) float64 {
	elapsed := u.At.Sub(before.At)
	if before.At.IsZero() || elapsed <= 0 || u.CPU < before.CPU {
		return 0
	}
	return float64(u.CPU-before.CPU) / float64(elapsed) * 100
}

// machineMemory is the memory of this machine in bytes.
func machineMemory() (int64, error) {
	raw, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "MemTotal:" {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("memory of this machine: %w", errdef.ErrNotFound)
}

// blockBytes reads what a process, with its ended children, moved from and to block devices; nothing of one that has ended
// or that we may not look into.
func blockBytes(pid int) (read, written int64) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(raw)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		n, err := strconv.ParseInt(value, 10, 64)
		switch {
		case err != nil:
		case name == "read_bytes":
			read = n
		case name == "write_bytes":
			written = n
		}
	}
	return read, written
}

// traffic adds up what the interfaces of a process's network namespace have seen; [Unknown] when that is ours.
func traffic(pid int) (received, sent int64) {
	dir := fmt.Sprintf("/proc/%d/", pid)
	theirs, err := os.Readlink(dir + "ns/net")
	own, err2 := os.Readlink("/proc/self/ns/net")
	if errors.Join(err, err2) != nil || own == theirs {
		return Unknown, Unknown
	}
	raw, err := os.ReadFile(dir + "net/dev")
	if err != nil {
		return Unknown, Unknown
	}
	return parseTraffic(raw)
}

// parseTraffic reads proc_pid_net(5)'s dev: received bytes are the first number, sent ones the ninth. What a container
// says to itself is no traffic.
func parseTraffic(raw []byte) (received, sent int64) {
	for line := range bytes.Lines(raw) {
		name, counters, ok := strings.Cut(string(line), ":")
		f := strings.Fields(counters)
		if !ok || len(f) < 9 || strings.TrimSpace(name) == "lo" {
			continue
		}
		r, err := strconv.ParseInt(f[0], 10, 64)
		t, err2 := strconv.ParseInt(f[8], 10, 64)
		if errors.Join(err, err2) == nil {
			received, sent = received+r, sent+t
		}
	}
	return received, sent
}
