package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/mount"
	"strata/internal/stepwire"
)

// Runner runs containers in one warm helper program instead of starting the runtime for each: the same libcontainer, in
// about half the time. The containers die with this process, however it ends. Many may run at once.
type Runner struct {
	runtime *Runtime
	cmd     *exec.Cmd
	conn    *net.UnixConn
	said    *report // what the helper printed: nothing, if all is well
	filter  sync.Once

	mu     sync.Mutex
	last   uint64
	calls  map[uint64]chan stepwire.Reply
	ended  error // why nothing more can be run
	reader sync.WaitGroup
}

// Runner starts the helper for containers of this runtime. errdef.ErrUnavailable: this is not strata's own runtime, or
// the helper is not beside it.
func (r *Runtime) Runner() (*Runner, error) {
	path, _, err := r.Helper()
	if err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("runner: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "runner")
	defer theirs.Close()
	conn, err := stepwire.Conn(os.NewFile(uintptr(pair[0]), "runner"))
	if err != nil {
		return nil, fmt.Errorf("runner: %w", err)
	}
	n := &Runner{runtime: r, conn: conn, said: &report{}, calls: map[uint64]chan stepwire.Reply{}}
	n.cmd = exec.Command(path)
	detach(n.cmd)
	n.cmd.ExtraFiles = []*os.File{theirs} // stepwire.FD
	n.cmd.Stderr = n.said
	if err := startOutside(n.cmd); err != nil {
		conn.Close()
		return nil, &StartError{Exit: 125, Message: fmt.Sprintf("runtime %s: %v", path, err), Raw: err.Error()}
	}
	n.reader.Go(n.read)
	return n, nil
}

// startOutside starts cmd from a goroutine that is in no private mount namespace, even if the caller is.
func startOutside(cmd *exec.Cmd) error {
	done := make(chan error, 1)
	go func() { done <- cmd.Start() }()
	return <-done
}

// Run is [Runtime.Run], but for two things: the container's process has stdio itself, nothing stands between; and when it
// returns the process has ended and the container is being deleted, so that the id may not be used again at once.
func (n *Runner) Run(ctx context.Context, id, bundle string, stdio Stdio, started func(pid int)) (code int, err error) {
	if err := n.runtime.check(id); err != nil {
		return 0, err
	}
	n.filter.Do(func() { n.sendFilter(ctx, bundle) })
	files, err := passed(stdio)
	if err != nil {
		return 0, fmt.Errorf("container %s: %w", id, err)
	}
	seq, replies, err := n.register()
	if err == nil {
		req := stepwire.Request{Seq: seq, ID: id, Bundle: bundle, State: n.runtime.State}
		err = stepwire.Send(n.conn, req, files...)
		defer n.forget(seq)
	}
	stepwire.CloseAll(files)
	if err != nil {
		return 0, fmt.Errorf("container %s: %w", id, err)
	}
	stop := context.AfterFunc(ctx, func() {
		_ = stepwire.Send(n.conn, stepwire.Request{Seq: seq, Kill: true}) // else the helper has gone, and the container too
	})
	defer stop()
	code, err = n.follow(replies, started)
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	return code, err
}

// sendFilter sends the compiled filter of a first container, which is that of all steps of a build.
func (n *Runner) sendFilter(ctx context.Context, bundle string) {
	facts, err := readFacts(bundle)
	if err != nil {
		return // the container's start will say so
	}
	if f := n.runtime.filter(ctx, facts.Linux.Seccomp); f != nil {
		_ = stepwire.Send(n.conn, stepwire.Request{Filter: true}, f) // without it each container compiles its own
		f.Close()
	}
}

// passed are the files that go with a request: the namespace of the calling thread and three of the process.
func passed(stdio Stdio) (files []*os.File, err error) {
	defer func() {
		if err != nil {
			stepwire.CloseAll(files)
		}
	}()
	ns, err := mount.Namespace()
	if err != nil {
		return nil, err
	}
	files = append(files, ns)
	for _, f := range []*os.File{stdio.In, stdio.Out, stdio.Err} {
		var own *os.File
		if f == nil {
			own, err = os.OpenFile(os.DevNull, os.O_RDWR, 0)
		} else {
			own, err = duplicate(f)
		}
		if err != nil {
			return files, err
		}
		files = append(files, own)
	}
	return files, nil
}

func duplicate(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// follow reads what the helper tells of a container, to its end.
func (n *Runner) follow(replies <-chan stepwire.Reply, started func(pid int)) (code int, err error) {
	process := -1
	defer func() {
		if process >= 0 {
			unix.Close(process)
		}
	}()
	for reply := range replies {
		switch {
		case reply.Error != "":
			return 0, newStartError(reply.Error)
		case reply.Pid == 0:
			return reply.Code, nil
		}
		if fd, err := unix.PidfdOpen(reply.Pid, 0); err == nil { // else it has ended
			process = fd
		}
		if started != nil {
			started(reply.Pid)
		}
	}
	// The helper has gone, which only another's kill can have done. What it ran must not stay.
	if process >= 0 {
		_ = unix.PidfdSendSignal(process, unix.SIGKILL, nil, 0)
	}
	return 0, n.failure()
}

func (n *Runner) register() (uint64, chan stepwire.Reply, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ended != nil {
		return 0, nil, n.ended
	}
	n.last++
	replies := make(chan stepwire.Reply, 2)
	n.calls[n.last] = replies
	return n.last, replies, nil
}

func (n *Runner) forget(seq uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.calls, seq)
}

func (n *Runner) failure() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ended
}

// read hands the replies to those who wait for them.
func (n *Runner) read() {
	var err error
	for err == nil {
		var reply stepwire.Reply
		var files []*os.File
		if files, err = stepwire.Receive(n.conn, &reply); err == nil {
			stepwire.CloseAll(files)
			n.deliver(reply)
		}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		err = errors.New("it has ended")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ended = fmt.Errorf("runtime %s: %w%s: %w", n.cmd.Path, err, n.said, errdef.ErrUnavailable)
	for _, replies := range n.calls {
		close(replies)
	}
}

// deliver never waits: a container has two replies, and room for both.
func (n *Runner) deliver(reply stepwire.Reply) {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case n.calls[reply.Seq] <- reply:
	default:
	}
}

// Close ends the helper, and the containers that still run, and returns when nothing of them is left.
func (n *Runner) Close() error {
	// The helper sees the end of the socket at once, though the reader here still has it open.
	if c, err := n.conn.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) })
	}
	n.reader.Wait()
	n.conn.Close()
	if err := n.cmd.Wait(); err != nil {
		return fmt.Errorf("runtime %s: %w%s", n.cmd.Path, err, n.said)
	}
	return nil
}

// maxSaid is how much of what the helper prints is kept.
const maxSaid = 4 << 10

// report keeps the beginning of what a program prints about its failure.
type report struct {
	mu   sync.Mutex
	data []byte
}

func (r *report) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.data = append(r.data, p[:min(len(p), maxSaid-len(r.data))]...)
	return len(p), nil
}

// String is ": text", or nothing.
func (r *report) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.data) == 0 {
		return ""
	}
	return fmt.Sprintf(": %.400q", r.data)
}
