package container

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// request is what a client of the control socket asks in its first line.
type request struct {
	Op            string // attach, resize, resolve, halt
	In, Out, Err  bool   `json:",omitempty"`
	Width, Height uint16 `json:",omitempty"`
}

// response is the shim's answer.
type response struct {
	Error string `json:",omitempty"`
}

// socket calls fn with a name of the container's control socket that fits sun_path's 108 bytes however deep the run
// directory lies: through a descriptor of the directory.
func (s *Store) socket(id string, fn func(path string) error) error {
	dir, err := unix.Open(s.RunDir(id), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	return fn(fmt.Sprintf("/proc/self/fd/%d/ctl.sock", dir))
}

// listen makes the control socket. A socket left there by a killed shim is replaced.
func (s *Store) listen(id string) (*net.UnixListener, error) {
	var l *net.UnixListener
	err := s.socket(id, func(path string) (err error) {
		os.Remove(filepath.Join(s.RunDir(id), "ctl.sock"))
		if l, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"}); err != nil {
			return fmt.Errorf("control socket: %w", err)
		}
		l.SetUnlinkOnClose(false) // the name goes with the run directory
		return os.Chmod(path, 0o600)
	})
	return l, err
}

// call connects to the shim, sends req and reads the answer.
func (s *Store) call(ctx context.Context, id string, req request) (net.Conn, error) {
	var conn net.Conn
	err := s.socket(id, func(path string) (err error) {
		var d net.Dialer
		conn, err = d.DialContext(ctx, "unix", path)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("container %s: its shim does not answer: %w: %w", ShortID(id), errdef.ErrUnavailable, err)
	}
	if err := ask(conn, req); err != nil {
		conn.Close()
		return nil, fmt.Errorf("container %s: %w", ShortID(id), err)
	}
	return conn, nil
}

func ask(conn net.Conn, req request) error {
	raw, err := json.Marshal(req)
	if err != nil {
		return err
	}
	if _, err := conn.Write(append(raw, '\n')); err != nil {
		return err
	}
	line, err := readLine(conn)
	if err != nil {
		return err
	}
	var resp response
	if err := json.Unmarshal(line, &resp); err != nil {
		return fmt.Errorf("shim's answer: %w: %w", errdef.ErrInvalid, err)
	}
	if resp.Error != "" {
		return fmt.Errorf("shim: %s: %w", resp.Error, errdef.ErrConflict)
	}
	return nil
}

// readLine reads up to a newline and not a byte further: what follows are frames.
func readLine(r io.Reader) ([]byte, error) {
	var line []byte
	var b [1]byte
	for len(line) < 4096 {
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return nil, err
		}
		if b[0] == '\n' {
			return line, nil
		}
		line = append(line, b[0])
	}
	return nil, fmt.Errorf("line of more than 4096 bytes: %w", errdef.ErrLimit)
}

// control answers the clients of one container's shim.
type control struct {
	hub     *hub
	console *os.File // pty master, nil without a terminal
	stdin   *os.File // where the container's input is written; nil when it has none
	// stdinOnce closes the input when the client that wrote it ends its own.
	stdinOnce bool
	closeOnce sync.Once
	// resolve starts to answer the container's questions for names.
	resolve func() error
	// halted is closed when somebody asks the container to stop between two runs.
	halted   chan struct{}
	haltOnce sync.Once
}

func newControl(rec Record, resolve func() error) *control {
	return &control{hub: &hub{patience: defaultPatience}, stdinOnce: rec.Config.StdinOnce, resolve: resolve, halted: make(chan struct{})}
}

func (c *control) serve(l *net.UnixListener) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return
		}
		go c.handle(conn)
	}
}

func (c *control) handle(conn net.Conn) {
	line, err := readLine(conn)
	var req request
	if err == nil {
		err = json.Unmarshal(line, &req)
	}
	if err != nil {
		conn.Close()
		return
	}
	switch req.Op {
	case "attach":
		cl := &client{frames: frames{conn: conn}, out: req.Out, err: req.Err}
		// Under the frames' lock: the first output must not overtake the answer.
		cl.mu.Lock()
		over := c.hub.add(cl)
		err := answer(conn, nil)
		cl.mu.Unlock()
		switch {
		case err != nil:
			c.hub.drop(cl)
		case over != nil:
			c.hub.leave(cl, over)
		default:
			c.input(cl)
		}
	// An answer that cannot be sent is one that nobody waits for any more.
	case "resolve":
		_ = answer(conn, c.resolve())
		conn.Close()
	case "resize":
		_ = answer(conn, c.resize(req.Width, req.Height))
		conn.Close()
	case "halt":
		c.haltOnce.Do(func() { close(c.halted) })
		_ = answer(conn, nil)
		conn.Close()
	default:
		_ = answer(conn, fmt.Errorf("operation %.20q is not known", req.Op))
		conn.Close()
	}
}

func answer(conn net.Conn, failure error) error {
	var resp response
	if failure != nil {
		resp.Error = failure.Error()
	}
	w := bufio.NewWriterSize(conn, 256)
	if err := json.NewEncoder(w).Encode(resp); err != nil {
		return err
	}
	return w.Flush()
}

// input reads the attachment's frames until it ends.
func (c *control) input(cl *client) {
	for {
		k, p, err := cl.receive()
		switch {
		case err != nil:
			c.hub.drop(cl)
			c.endInput()
			return
		case k == frameDetach:
			c.hub.drop(cl)
			return
		case k == frameResize:
			if w, h, err := resizeSize(p); err == nil {
				_ = c.resize(w, h) // a command in a window of the wrong size goes on
			}
		case k == frameStdin && len(p) == 0:
			c.endInput()
		case k == frameStdin && c.stdin != nil:
			// A container that has closed its input is not the client's fault.
			_, _ = c.stdin.Write(p)
		}
	}
}

// endInput closes the container's input if that is to end with its first client's. A terminal's cannot be closed.
func (c *control) endInput() {
	if c.stdinOnce && c.stdin != nil && c.console == nil {
		c.closeOnce.Do(func() { c.stdin.Close() })
	}
}

func (c *control) resize(width, height uint16) error {
	if c.console == nil {
		return errors.New("the container has no terminal")
	}
	return unix.IoctlSetWinsize(int(c.console.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: width, Row: height})
}
