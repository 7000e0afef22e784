package nameserver

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	// maxQueries bounds those that wait for another server; one more is dropped, as datagrams may be.
	maxQueries = 256
	// maxConns bounds the streams; one more is closed.
	maxConns = 64
	// idle is how long a stream may be silent.
	idle = 10 * time.Second
	// maxMessage is what the length before a message in a stream can say.
	maxMessage = 65535
)

// Server answers queries.
type Server struct {
	Zone Zone
	// Forward passes on what the zone does not know; ok is false where there is no way out.
	Forward func() (f Forward, ok bool)
}

// Serve answers what comes to both, until they are closed.
func (s *Server) Serve(ctx context.Context, datagrams *net.UDPConn, streams *net.TCPListener) {
	var wg sync.WaitGroup
	wg.Go(func() { s.serveDatagrams(ctx, datagrams) })
	wg.Go(func() { s.serveStreams(ctx, streams) })
	wg.Wait()
}

func (s *Server) serveDatagrams(ctx context.Context, conn *net.UDPConn) {
	slots := make(chan struct{}, maxQueries)
	buf := make([]byte, 4096)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(time.Millisecond)
			continue
		}
		if answer, done := s.local(buf[:n]); done {
			reply(conn, short(answer), from)
			continue
		}
		query := append([]byte(nil), buf[:n]...)
		select {
		case slots <- struct{}{}:
			go func() {
				defer func() { <-slots }()
				reply(conn, s.remote(ctx, "udp", query), from)
			}()
		default:
		}
	}
}

// reply sends an answer, if there is one. Who asked may be gone.
func reply(conn *net.UDPConn, answer []byte, to netip.AddrPort) {
	if answer != nil {
		_, _ = conn.WriteToUDPAddrPort(answer, to)
	}
}

// local answers a query without asking anybody. done is false when somebody else is to be asked.
func (s *Server) local(query []byte) (answer []byte, done bool) {
	h, q, ok := question(query)
	if !ok {
		return nil, true
	}
	if answer := own(s.Zone, h, q); answer != nil {
		return answer, true
	}
	if _, ok := s.Forward(); !ok {
		return build(h, q, dnsmessage.RCodeNameError, nil), true
	}
	return nil, false
}

// remote asks other servers.
func (s *Server) remote(ctx context.Context, network string, query []byte) []byte {
	if f, ok := s.Forward(); ok {
		if answer, err := f.ask(ctx, network, query); err == nil {
			return answer
		}
	}
	h, q, _ := question(query)
	return build(h, q, dnsmessage.RCodeServerFailure, nil)
}

func (s *Server) serveStreams(ctx context.Context, l *net.TCPListener) {
	slots := make(chan struct{}, maxConns)
	for {
		conn, err := l.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(time.Millisecond)
			continue
		}
		select {
		case slots <- struct{}{}:
			go func() {
				defer func() { <-slots }()
				defer conn.Close()
				s.stream(ctx, conn)
			}()
		default:
			conn.Close()
		}
	}
}

// stream answers the queries of one connection, one after the other.
func (s *Server) stream(ctx context.Context, conn *net.TCPConn) {
	for {
		_ = conn.SetDeadline(time.Now().Add(idle)) // a closed connection fails below
		query, err := readMessage(conn)
		if err != nil {
			return
		}
		answer, done := s.local(query)
		if !done {
			answer = s.remote(ctx, "tcp", query)
		}
		if answer == nil || writeMessage(conn, answer) != nil {
			return
		}
	}
}

func readMessage(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	msg := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(r, msg)
	return msg, err
}

func writeMessage(w io.Writer, msg []byte) error {
	if len(msg) > maxMessage {
		return errors.New("message too long")
	}
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...))
	return err
}
