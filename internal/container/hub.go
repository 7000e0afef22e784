package container

import (
	"encoding/json"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/program"
)

// defaultPatience is how long the container waits for an attachment that does not read before that one is cut off. The
// one that started the container is waited for as long as it lives, as a pipe would.
const defaultPatience = 10 * time.Second

// hub spreads a container's output: to the log, then to every attachment.
type hub struct {
	log      *logWriter // nil: none is kept
	patience time.Duration

	mu      sync.Mutex
	clients map[*client]struct{}
	over    *ending      // nil until exit
	sending atomic.Int32 // so many copiers wait for a client
	heard   atomic.Int64 // bytes that the copiers have read
}

// client is one attachment.
type client struct {
	frames
	out, err bool
	starter  bool
}

// ending is how a process ended, and what explains it.
type ending struct {
	code    int
	problem *program.Problem
}

// add makes c an attachment. One that comes after exit is told by nobody else: it gets what over says.
func (h *hub) add(c *client) (over *ending) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.clients == nil {
		h.clients = map[*client]struct{}{}
	}
	h.clients[c] = struct{}{}
	return h.over
}

func (h *hub) drop(c *client) {
	h.mu.Lock()
	delete(h.clients, c)
	h.mu.Unlock()
	c.conn.Close()
}

func (h *hub) all() []*client {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]*client, 0, len(h.clients))
	for c := range h.clients {
		list = append(list, c)
	}
	return list
}

// copy moves one stream of the container from r until its end. It reads no more than one buffer ahead of the slowest.
func (h *hub) copy(k kind, r *os.File) {
	name := "stdout"
	if k == frameStderr {
		name = "stderr"
	}
	var lines *stream
	if h.log != nil {
		lines = &stream{w: h.log, name: name}
		defer lines.end()
	}
	buf := make([]byte, maxFrame)
	for {
		n, err := r.Read(buf)
		h.heard.Add(int64(n))
		if n > 0 {
			if lines != nil {
				lines.write(buf[:n])
			}
			h.spread(k, buf[:n])
		}
		if err != nil { // the end; EIO when a terminal's last user is gone
			return
		}
	}
}

func (h *hub) spread(k kind, p []byte) {
	h.sending.Add(1)
	defer h.sending.Add(-1)
	for _, c := range h.all() {
		if k == frameStdout && !c.out || k == frameStderr && !c.err {
			continue
		}
		wait := h.patience
		if c.starter {
			wait = 0
		}
		if c.send(k, p, wait) != nil {
			h.drop(c)
		}
	}
}

// drain waits until all output has been read, after the process that wrote it has ended: for patience at most, but not while
// a client is slow to take what was read, nor while the copiers, on a machine that is busy, have yet to read what the process
// left. It closes the outputs, and lets the copiers end with what they have in their hands.
func (h *hub) drain(outputs []output, drained <-chan struct{}, patience time.Duration) {
	most := h.heard.Load() + int64(len(outputs))*pipeSize // what comes after that was written by somebody else
	for waiting := true; waiting; {
		select {
		case <-drained:
			waiting = false
		case <-time.After(patience):
			left := slices.ContainsFunc(outputs, func(o output) bool { return unread(o.f) })
			waiting = h.sending.Load() > 0 || left && h.heard.Load() < most
		}
	}
	for _, o := range outputs {
		o.f.Close()
	}
	select {
	case <-drained:
	case <-time.After(patience): // one reads a file that does not heed being closed
	}
}

// unread reports whether f holds what nobody has read yet.
func unread(f *os.File) (some bool) {
	conn, err := f.SyscallConn()
	if err != nil {
		return false
	}
	_ = conn.Control(func(fd uintptr) { // fails when it is closed: there is nothing to read then
		waiting := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(waiting, 0)
		some = err == nil && n > 0 && waiting[0].Revents&unix.POLLIN != 0
	})
	return some
}

// exit tells every attachment the exit code, with what explains it, and closes it.
func (h *hub) exit(code int, p *program.Problem) {
	over := &ending{code, p}
	h.mu.Lock()
	h.over = over
	h.mu.Unlock()
	for _, c := range h.all() {
		h.leave(c, over)
	}
}

// leave tells one attachment how it ended, and closes it.
func (h *hub) leave(c *client, over *ending) {
	if raw, err := json.Marshal(over.problem); err == nil && over.problem != nil && len(raw) <= maxFrame {
		_ = c.send(frameProblem, raw, h.patience)
	}
	_ = c.send(frameExit, exitPayload(over.code), h.patience) // who does not read it is dropped like the others
	h.drop(c)
}
