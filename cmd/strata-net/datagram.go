//go:build linux

package main

import (
	"bytes"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	// sessionIdle is how long a session lives without a datagram in either direction.
	sessionIdle = 90 * time.Second
	// askIdle is that of questions for names: there are many, and each has one answer.
	askIdle = 10 * time.Second
)

// session is what one port of a container sends to one place, and what comes back.
type session struct {
	o    *outlet
	ep   tcpip.Endpoint
	in   waiter.Queue
	out  *net.UDPConn
	idle time.Duration
	last atomic.Int64 // when something was moved, in nanoseconds
}

// datagram begins a session. It is called for the first datagram; the others find the endpoint.
func (o *outlet) datagram(r *udp.ForwarderRequest) bool {
	to, ok := target(r.ID())
	if !ok || !take(o.sessions) {
		return false
	}
	out, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		<-o.sessions
		return false
	}
	s := &session{o: o, out: out, idle: sessionIdle}
	if to.Port() == 53 {
		s.idle = askIdle
	}
	var failure tcpip.Error
	if s.ep, failure = r.CreateEndpoint(&s.in); failure != nil {
		out.Close()
		<-o.sessions
		return true
	}
	s.touch()
	go s.run()
	return true
}

func (s *session) touch() { s.last.Store(time.Now().UnixNano()) }

// left is how long the session may still be silent.
func (s *session) left() time.Duration {
	return s.idle - time.Since(time.Unix(0, s.last.Load()))
}

// run moves datagrams both ways until none has come for a while.
func (s *session) run() {
	defer func() { <-s.o.sessions }()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		s.outward(stop)
	}()
	s.inward()
	close(stop)
	s.out.Close()
	<-done
	s.ep.Close()
}

// outward moves what the container sends, until stop.
func (s *session) outward(stop <-chan struct{}) {
	entry, readable := waiter.NewChannelEntry(waiter.ReadableEvents)
	s.in.EventRegister(&entry)
	defer s.in.EventUnregister(&entry)
	for {
		again, err := s.o.once(s.ep, func(b []byte) error {
			s.touch()
			_, _ = s.out.Write(b) // an unreachable service loses datagrams, as everywhere
			return nil
		})
		switch {
		case err != nil || again == ended:
			return
		case again == blocked:
			select {
			case <-readable:
			case <-stop:
				return
			}
		}
	}
}

// inward moves what comes back.
func (s *session) inward() {
	raw, err := s.out.SyscallConn()
	if err != nil {
		return
	}
	for s.left() > 0 {
		if err := s.out.SetReadDeadline(time.Now().Add(s.left())); err != nil {
			return
		}
		err := s.o.receive(raw.Read, func(b []byte) error {
			s.touch()
			return s.give(b)
		})
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, unix.ECONNREFUSED) {
			return
		}
	}
}

// give sends the container a datagram. One that does not fit is lost.
func (s *session) give(b []byte) error {
	_, err := s.ep.Write(bytes.NewReader(b), tcpip.WriteOptions{})
	switch err.(type) {
	case nil, *tcpip.ErrWouldBlock, *tcpip.ErrNoBufferSpace, *tcpip.ErrMessageTooLong:
		return nil
	}
	return failed("datagram", err)
}
