//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// container is what is kept of one, in the state directory.
type container struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Pid    int    `json:"pid"`
	Bundle string `json:"bundle"`
	Start  uint64 `json:"start"` // of the process, in ticks: with the pid it names one process
	Tree   string `json:"tree"`
	Mounts bool   `json:"mounts"` // it has a mount namespace
	Placed placed `json:"placed"`
}

func (c *command) dir() string { return filepath.Join(c.root, c.args[0]) }

func (c *command) load() (*container, error) {
	raw, err := os.ReadFile(filepath.Join(c.dir(), "state.json"))
	if err != nil {
		return nil, fmt.Errorf("container does not exist: %w", err)
	}
	s := &container{}
	if err := json.Unmarshal(raw, s); err != nil {
		return nil, fmt.Errorf("state of container %s: %w", c.args[0], err)
	}
	s.Status = "running"
	if _, start, err := processStat(s.Pid); err != nil || start != s.Start {
		s.Status = "stopped"
	}
	return s, nil
}

func (c *command) save(s *container) error {
	raw, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.dir(), "state.json"), raw, 0o600)
}

func (c *command) state() error {
	s, err := c.load()
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(s)
}

func (c *command) kill() error {
	s, err := c.load()
	if err != nil {
		return err
	}
	signal := unix.SIGTERM
	if len(c.args) > 1 {
		n, err := strconv.Atoi(c.args[1])
		if err != nil {
			return fmt.Errorf("signal %q: %w", c.args[1], err)
		}
		signal = unix.Signal(n)
	}
	if s.Status != "running" {
		return fmt.Errorf("container %s is not running", s.ID)
	}
	return unix.Kill(s.Pid, signal)
}

func (c *command) delete() error {
	s, err := c.load()
	if errors.Is(err, os.ErrNotExist) {
		return errors.Join(err, os.RemoveAll(c.dir()))
	}
	if err != nil {
		return err
	}
	if s.Status == "running" && !c.force {
		return fmt.Errorf("cannot delete container %s that is not stopped", s.ID)
	}
	return c.clear(s)
}

// clear ends what is left of a container and takes away what was placed in its tree.
func (c *command) clear(s *container) error {
	killAll(s)
	return errors.Join(s.Placed.restore(s.Tree), os.RemoveAll(c.dir()))
}

func (c *command) ps() error {
	s, err := c.load()
	if err != nil {
		return err
	}
	pids := members(s)
	if pids == nil {
		pids = []int{}
	}
	return json.NewEncoder(os.Stdout).Encode(pids)
}

// killAll ends all processes of the container that can be found. They may start others meanwhile, so again until none is left.
func killAll(s *container) {
	for range 200 {
		pids := members(s)
		if len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL) // it has ended meanwhile
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// members finds the container's processes: its first one's descendants, its session's, and whoever has its root. A process
// that left its session and whose parents have ended is found by its root alone, which only the same user may read.
func members(s *container) (pids []int) {
	entries, err := os.ReadDir("/proc")
	if err != nil || s.Pid == 0 { // it was not started
		return nil
	}
	in := map[int]bool{}
	if _, start, err := processStat(s.Pid); err == nil && start == s.Start {
		in[s.Pid] = true
	}
	for again := true; again; {
		again = false
		for _, e := range entries {
			pid, err := strconv.Atoi(e.Name())
			if err != nil || in[pid] && pid != s.Pid {
				continue
			}
			p, _, err := processStat(pid)
			if err != nil || p.state == "Z" || p.state == "X" {
				delete(in, pid)
				continue
			}
			root, _ := os.Readlink("/proc/" + e.Name() + "/root")
			if !in[pid] && (p.session == s.Pid || in[p.parent] || root == s.Tree && s.Tree != "/") {
				in[pid], again = true, true
			}
		}
	}
	for pid := range in {
		pids = append(pids, pid)
	}
	return pids
}

type process struct {
	state           string
	parent, session int
}

// processStat reads /proc/PID/stat; start is in clock ticks since the machine's start.
func processStat(pid int) (p process, start uint64, err error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return p, 0, err
	}
	_, rest, _ := strings.Cut(string(raw[max(0, strings.LastIndex(string(raw), ")")):]), " ")
	f := strings.Fields(rest)
	if len(f) < 20 {
		return p, 0, fmt.Errorf("process %d: %q", pid, raw)
	}
	p.state = f[0]
	p.parent, _ = strconv.Atoi(f[1])
	p.session, _ = strconv.Atoi(f[3])
	start, err = strconv.ParseUint(f[19], 10, 64)
	return p, start, err
}
