//go:build cgo

package main

import (
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"

	"strata/internal/errdef"
	"strata/internal/mount"
	"strata/internal/stepwire"
)

// server runs what is asked for on the socket.
type server struct {
	conn    *net.UnixConn
	running sync.WaitGroup
	filter  *os.File // kept, or the garbage collector would close it

	mu    sync.Mutex
	steps map[uint64]*step
}

// accept takes requests until the other end has gone.
func (s *server) accept() error {
	for {
		var req stepwire.Request
		files, err := stepwire.Receive(s.conn, &req)
		if err != nil {
			return err
		}
		if req.Kill {
			stepwire.CloseAll(files)
			s.kill(req.Seq)
			continue
		}
		if req.Filter && len(files) == 1 {
			s.follow(files[0])
			continue
		}
		if len(files) != 4 {
			stepwire.CloseAll(files)
			return fmt.Errorf("request with %d files: %w", len(files), errdef.ErrInvalid)
		}
		st := &step{}
		s.mu.Lock()
		s.steps[req.Seq] = st
		s.mu.Unlock()
		s.running.Go(func() { s.run(req, st, files[0], files[1:]) })
	}
}

// follow makes the containers that are asked for after it take their filter from file, if it was made from the list that
// they have (filter.c tells). It reaches a container's init by name, as the program's name: libcontainer hands that one on.
func (s *server) follow(file *os.File) {
	pid, err := os.Readlink("/proc/self") // our pid as /proc has it
	if err != nil || s.filter != nil {
		file.Close()
		return
	}
	s.filter = file
	os.Args[0] = fmt.Sprintf("/proc/%s/fd/%d", pid, file.Fd())
}

// run is one container's life. The other end learns its exit status before the container's remains are cleaned up.
func (s *server) run(req stepwire.Request, st *step, ns *os.File, stdio []*os.File) {
	defer s.forget(req.Seq)
	last := stepwire.Reply{Seq: req.Seq}
	err := st.create(req)
	if err == nil {
		// The whole life on the one thread: it is the container's parent.
		err = mount.Join(ns, func() (err error) {
			last.Code, err = s.live(req.Seq, st, stdio)
			return err
		})
	}
	ns.Close()
	stepwire.CloseAll(stdio)
	if err != nil {
		last.Error = err.Error()
	}
	s.reply(last)
	st.destroy()
}

// live starts the container and waits for its end.
func (s *server) live(seq uint64, st *step, stdio []*os.File) (code int, err error) {
	pid, err := st.start(stdio)
	stepwire.CloseAll(stdio) // the reader of its output waits until nobody has these
	if err != nil {
		return 0, err
	}
	s.reply(stepwire.Reply{Seq: seq, Pid: pid})
	return st.wait()
}

// reply fails only when the other end has gone, which ends all anyway.
func (s *server) reply(r stepwire.Reply) { _ = stepwire.Send(s.conn, r) }

func (s *server) forget(seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.steps, seq)
}

func (s *server) kill(seq uint64) {
	s.mu.Lock()
	st := s.steps[seq]
	s.mu.Unlock()
	if st != nil {
		st.kill()
	}
}

func (s *server) killAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.steps {
		st.kill()
	}
}

func exitCode(ws syscall.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}
