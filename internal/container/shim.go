package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	goruntime "runtime"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/runtime"
)

// shimName is the shim's argv[0].
const shimName = "strata-shim"

// drainTime bounds how long a shim reads on after the container's first process has ended: only a process that was
// given the streams from outside the container's pid namespace can still hold them.
const drainTime = 5 * time.Second

// pipeSize is how much of its output a container can write ahead of its shim.
const pipeSize = 256 << 10

// shimArgs is what the starter tells the shim, as JSON in argv[1]. Descriptor 3 is where the shim reports, 4 the starter's
// attachment if Attach is set.
type shimArgs struct {
	Place         Place
	ID            string
	Attach        bool   `json:",omitempty"`
	Out, Err      bool   `json:",omitempty"`
	Width, Height uint16 `json:",omitempty"`
}

// shimReport is what the shim tells the starter, once: that the container runs, or why not.
type shimReport struct {
	OK      bool
	Started bool                `json:",omitempty"` // by somebody else
	Failure *runtime.StartError `json:",omitempty"`
	Hint    string              `json:",omitempty"` // the mending line
}

// IsShim reports whether a program with this argv[0] was started to be a shim.
func IsShim(argv0 string) bool { return argv0 == shimName || argv0 == execName }

// ShimMain is the whole program of a shim: it starts the container that args name, serves its attachments, keeps its
// log, records its end. Or it stands by one command of an exec. open gives the store at the place that the starter's store has. It returns the process's exit
// code. It must be called before anything else is set up: the shim stays for as long as the container, and small.
func ShimMain(ctx context.Context, args []string, open func(Place) (*Store, error)) int {
	debug.SetGCPercent(20)
	goruntime.GOMAXPROCS(2)
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGPIPE)
	unix.CloseOnExec(3)
	report := os.NewFile(3, "report")
	told := func(failure error) { tell(report, failure) }
	var err error
	if args[0] == execName {
		err = execShim(ctx, open, told)
	} else {
		var a shimArgs
		if len(args) != 2 || json.Unmarshal([]byte(args[1]), &a) != nil || !validID(a.ID) {
			return 125
		}
		err = shim(ctx, a, open, told)
	}
	if err != nil {
		tell(report, err) // no effect when it was told already
		return 125
	}
	return 0
}

// tell reports once; later calls find the pipe closed.
func tell(report *os.File, failure error) {
	r := shimReport{OK: failure == nil, Started: errors.Is(failure, errStarted)}
	if failure != nil {
		r.Failure, r.Hint = &runtime.StartError{Exit: 125, Message: failure.Error()}, errdef.Hint(failure)
		var se *runtime.StartError
		if errors.As(failure, &se) {
			r.Failure.Exit, r.Failure.Raw, r.Failure.Problem = se.Exit, se.Raw, se.Problem
			if se.Problem != nil {
				r.Failure.Message = se.Message // the rest is the problem's
			}
		}
	}
	if raw, err := json.Marshal(r); err == nil {
		_, _ = report.Write(raw) // fails when the starter is gone, or was told already
	}
	report.Close()
}

func shim(ctx context.Context, a shimArgs, open func(Place) (*Store, error), told func(error)) error {
	var starter net.Conn
	if a.Attach {
		conn, err := starterAttachment()
		if err != nil {
			return err
		}
		starter = conn
		defer starter.Close()
	}
	s, err := open(a.Place)
	if err != nil {
		return err
	}
	if err := runtime.Reap(); err != nil {
		return err
	}
	v, err := s.supervise(ctx, a.ID)
	if err != nil {
		return err
	}
	if a.Width > 0 {
		v.rec.Host.ConsoleWidth, v.rec.Host.ConsoleHeight = a.Width, a.Height
	}
	c := newControl(v.rec, func() error { return v.resolve(ctx) })
	if starter != nil {
		c.hub.add(&client{frames: frames{conn: starter}, out: a.Out, err: a.Err, starter: true})
	}
	return v.attend(ctx, c, told)
}

// starterAttachment is descriptor 4.
func starterAttachment() (net.Conn, error) {
	unix.CloseOnExec(4)
	f := os.NewFile(4, "attachment")
	defer f.Close()
	return net.FileConn(f)
}

