package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// State is what the runtime knows of a container. Status is "creating", "created", "running", "paused" or "stopped".
type State struct {
	ID, Status string
	Pid        int
	Bundle     string
}

// Status asks the runtime about a container.
func (r *Runtime) Status(ctx context.Context, id string) (State, error) {
	out, err := r.ask(ctx, id, "state", id)
	if err != nil {
		return State{}, err
	}
	var s State
	if err := json.Unmarshal(out, &s); err != nil {
		return State{}, fmt.Errorf("state of container %s: %w: %w", id, err, errdef.ErrCorrupt)
	}
	return s, nil
}

// Kill sends sig to the container's init process; all: to every process in the container.
func (r *Runtime) Kill(ctx context.Context, id string, sig unix.Signal, all bool) error {
	if !all {
		_, err := r.ask(ctx, id, "kill", id, strconv.Itoa(int(sig)))
		return err
	}
	pids, err := r.Pids(ctx, id)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if kerr := unix.Kill(pid, sig); kerr != nil && kerr != unix.ESRCH {
			err = errors.Join(err, fmt.Errorf("container %s: signal to process %d: %w", id, pid, kerr))
		}
	}
	return err
}

// Pause stops every process of the container from running, and Resume lets them go on. It takes a freezer cgroup.
func (r *Runtime) Pause(ctx context.Context, id string) error {
	_, err := r.ask(ctx, id, "pause", id)
	return err
}

// Resume undoes [Runtime.Pause].
func (r *Runtime) Resume(ctx context.Context, id string) error {
	_, err := r.ask(ctx, id, "resume", id)
	return err
}

// Update sets new limits for a running container. Limits that are nil in limits stay or are lifted, as the runtime likes:
// name all that shall hold.
func (r *Runtime) Update(ctx context.Context, id string, limits *specs.LinuxResources) error {
	if err := r.check(id); err != nil {
		return err
	}
	file, err := r.scratch(id+".update-*.json", limits)
	if err != nil {
		return fmt.Errorf("update of container %s: %w", id, err)
	}
	defer os.Remove(file)
	_, err = r.ask(ctx, id, "update", "--resources", file, id)
	return err
}

// scratch writes v as JSON into a new file of the state directory.
func (r *Runtime) scratch(pattern string, v any) (string, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	f, err := os.CreateTemp(r.State, pattern)
	if err != nil {
		return "", err
	}
	_, err = f.Write(raw)
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}

// killWait is how long a killed container may take to be gone.
const killWait = 10 * time.Second

// Delete removes what the runtime keeps of a stopped container. force kills one that runs, and does not mind one that
// does not exist.
func (r *Runtime) Delete(ctx context.Context, id string, force bool) error {
	_, err := r.ask(ctx, id, "delete", id)
	if err == nil || !force {
		return err
	}
	if errors.Is(err, errdef.ErrNotFound) {
		return nil
	}
	s, serr := r.Status(ctx, id)
	if serr == nil && s.Status == "paused" { // also one that was killed while it was frozen
		err := r.Resume(ctx, id)
		if s, serr = r.Status(ctx, id); serr == nil && s.Status == "paused" {
			return errors.Join(err, fmt.Errorf("container %s stays paused: %w", id, errdef.ErrConflict))
		}
	}
	if serr != nil { // a start that was interrupted: only the runtime's own force removes that
		if _, err = r.ask(ctx, id, "delete", "--force", id); errors.Is(err, errdef.ErrNotFound) {
			return nil // the first attempt did remove it
		}
		return err
	}
	if err := killAndWait(ctx, s.Pid, nil); err != nil {
		return fmt.Errorf("container %s: %w", id, err)
	}
	// Not with --force, which begins with a pause of 100 ms.
	_, err = r.ask(ctx, id, "delete", id)
	return err
}

// killAndWait kills a process and returns when it has ended, reaped or not. It leaves alone one of which still, if it is given, says no.
func killAndWait(ctx context.Context, pid int, still func() bool) error {
	if pid <= 0 {
		return nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return nil
	}
	if err != nil {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if still != nil && !still() {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return fmt.Errorf("killing process %d: %w", pid, err)
	}
	for end := time.Now().Add(killWait); time.Now().Before(end); {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 50)
		if n > 0 {
			return nil
		}
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("process %d: %w", pid, err)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return fmt.Errorf("process %d does not end: %w", pid, errdef.ErrConflict)
}

// Pids gives the processes of a running container, ids as this process sees them. Where the container has no cgroup
// they are found by its pid namespace.
func (r *Runtime) Pids(ctx context.Context, id string) ([]int, error) {
	out, err := r.ask(ctx, id, "ps", "--format", "json", id)
	var pids []int
	if err == nil && json.Unmarshal(out, &pids) == nil && len(pids) > 0 {
		return pids, nil
	}
	if errors.Is(err, errdef.ErrNotFound) {
		return nil, err
	}
	s, err := r.Status(ctx, id)
	if err != nil {
		return nil, err
	}
	return inPidNamespace(s.Pid)
}

// inPidNamespace gives the processes in the pid namespace of init, which must not be this process's own.
func inPidNamespace(init int) ([]int, error) {
	name := func(pid string) string {
		ns, err := os.Readlink("/proc/" + pid + "/ns/pid")
		if err != nil {
			return ""
		}
		return ns
	}
	want := name(strconv.Itoa(init))
	if want == "" || want == name("self") {
		return nil, nil
	}
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, p := range procs {
		if pid, err := strconv.Atoi(p.Name()); err == nil && name(p.Name()) == want {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// ask runs a runtime command on a container that exists and gives what it prints.
func (r *Runtime) ask(ctx context.Context, id string, args ...string) ([]byte, error) {
	c, err := r.prepare(id, Stdio{})
	if err != nil {
		return nil, err
	}
	defer c.clean()
	if _, err := os.Lstat(filepath.Join(r.State, id)); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("container %s: %w", id, errdef.ErrNotFound)
	}
	if err := r.present(); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	cmd := c.cmd(ctx, args...)
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if msg := lastError(c.logFile); msg != "" {
			err = errors.New(msg)
		}
		return nil, fmt.Errorf("%s of container %s: %w: %w", args[0], id, err, errdef.ErrConflict)
	}
	return out.Bytes(), nil
}
