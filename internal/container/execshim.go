package container

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/runtime"
)

// A command of exec that has a terminal or input has a shim of its own: it holds the terminal or the pipes, so that the
// command goes on when the caller detaches or is killed. It serves one attachment, the caller's; nobody can come back to it.

// execName is such a shim's argv[0].
const execName = "strata-exec"

// execArgs is what the caller tells the shim, as JSON in a file: descriptor 5. A command line has no room for a large
// environment, and shows it to all users. Descriptors 3 and 4 are those of a container's shim.
type execArgs struct {
	Place        Place
	ID           string // the container's
	Exec         string // the execution's, for events
	Process      specs.Process
	In, Out, Err bool
}

// maxExecArgs bounds them: the kernel gives no program more.
const maxExecArgs = 16 << 20

// execFile makes the file.
func execFile(a execArgs) (*os.File, error) {
	raw, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	if len(raw) > maxExecArgs {
		return nil, fmt.Errorf("command of %d bytes: %w", len(raw), errdef.ErrLimit)
	}
	fd, err := unix.MemfdCreate("exec", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("exec: %w", err)
	}
	f := os.NewFile(uintptr(fd), "exec")
	if _, err := f.WriteAt(raw, 0); err != nil { // the shim reads from the beginning
		f.Close()
		return nil, fmt.Errorf("exec: %w", err)
	}
	return f, nil
}

func readExecArgs() (a execArgs, err error) {
	unix.CloseOnExec(5)
	f := os.NewFile(5, "exec")
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxExecArgs))
	if err == nil {
		err = json.Unmarshal(raw, &a)
	}
	if err == nil && !validID(a.ID) {
		err = fmt.Errorf("container id %q: %w", a.ID, errdef.ErrInvalid)
	}
	return a, err
}

// execShim is the whole work of the shim: it starts the command and stays with it until its streams are read and its end is
// known.
func execShim(ctx context.Context, open func(Place) (*Store, error), told func(error)) error {
	conn, err := starterAttachment()
	if err != nil {
		return err
	}
	defer conn.Close()
	a, err := readExecArgs()
	if err != nil {
		return err
	}
	s, err := open(a.Place)
	if err != nil {
		return err
	}
	rec, err := s.there(a.ID)
	if err != nil {
		return err
	}
	if err := runtime.Reap(); err != nil {
		return err
	}
	c := &control{hub: &hub{patience: defaultPatience}, stdinOnce: true}
	c.hub.add(&client{frames: frames{conn: conn}, out: a.Out, err: a.Err, starter: true})
	pid, outputs, err := s.launchExec(ctx, rec, a, c)
	if err != nil {
		return err
	}
	e := execution{s, rec, a.Exec, commandLine(a.Process.Args)}
	e.started()
	drained := c.begin(outputs)
	told(nil)
	shrink()
	code, err := runtime.Wait(ctx, pid)
	patience := drainTime
	if a.Process.Terminal {
		patience = terminalDrain
	}
	c.hub.drain(outputs, drained, patience)
	if err != nil {
		return err
	}
	e.died(code, nil)
	c.hub.exit(code, nil) // the caller finds out what explains it
	return nil
}

// launchExec starts the command with pipes or a terminal and gives the ends to read.
func (s *Store) launchExec(ctx context.Context, rec Record, a execArgs, c *control) (pid int, outputs []output, err error) {
	stdio, outputs, err := c.wire(a.Process.Terminal, a.In, rec.Host.Access.IDs)
	defer closeStdio(stdio)
	if err != nil {
		return 0, nil, err
	}
	pid, c.console, err = s.runtime(rec).Exec(ctx, a.ID, s.bundleDir(a.ID), a.Process, stdio)
	if err == nil && c.console != nil {
		outputs = c.wireConsole(a.In)
	}
	return pid, outputs, err
}

// execSupervised runs the command by a shim and attends to it.
func (s *Store) execSupervised(ctx context.Context, told execution, p specs.Process, o ExecOptions) (Result, error) {
	keys, err := ParseDetachKeys(o.DetachKeys)
	if err != nil {
		return Result{}, err
	}
	if o.Detach {
		o.Streams = Streams{}
	}
	args, err := execFile(execArgs{
		Place: s.opt.Place, ID: told.rec.ID, Exec: told.id, Process: p,
		In: o.Streams.In != nil, Out: o.Streams.Out != nil, Err: o.Streams.Err != nil,
	})
	if err != nil {
		return Result{}, engineFailed(err)
	}
	defer args.Close()
	conn, err := s.spawnProgram([]string{execName, ShortID(told.rec.ID)}, true, args)
	if err != nil {
		return Result{}, engineFailed(err)
	}
	if o.Detach {
		return Result{Detached: true}, conn.Close()
	}
	f := &frames{conn: conn}
	res, err := attachment{
		frames: f, tty: o.Tty, streams: o.Streams, keys: keys,
		resize: func() {
			if w, h := terminalSize(o.Streams); w > 0 {
				_ = f.send(frameResize, resizePayload(w, h), 0) // the command has ended if this fails
			}
		},
		lost: func(cause error) (Result, error) {
			return Result{}, fmt.Errorf("exec in container %s: its shim was lost (%w): %w", told.rec.Name, cause, errdef.ErrUnavailable)
		},
	}.attend(ctx)
	if res.Detached {
		told.s.Emit(told.rec, "exec_detach", "execID", told.id)
	}
	return res, err
}
