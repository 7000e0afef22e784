package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/program"
)

// StartOptions says how to start a container.
type StartOptions struct {
	// Attach connects Streams and returns when the container ends or is left by the detach keys.
	Attach  bool
	Streams Streams
	// DetachKeys as docker writes them; "" is ctrl-p,ctrl-q.
	DetachKeys string
	// SigProxy sends the signals that this process gets on to the container. It has no effect with a terminal.
	SigProxy bool
}

// Result is how an attended run ended.
type Result struct {
	Code int
	// Detached: the container goes on; Code says nothing.
	Detached bool
	// Problem says, beside a Code of 126 or 127, why something could not be executed, if the container's files tell.
	Problem *program.Problem
}

// Start starts a created or ended container. A container that could not be started gives an error that is a
// *runtime.StartError by errors.As, with docker's exit code 125, 126 or 127; one with AutoRemove is removed then.
//
// A container in the foreground that removes itself and has neither terminal nor input is supervised by this process; every
// other by a shim, and Start returns no sooner than it runs.
func (s *Store) Start(ctx context.Context, rec Record, o StartOptions) (Result, error) {
	rec, err := s.settled(ctx, rec)
	if err != nil {
		return Result{}, err
	}
	if rec.State.Status == Paused {
		return Result{}, fmt.Errorf("cannot start a paused container, try unpause instead: container %s: %w", rec.Name, errdef.ErrConflict)
	}
	if rec.State.Status == Restarting && !o.Attach {
		return Result{Detached: true}, nil
	}
	if rec.State.Supervised() {
		if !o.Attach {
			return Result{Detached: true}, nil
		}
		return s.Attach(ctx, rec, AttachOptions{Streams: o.Streams, DetachKeys: o.DetachKeys, SigProxy: o.SigProxy})
	}
	if o.Attach {
		s.Emit(rec, "attach")
	}
	res, err := s.start(ctx, rec, o)
	if !errors.Is(err, errStarted) {
		return res, err
	}
	if rec, err = s.Lookup(ctx, rec.ID); err != nil {
		return Result{}, err
	}
	return s.Start(ctx, rec, o)
}

func (s *Store) start(ctx context.Context, rec Record, o StartOptions) (Result, error) {
	if o.Attach && rec.Host.AutoRemove && !rec.Config.Tty && !rec.Config.OpenStdin && !checked(rec.Config.Healthcheck) {
		o.Streams.In = nil
		return s.runHere(ctx, rec.ID, o)
	}
	return s.startShim(ctx, rec, o)
}

// settled waits while the container has ended, or its supervisor has, and its record does not say so yet: the supervisor is about to
// record it, or somebody who clears up after one that was killed.
func (s *Store) settled(ctx context.Context, rec Record) (Record, error) {
	untold := func(rec Record) bool { return rec.State.Supervised() && !attended(rec.State) }
	var err error
	for end := time.Now().Add(lockWait); err == nil && untold(rec) && time.Now().Before(end); {
		rec, err = s.outlast(ctx, rec, func(rec Record) bool { return untold(rec) && s.held(rec.ID) })
		if err == nil && untold(rec) {
			rec, err = s.Lookup(ctx, rec.ID)
		}
	}
	return rec, err
}

// startShim starts a shim for the container and waits for its report.
func (s *Store) startShim(ctx context.Context, rec Record, o StartOptions) (Result, error) {
	keys, err := ParseDetachKeys(o.DetachKeys)
	if err != nil {
		return Result{}, engineFailed(err)
	}
	a := shimArgs{Place: s.opt.Place, ID: rec.ID, Attach: o.Attach, Out: o.Streams.Out != nil, Err: o.Streams.Err != nil}
	if o.Attach && rec.Config.Tty {
		a.Width, a.Height = terminalSize(o.Streams)
	}
	var proxy *signalProxy
	if o.Attach && o.SigProxy && !rec.Config.Tty {
		proxy = catchSignals()
		defer proxy.stop()
	}
	conn, err := s.spawn(a)
	if err != nil {
		return Result{}, engineFailed(err)
	}
	if conn == nil {
		return Result{Detached: true}, nil
	}
	if proxy != nil {
		if cur, err := s.get(rec.ID); err == nil {
			proxy.forward(func(sig os.Signal) { s.proxied(cur, sig) })
		}
	}
	if !rec.Config.OpenStdin {
		o.Streams.In = nil
	}
	return s.attend(ctx, rec, conn, o.Streams, keys)
}

