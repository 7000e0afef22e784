package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"strata/internal/cgroup"
	"strata/internal/errdef"
	"strata/internal/rootfs"
	"strata/internal/runtime"
)

// terminalDrain is how long what a command's background processes still write to its terminal is shown after its end.
const terminalDrain = 200 * time.Millisecond

// ExecOptions is a command to run in a running container.
type ExecOptions struct {
	Args, Env  []string
	Cwd, User  string // "" as the container's own
	Tty        bool
	Privileged bool
	// Detach starts the command without streams and does not wait for it.
	Detach  bool
	Streams Streams // In nil gives it no input
	// DetachKeys as docker writes them, for a terminal's user; "" is ctrl-p,ctrl-q.
	DetachKeys string
}

// Exec runs a command in the container. An error that is a *runtime.StartError by errors.As carries docker's exit code
// 125, 126 or 127. A command with a terminal or input has a shim of its own and goes on when this process ends; one without ends
// with this process if it does not endure closed streams.
func (s *Store) Exec(ctx context.Context, rec Record, o ExecOptions) (Result, error) {
	res, err := s.exec(ctx, rec, o)
	if res.Detached {
		return res, err
	}
	return s.explainExec(rec, o, res, err)
}

func (s *Store) exec(ctx context.Context, rec Record, o ExecOptions) (Result, error) {
	if rec.State.Status == Paused {
		return Result{}, fmt.Errorf("container %s is paused, unpause the container before exec: %w", rec.Name, errdef.ErrConflict)
	}
	if !rec.State.Alive() {
		return Result{}, notRunning(rec)
	}
	// The runtime does the same again, but starts too late for the wait to be over in time.
	stop := cgroup.Machine().Hasten()
	defer stop()
	p, root, err := s.execProcess(rec, o)
	if errors.Is(err, errdef.ErrConflict) {
		return Result{}, err
	}
	if err != nil {
		return Result{}, engineFailed(err)
	}
	root.Close()
	told := s.newExecution(rec, o.Args)
	if o.Tty || o.Streams.In != nil && !o.Detach {
		return s.execSupervised(ctx, told, *p, o)
	}
	if o.Detach {
		pid, _, err := s.runtime(rec).Exec(ctx, rec.ID, s.bundleDir(rec.ID), *p, runtime.Stdio{})
		if err != nil {
			return Result{}, err
		}
		told.started()
		// If we adopt orphans the command is our child now, and as a zombie it would keep the container's end up.
		// Nobody is left to tell how it ended.
		go func() { _, _ = runtime.Wait(context.WithoutCancel(ctx), pid) }()
		return Result{Detached: true}, nil
	}
	if err := runtime.Reap(); err != nil {
		return Result{}, err
	}
	wires, err := foreignProof(o.Streams, rec.Host.Access.IDs)
	if err != nil {
		return Result{}, err
	}
	stop()
	pid, _, err := s.runtime(rec).Exec(ctx, rec.ID, s.bundleDir(rec.ID), *p, wires.stdio)
	if err != nil {
		wires.end(err)
		return Result{}, err
	}
	told.started()
	wires.begin()
	code, err := runtime.Wait(ctx, pid)
	wires.end(err)
	told.died(code, err)
	return Result{Code: code}, err
}

func notRunning(rec Record) error {
	return errdef.WithHint(fmt.Errorf("container %s is not running: %w", rec.ID, errdef.ErrConflict), "strata start "+rec.Name)
}

// execProcess describes the command, and gives the running container's tree, for the caller to close: the user is looked up
// in its own files.
func (s *Store) execProcess(rec Record, o ExecOptions) (p *specs.Process, root *rootfs.Root, err error) {
	fd, err := openProcess(rec.State)
	if err == nil {
		defer closeFd(fd)
		root, err = rootfs.OpenRoot(fmt.Sprintf("/proc/%d/root", rec.State.Pid))
	}
	if errors.Is(err, errdef.ErrNotFound) {
		err = notRunning(rec) // it has just ended
	}
	if err != nil {
		return nil, nil, err
	}
	user, err := runtime.LookupUser(root, first(o.User, rec.Config.User), rec.Host.Access.GroupAdd)
	if err != nil {
		root.Close()
		return nil, nil, err
	}
	if err := rec.Host.Access.IDs.has(user); err != nil {
		root.Close()
		return nil, nil, err
	}
	c := rec.Config
	c.Tty = o.Tty
	c.Env = mergeEnv(o.Env, c.Env)
	host := rec.Host
	host.Privileged = host.Privileged || o.Privileged
	process := runtime.Process{
		Args: o.Args, Env: environment(c, user.Home), Cwd: first(o.Cwd, c.WorkingDir, "/"),
		UID: user.UID, GID: user.GID, Groups: slices.Clone(user.Groups), Terminal: o.Tty, Caps: capabilities(host, s.onHost(rec)),
		NoNewPrivileges: rec.Host.Access.Security.NoNewPrivileges, Rlimits: rlimits(rec.Host.Access.Ulimits), OOMScoreAdj: set(rec.Host.Access.OOMScoreAdj),
	}
	if o.Tty {
		w, h := terminalSize(o.Streams)
		process.Width, process.Height = uint(w), uint(h)
	}
	p = process.Spec()
	umask := uint32(0o022)
	p.User.Umask = &umask
	return p, root, nil
}

func closeFd(fd int) { os.NewFile(uintptr(fd), "pidfd").Close() }
