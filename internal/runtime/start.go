package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"strata/internal/cgroup"
	"strata/internal/errdef"
)

// Stdio is handed to a container's process as it is, without copying; a nil file is /dev/null. A process with a terminal
// gets none of it.
type Stdio struct{ In, Out, Err *os.File }

// Start starts the container of the bundle and leaves it running. pid is its init process: a child of this process, if
// [Reap] was called before, to be waited for with [Wait]. console is the master of its terminal, if its spec asks for
// one. The caller deletes the container when it has ended.
//
// The runtime is started from the calling goroutine, so that it sees the mounts of mount.Private. A container that does
// not start gives a *[StartError], and nothing of it is left.
func (r *Runtime) Start(ctx context.Context, id, bundle string, stdio Stdio) (pid int, console *os.File, err error) {
	facts, err := readFacts(bundle)
	if err != nil {
		return 0, nil, err
	}
	return r.detached(ctx, id, stdio, facts, "run", "--detach", "--bundle", bundle)
}

// Exec starts one more process in the running container of the bundle, like [Runtime.Start].
func (r *Runtime) Exec(ctx context.Context, id, bundle string, p specs.Process, stdio Stdio) (pid int, console *os.File, err error) {
	facts, _ := readFacts(bundle) // without them the system call filter is compiled anew
	facts.Process.Terminal = p.Terminal
	if err := r.check(id); err != nil {
		return 0, nil, err
	}
	file, err := r.scratch(id+".exec-*.json", p)
	if err != nil {
		return 0, nil, fmt.Errorf("exec in container %s: %w", id, err)
	}
	defer os.Remove(file)
	return r.detached(ctx, id, stdio, facts, "exec", "--detach", "--process", file)
}

// detached runs a runtime command that leaves a process behind.
func (r *Runtime) detached(ctx context.Context, id string, stdio Stdio, facts facts, args ...string) (pid int, console *os.File, err error) {
	if err := r.present(); err != nil {
		return 0, nil, err
	}
	defer cgroup.Machine().Hasten()()
	c, err := r.prepare(id, stdio)
	if err != nil {
		return 0, nil, err
	}
	defer c.clean()
	c.filter = r.filter(ctx, facts.Linux.Seccomp)
	terminal := facts.Process.Terminal
	args = append(args, "--pid-file", c.pidFile)
	var master *receiver
	if terminal {
		if master, err = receive(r.State, id); err != nil {
			return 0, nil, err
		}
		defer master.close()
		args = append(args, "--console-socket", master.path)
		c.stdio = Stdio{}
	}
	if err := c.cmd(ctx, append(args, id)...).Run(); err != nil {
		if ctx.Err() != nil && args[0] == "run" {
			return 0, nil, errors.Join(context.Cause(ctx), r.Delete(context.WithoutCancel(ctx), id, true))
		}
		return 0, nil, c.failure(err)
	}
	if pid, err = c.pid(); err != nil {
		return 0, nil, err
	}
	if terminal {
		console, err = master.accept()
	}
	return pid, console, err
}

// Run starts the container of the bundle, waits until it has ended, and deletes it. The process has no terminal. started,
// which may be nil, is called from another goroutine as soon as the container's init process is known. code is the exit
// status, or 128 and the signal's number. When ctx ends the container is killed and ctx's error returned.
//
// The runtime stands between the container's pipes and stdio, and copies.
func (r *Runtime) Run(ctx context.Context, id, bundle string, stdio Stdio, started func(pid int)) (code int, err error) {
	if err := r.present(); err != nil {
		return 0, err
	}
	facts, err := readFacts(bundle)
	if err != nil {
		return 0, err
	}
	stop := cgroup.Machine().Hasten()
	defer stop()
	c, err := r.prepare(id, stdio)
	if err != nil {
		return 0, err
	}
	defer c.clean()
	c.filter = r.filter(ctx, facts.Linux.Seccomp)
	if started != nil {
		ended, told := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(told)
			if pid, ok := c.awaitPid(ended); ok {
				stop()
				started(pid)
			}
		}()
		defer func() { close(ended); <-told }()
	}
	cmd := c.cmd(ctx, "run", "--bundle", bundle, "--pid-file", c.pidFile, id)
	cmd.Cancel = func() error {
		if pid, err := c.pid(); err == nil {
			return unix.Kill(pid, unix.SIGKILL) // the runtime then ends, and cleans up
		}
		return cmd.Process.Kill()
	}
	err = cmd.Run()
	if ctx.Err() != nil {
		return 0, errors.Join(context.Cause(ctx), r.Delete(context.WithoutCancel(ctx), id, true))
	}
	if _, perr := c.pid(); err != nil && perr != nil { // a container that started has a pid file
		return 0, c.failure(err)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exitCode(unix.WaitStatus(exit.Sys().(syscall.WaitStatus))), nil
	}
	return 0, err
}