// spawn starts the container's shim.
func (s *Store) spawn(a shimArgs) (net.Conn, error) {
	raw, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	return s.spawnProgram([]string{shimName, string(raw)}, a.Attach)
}

// spawnProgram starts this program as a shim and returns when it reports; conn is the attachment, nil if none was asked
// for. The shim gets files after those.
func (s *Store) spawnProgram(args []string, attach bool, more ...*os.File) (conn net.Conn, err error) {
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	files := []*os.File{writer}
	defer func() { closeAll(files) }()
	if attach {
		var theirs *os.File
		if conn, theirs, err = pair(); err != nil {
			return nil, err
		}
		files = append(files, theirs)
	}
	cmd := exec.Cmd{
		Path: s.shimProgram(), Args: args, Dir: "/", Env: os.Environ(), ExtraFiles: append(files, more...),
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err = cmd.Start(); err != nil {
		err = fmt.Errorf("container shim: %w", err)
	} else {
		// Nobody waits for the shim: it outlives us. Should we live on, it must not stay a zombie.
		go func() { _ = cmd.Wait() }()
		closeAll(files)
		files = nil
		err = reported(reader)
	}
	if err != nil && conn != nil {
		conn.Close()
	}
	return conn, err
}

func reported(reader *os.File) error {
	r, err := readReport(reader)
	if err == nil && r.Started {
		return errStarted
	}
	if err != nil || r.OK || r.Failure == nil {
		return err
	}
	if r.Hint != "" {
		return errdef.WithHint(r.Failure, r.Hint)
	}
	return r.Failure
}

// pair makes a connected pair of sockets: ours, and one to hand to the shim.
func pair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("container attachment: %w", err)
	}
	ours := os.NewFile(uintptr(fds[0]), "attachment")
	defer ours.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		unix.Close(fds[1])
		return nil, nil, err
	}
	return conn, os.NewFile(uintptr(fds[1]), "attachment"), nil
}

// AttachOptions says how to attach to a running container.
type AttachOptions struct {
	Streams    Streams // In nil sends no input
	DetachKeys string
	SigProxy   bool
}

// Attach connects the streams to a running container until it ends or the detach keys are typed. Nothing of what it wrote before is shown.
func (s *Store) Attach(ctx context.Context, rec Record, o AttachOptions) (Result, error) {
	keys, err := ParseDetachKeys(o.DetachKeys)
	if err != nil {
		return Result{}, err
	}
	switch {
	case rec.State.Status == Paused:
		return Result{}, fmt.Errorf("you cannot attach to a paused container, unpause it first: %w", errdef.ErrConflict)
	case rec.State.Status == Restarting:
		return Result{}, fmt.Errorf("you cannot attach to a restarting container, wait until it is running: %w", errdef.ErrConflict)
	case !rec.State.Alive():
		return Result{}, fmt.Errorf("you cannot attach to a stopped container, start it first: %w", errdef.ErrConflict)
	case !rec.State.Shim:
		return Result{}, inForeground(rec)
	}
	if !rec.Config.OpenStdin {
		o.Streams.In = nil
	}
	conn, err := s.call(ctx, rec.ID, request{Op: "attach", In: o.Streams.In != nil, Out: o.Streams.Out != nil, Err: o.Streams.Err != nil})
	if err != nil {
		return Result{}, err
	}
	s.Emit(rec, "attach")
	if o.SigProxy && !rec.Config.Tty {
		proxy := catchSignals()
		defer proxy.stop()
		proxy.forward(func(sig os.Signal) { s.proxied(rec, sig) })
	}
	if rec.Config.Tty {
		s.resize(ctx, rec, o.Streams)
	}
	return s.attend(ctx, rec, conn, o.Streams, keys)
}

// attend attends to an attachment of the container.
func (s *Store) attend(ctx context.Context, rec Record, conn net.Conn, st Streams, keys []byte) (Result, error) {
	return attachment{
		frames: &frames{conn: conn}, tty: rec.Config.Tty, streams: st, keys: keys,
		resize: func() { s.resize(ctx, rec, st) },
		lost:   func(cause error) (Result, error) { return s.lost(ctx, rec, cause) },
	}.attend(ctx)
}

