package container

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

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
}

// Exec runs a command in the container. An error that is a *runtime.StartError by errors.As carries docker's exit code
// 126 or 127. The command ends with this process if it has a terminal or does not endure closed streams.
func (s *Store) Exec(ctx context.Context, rec Record, o ExecOptions) (Result, error) {
	if rec.State.Status == Paused {
		return Result{}, fmt.Errorf("container %s is paused, unpause the container before exec: %w", rec.Name, errdef.ErrConflict)
	}
	if !rec.State.Alive() {
		return Result{}, fmt.Errorf("container %s is not running: %w", rec.ID, errdef.ErrConflict)
	}
	p, err := s.execProcess(rec, o)
	if err != nil {
		return Result{}, engineFailed(err)
	}
	if o.Detach {
		pid, console, err := s.opt.Runtime.Exec(ctx, rec.ID, *p, runtime.Stdio{})
		if err != nil {
			return Result{}, err
		}
		if console != nil {
			console.Close()
		}
		// If we adopt orphans the command is our child now, and as a zombie it would keep the container's end up.
		// Nobody is left to be told how it ended.
		go func() { _, _ = runtime.Wait(context.WithoutCancel(ctx), pid) }()
		return Result{Detached: true}, nil
	}
	if err := runtime.Reap(); err != nil {
		return Result{}, err
	}
	if o.Tty {
		return s.execTerminal(ctx, rec.ID, *p, o)
	}
	wires, err := foreignProof(o.Streams)
	if err != nil {
		return Result{}, err
	}
	pid, _, err := s.opt.Runtime.Exec(ctx, rec.ID, *p, wires.stdio)
	if err != nil {
		wires.end(err)
		return Result{}, err
	}
	wires.begin()
	code, err := runtime.Wait(ctx, pid)
	wires.end(err)
	return Result{Code: code}, err
}

// execProcess describes the command. Its user is looked up in the running container's own files.
func (s *Store) execProcess(rec Record, o ExecOptions) (*specs.Process, error) {
	fd, err := openProcess(rec.State)
	if err != nil {
		return nil, err
	}
	defer closeFd(fd)
	root, err := rootfs.OpenRoot(fmt.Sprintf("/proc/%d/root", rec.State.Pid))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	user, err := runtime.LookupUser(root, first(o.User, rec.Config.User), nil)
	if err != nil {
		return nil, err
	}
	c := rec.Config
	c.Tty = o.Tty
	c.Env = mergeEnv(o.Env, c.Env)
	host := rec.Host
	host.Privileged = host.Privileged || o.Privileged
	p := runtime.Process{
		Args: o.Args, Env: environment(c, user.Home), Cwd: first(o.Cwd, c.WorkingDir, "/"),
		UID: user.UID, GID: user.GID, Groups: slices.Clone(user.Groups), Terminal: o.Tty, Caps: capabilities(host),
	}
	if o.Tty {
		w, h := terminalSize(o.Streams)
		p.Width, p.Height = uint(w), uint(h)
	}
	spec := p.Spec()
	umask := uint32(0o022)
	spec.User.Umask = &umask
	return spec, nil
}

func closeFd(fd int) { os.NewFile(uintptr(fd), "pidfd").Close() }

// execTerminal runs the command on a terminal of its own, which follows the size of ours.
func (s *Store) execTerminal(ctx context.Context, id string, p specs.Process, o ExecOptions) (Result, error) {
	pid, console, err := s.opt.Runtime.Exec(ctx, id, p, runtime.Stdio{})
	if err != nil {
		return Result{}, err
	}
	defer console.Close()
	restore, err := rawTerminal(o.Streams.In)
	if err != nil {
		return Result{}, err
	}
	defer restore()
	c := control{console: console}
	stop := onResize(func() {
		if w, h := terminalSize(o.Streams); w > 0 {
			_ = c.resize(w, h) // a command in a window of the wrong size goes on
		}
	})
	defer stop()
	if o.Streams.In != nil {
		go func() { _, _ = io.Copy(console, o.Streams.In) }() // fails when the command has ended
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if o.Streams.Out != nil {
			_, _ = io.Copy(o.Streams.Out, console) // ends with EIO when the last user is gone
		}
	})
	code, err := runtime.Wait(ctx, pid)
	drain(&wg, console)
	return Result{Code: code}, err
}

// drain waits for the copier of a terminal, whose other side a background process may keep open for as long as it likes.
func drain(wg *sync.WaitGroup, console *os.File) {
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(terminalDrain):
		console.Close()
	}
}