// serve starts the container and stays with it until its streams are read and its end is known.
func (v *supervision) serve(ctx context.Context, c *control, told func(error)) (int, error) {
	rec := &v.rec
	if path := v.s.LogPath(*rec); path != "" {
		log, err := openLog(path, rec.Host.Log, rec.Host.Log.attributes(rec.Config))
		if err != nil {
			return 0, err
		}
		defer log.close()
		c.hub.log = log
	}
	l, err := v.s.listen(rec.ID)
	if err != nil {
		return 0, err
	}
	defer l.Close()
	if err := v.open(ctx, shrink); err != nil {
		return 0, err
	}
	pid, outputs, err := v.launch(ctx, c)
	if err != nil {
		return 0, err
	}
	if err := v.started(ctx, pid, true); err != nil && rec.State.Status != Running {
		// It has ended already: that is no failure to start. It ran, and its end is about to be read.
		rec.State = State{Status: Running, Supervisor: os.Getpid(), Shim: true, StartedAt: time.Now().UTC(), RestartCount: v.restarts, Health: newHealth(rec.Config)}
	}
	drained := c.begin(outputs)
	go c.serve(l)
	told(nil)
	shrink()
	healthy := v.watchHealth(ctx, pid)
	code, err := runtime.Wait(ctx, pid)
	healthy()
	if err != nil {
		code, rec.State.Error = 255, err.Error()
	}
	r := v.s.runtime(*rec)
	gone := false
	if r.Shares() { // no kernel ended the container's other processes with its first
		gone = r.Delete(ctx, rec.ID, true) == nil
	}
	c.hub.drain(outputs, drained, drainTime)
	code = v.lookBack(code)
	rec.State.OOMKilled = v.group != nil && v.group.OOMKills() > 0
	if !gone {
		_ = r.Delete(ctx, rec.ID, true) // else the next start deletes it, and says why if it cannot
	}
	return code, nil
}

type output struct {
	kind kind
	f    *os.File
}

// launch starts the container with pipes or a terminal and gives the ends to read.
func (v *supervision) launch(ctx context.Context, c *control) (pid int, outputs []output, err error) {
	stdio, outputs, err := c.wire(v.rec.Config.Tty, v.rec.Config.OpenStdin, v.rec.Host.Access.IDs)
	defer closeStdio(stdio)
	if err != nil {
		return 0, nil, err
	}
	err = v.inMounts(ctx, func(bundle string) (err error) {
		pid, c.console, err = v.s.runtime(v.rec).Start(ctx, v.rec.ID, bundle, stdio)
		if err != nil {
			_ = runtime.Examine(bundle, 0, err) // what it finds is in err
		}
		return err
	})
	if err == nil && c.console != nil {
		outputs = c.wireConsole(v.rec.Config.OpenStdin)
	}
	return pid, outputs, err
}

// wire makes the pipes of a process; one with a terminal has none. stdio are its ends, for the caller to close.
func (c *control) wire(tty, stdin bool, ids *IDs) (stdio runtime.Stdio, outputs []output, err error) {
	if tty {
		return stdio, nil, nil
	}
	pipe := func() (r, w *os.File) {
		if err == nil {
			r, w, err = ids.pipe()
		}
		return r, w
	}
	var out, errs *os.File
	out, stdio.Out = pipe()
	errs, stdio.Err = pipe()
	widen(stdio.Out)
	widen(stdio.Err)
	if stdin {
		stdio.In, c.stdin = pipe()
	}
	return stdio, []output{{frameStdout, out}, {frameStderr, errs}}, err
}

// widen makes a pipe hold more, so that who writes much and who reads it take turns less often. The kernel may refuse it to a
// user who has many, and then it stays as it is.
func widen(pipe *os.File) {
	if pipe != nil {
		_, _ = unix.FcntlInt(pipe.Fd(), unix.F_SETPIPE_SZ, pipeSize)
	}
}

// wireConsole is [control.wire] for the terminal that the runtime has given.
func (c *control) wireConsole(stdin bool) []output {
	if stdin {
		c.stdin = c.console
	}
	return []output{{frameStdout, c.console}}
}

func closeStdio(stdio runtime.Stdio) {
	for _, f := range []*os.File{stdio.In, stdio.Out, stdio.Err} {
		if f != nil {
			f.Close()
		}
	}
}

// begin starts the copiers; the channel is closed when all output has been read.
func (c *control) begin(outputs []output) <-chan struct{} {
	var wg sync.WaitGroup
	for _, o := range outputs {
		wg.Go(func() { c.hub.copy(o.kind, o.f) })
	}
	for _, cl := range c.hub.all() {
		go c.input(cl)
	}
	drained := make(chan struct{})
	go func() {
		wg.Wait()
		close(drained)
	}()
	return drained
}

func (s *Store) shimProgram() string {
	if s.opt.Program != "" {
		return s.opt.Program
	}
	return "/proc/self/exe"
}

func readReport(r *os.File) (shimReport, error) {
	var report shimReport
	if err := json.NewDecoder(r).Decode(&report); err != nil {
		return report, fmt.Errorf("container: its shim died at the start: %w", err)
	}
	return report, nil
}