// attachment is the caller's side of a connection to a shim.
type attachment struct {
	*frames
	tty     bool
	streams Streams
	keys    []byte                            // that detach; only a terminal's user types keys
	resize  func()                            // tells the other side the size of our terminal
	lost    func(cause error) (Result, error) // finds out how it ended when the connection breaks
}

// attend moves the streams until the end.
func (a attachment) attend(ctx context.Context) (Result, error) {
	defer a.conn.Close()
	f, st, keys := a.frames, a.streams, a.keys
	if a.tty {
		restore, err := rawTerminal(st.In)
		if err != nil {
			return Result{}, err
		}
		defer restore()
		stop := onResize(a.resize)
		defer stop()
	}
	leaving, detached := make(chan struct{}), make(chan struct{})
	if st.In != nil {
		if !a.tty {
			keys = nil
		}
		go sendInput(f, st.In, keys, leaving, detached)
	}
	type end struct {
		res Result
		err error
	}
	ended := make(chan end, 1)
	go func() {
		res, err := showOutput(f, st)
		ended <- end{res, err}
	}()
	select {
	case e := <-ended:
		if e.err == nil {
			return e.res, nil
		}
		select {
		case <-leaving: // the shim closed its side because we asked it to
			return Result{Detached: true}, nil
		default:
			return a.lost(e.err)
		}
	case <-detached:
		return Result{Detached: true}, nil
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
}

// sendInput sends what is read from in, until its end or the detach keys: then leaving is closed before the shim is told,
// detached after.
func sendInput(f *frames, in *os.File, keys []byte, leaving, detached chan<- struct{}) {
	filter := detachFilter{keys: keys}
	buf := make([]byte, 32<<10)
	for {
		n, err := in.Read(buf)
		p, detach := filter.pass(buf[:n])
		if len(p) > 0 && f.send(frameStdin, p, 0) != nil {
			return
		}
		if detach {
			close(leaving)
			_ = f.send(frameDetach, nil, 0) // the shim has let go of us already if this fails
			close(detached)
			return
		}
		if err != nil {
			_ = f.send(frameStdin, nil, 0) // where nobody listens, nobody waits for the end
			return
		}
	}
}

// showOutput writes what comes to the streams, until the exit frame.
func showOutput(f *frames, st Streams) (res Result, err error) {
	for {
		k, p, err := f.receive()
		if err != nil {
			return res, err
		}
		switch {
		case k == frameExit:
			res.Code, err = exitCode(p)
			return res, err
		case k == frameProblem:
			err = json.Unmarshal(p, &res.Problem)
		case k == frameStdout && st.Out != nil:
			_, err = st.Out.Write(p)
		case k == frameStderr && st.Err != nil:
			_, err = st.Err.Write(p)
		}
		// A reader of ours that went away (EPIPE) is none of the container's business.
		if err != nil && !errors.Is(err, unix.EPIPE) {
			return res, err
		}
	}
}

// lost finds out how a container ended whose attachment broke without an exit code.
func (s *Store) lost(ctx context.Context, rec Record, cause error) (Result, error) {
	if s.held(rec.ID) {
		return Result{}, fmt.Errorf("container %s: attachment: %w", rec.Name, cause)
	}
	cur, err := s.get(rec.ID)
	if err == nil {
		cur, err = s.reconcile(ctx, cur)
	}
	if err != nil {
		return Result{}, fmt.Errorf("container %s: its shim was lost: %w", rec.Name, errdef.ErrUnavailable)
	}
	if cur.State.Error != "" {
		return Result{}, fmt.Errorf("container %s: %s: %w", rec.Name, cur.State.Error, errdef.ErrUnavailable)
	}
	return Result{Code: cur.State.ExitCode}, nil
}

// resize tells the shim the size of the caller's terminal.
func (s *Store) resize(ctx context.Context, rec Record, st Streams) {
	w, h := terminalSize(st)
	if w == 0 || h == 0 {
		return
	}
	if conn, err := s.call(ctx, rec.ID, request{Op: "resize", Width: w, Height: h}); err == nil {
		conn.Close()
		s.Emit(rec, "resize", "height", strconv.Itoa(int(h)), "width", strconv.Itoa(int(w)))
	}
}