// call is one use of the runtime program with its scratch files in the state directory.
type call struct {
	r                *Runtime
	id               string
	stdio            Stdio
	logFile, pidFile string
	filter           *os.File // compiled, nil to let the runtime compile it
}

func (r *Runtime) prepare(id string, stdio Stdio) (*call, error) {
	if err := r.check(id); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(r.State, id+".log-*")
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", id, err)
	}
	f.Close()
	return &call{r: r, id: id, stdio: stdio, logFile: f.Name(), pidFile: f.Name() + ".pid"}, nil
}

// check refuses ids that are no plain file names, and makes the state directory.
func (r *Runtime) check(id string) error {
	if id == "" || strings.HasPrefix(id, ".") || strings.ContainsAny(id, "/\x00*") {
		return fmt.Errorf("container id %q: %w", id, errdef.ErrInvalid)
	}
	if err := os.MkdirAll(r.State, 0o700); err != nil {
		return fmt.Errorf("runtime state: %w", err)
	}
	return nil
}

func (c *call) clean() {
	os.Remove(c.logFile)
	os.Remove(c.pidFile)
	if c.filter != nil {
		c.filter.Close()
	}
}

// cmd is the runtime's command line.
func (c *call) cmd(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.r.Path, append([]string{"--root", c.r.State, "--log", c.logFile, "--log-format", "json"}, args...)...)
	detach(cmd)
	if name := fileName(c.filter); name != "" {
		cmd.Args[0] = name
	}
	// A nil *os.File in an interface would not be nil.
	if c.stdio.In != nil {
		cmd.Stdin = c.stdio.In
	}
	if c.stdio.Out != nil {
		cmd.Stdout = c.stdio.Out
	}
	if c.stdio.Err != nil {
		cmd.Stderr = c.stdio.Err
	}
	return cmd
}

// detach gives a program of the runtime a process group and an environment of its own. Of ours it gets only what runtimes
// need: they take NOTIFY_SOCKET and LISTEN_FDS for their own.
func detach(cmd *exec.Cmd) {
	// Ctrl-C is for us: we pass on to the container what it is to get.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		cmd.Env = append(cmd.Env, "XDG_RUNTIME_DIR="+dir)
	}
}

func (c *call) pid() (int, error) {
	raw, err := os.ReadFile(c.pidFile)
	if err != nil {
		return 0, fmt.Errorf("container %s: %w", c.id, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil || pid <= 0 {
		return 0, fmt.Errorf("container %s: the runtime's pid file says %.20q: %w", c.id, raw, errdef.ErrCorrupt)
	}
	return pid, nil
}

// facts are what matters here of a bundle's document.
type facts struct {
	Process struct{ Terminal bool }
	Linux   struct{ Seccomp json.RawMessage }
}

func readFacts(bundle string) (f facts, err error) {
	raw, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err != nil {
		return f, fmt.Errorf("bundle: %w", err)
	}
	if err := json.Unmarshal(raw, &f); err != nil {
		return f, fmt.Errorf("bundle %s: %w: %w", bundle, err, errdef.ErrInvalid)
	}
	return f, nil
}
