//go:build cgo

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/moby/sys/userns"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/stepwire"
)

// step is one container.
type step struct {
	container *libcontainer.Container
	process   *libcontainer.Process

	mu      sync.Mutex
	started bool
	killed  bool
}

// create makes the container of the request's bundle, without a process. Called outside of all private mount namespaces:
// the libraries open what they keep for all containers (the cgroups' root, for one) at first use.
func (s *step) create(req stepwire.Request) error {
	spec, err := load(req.Bundle)
	if err != nil {
		return err
	}
	config, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{
		CgroupName:   req.ID,
		Spec:         spec,
		RootlessEUID: os.Geteuid() != 0,
		// Root of a user namespace may or may not reach the cgroups: take what there is, as runc does.
		RootlessCgroups: os.Geteuid() != 0 || userns.RunningInUserNS(),
	})
	if err != nil {
		return err
	}
	if s.process, err = process(spec.Process); err != nil {
		return err
	}
	s.container, err = libcontainer.Create(req.State, req.ID, config)
	return err
}

// start starts the container's process where its root file system is mounted. stdio are its three files.
func (s *step) start(stdio []*os.File) (pid int, err error) {
	s.process.Stdin, s.process.Stdout, s.process.Stderr = stdio[0], stdio[1], stdio[2]
	if err := s.container.Run(s.process); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = true
	if s.killed {
		_ = s.process.Signal(unix.SIGKILL)
	}
	return s.process.Pid()
}

// wait waits for the end of the container's first process, and with it of all.
func (s *step) wait() (int, error) {
	state, err := s.process.Wait()
	s.mu.Lock()
	s.started = false
	s.mu.Unlock()
	if state == nil {
		return 0, err
	}
	ws, ok := state.Sys().(syscall.WaitStatus)
	if !ok {
		return 0, errors.New("the process's end is not known")
	}
	return exitCode(ws), nil
}

// kill ends the container, now or as soon as it has started.
func (s *step) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.killed = true
	if s.started {
		_ = s.process.Signal(unix.SIGKILL) // it may just have ended
	}
}

// destroy removes the container's cgroup and state. What cannot be removed is left for the store's sweep.
func (s *step) destroy() {
	if s.container != nil {
		_ = s.container.Destroy()
	}
}

// maxConfig bounds a bundle's document.
const maxConfig = 16 << 20

func load(bundle string) (*specs.Spec, error) {
	path := filepath.Join(bundle, "config.json")
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Size() > maxConfig {
		return nil, fmt.Errorf("%s: %d bytes: %w", path, st.Size(), errdef.ErrLimit)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	spec := &specs.Spec{}
	if err := json.Unmarshal(raw, spec); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", path, err, errdef.ErrInvalid)
	}
	if spec.Process == nil || len(spec.Process.Args) == 0 || !filepath.IsAbs(spec.Process.Cwd) ||
		spec.Process.Terminal || spec.Root == nil || !filepath.IsAbs(spec.Root.Path) {
		return nil, fmt.Errorf("%s: no process, or one with a terminal, or relative paths: %w", path, errdef.ErrInvalid)
	}
	return spec, nil
}

// process is runc's own reading of the document's process.
func process(p *specs.Process) (*libcontainer.Process, error) {
	lp := &libcontainer.Process{
		Init: true, LogLevel: "2", // errors
		Args: p.Args, Env: p.Env, Cwd: p.Cwd,
		UID: int(p.User.UID), GID: int(p.User.GID),
		Label: p.SelinuxLabel, AppArmorProfile: p.ApparmorProfile, NoNewPrivileges: &p.NoNewPrivileges,
		Scheduler: p.Scheduler, IOPriority: p.IOPriority,
	}
	for _, gid := range p.User.AdditionalGids {
		lp.AdditionalGroups = append(lp.AdditionalGroups, int(gid))
	}
	if c := p.Capabilities; c != nil {
		lp.Capabilities = &configs.Capabilities{
			Bounding: c.Bounding, Effective: c.Effective, Inheritable: c.Inheritable, Permitted: c.Permitted, Ambient: c.Ambient,
		}
	}
	for _, l := range p.Rlimits {
		number, ok := rlimits[l.Type]
		if !ok {
			return nil, fmt.Errorf("limit %q: %w", l.Type, errdef.ErrInvalid)
		}
		lp.Rlimits = append(lp.Rlimits, configs.Rlimit{Type: number, Hard: l.Hard, Soft: l.Soft})
	}
	return lp, nil
}

var rlimits = map[string]int{
	"RLIMIT_CPU":        unix.RLIMIT_CPU,
	"RLIMIT_FSIZE":      unix.RLIMIT_FSIZE,
	"RLIMIT_DATA":       unix.RLIMIT_DATA,
	"RLIMIT_STACK":      unix.RLIMIT_STACK,
	"RLIMIT_CORE":       unix.RLIMIT_CORE,
	"RLIMIT_RSS":        unix.RLIMIT_RSS,
	"RLIMIT_NPROC":      unix.RLIMIT_NPROC,
	"RLIMIT_NOFILE":     unix.RLIMIT_NOFILE,
	"RLIMIT_MEMLOCK":    unix.RLIMIT_MEMLOCK,
	"RLIMIT_AS":         unix.RLIMIT_AS,
	"RLIMIT_LOCKS":      unix.RLIMIT_LOCKS,
	"RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING,
	"RLIMIT_MSGQUEUE":   unix.RLIMIT_MSGQUEUE,
	"RLIMIT_NICE":       unix.RLIMIT_NICE,
	"RLIMIT_RTPRIO":     unix.RLIMIT_RTPRIO,
	"RLIMIT_RTTIME":     unix.RLIMIT_RTTIME,
}
