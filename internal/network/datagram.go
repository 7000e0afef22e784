package network

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// datagramIdle is how long a client's session lives without a datagram in either direction, as docker has it.
	datagramIdle = 90 * time.Second
	// maxSessions bounds the clients of one binding; a datagram of one more is lost, as datagrams may be.
	maxSessions = 1024
	maxDatagram = 65507
)

// buffers are lent for the time of one datagram: a session at rest has none.
type buffers struct{ pool sync.Pool }

func (b *buffers) get() *[]byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return p
	}
	p := make([]byte, maxDatagram)
	return &p
}

func (b *buffers) put(p *[]byte) { b.pool.Put(p) }

// sessions are the clients of one datagram binding.
type sessions struct {
	r        *Relay
	listener *net.UDPConn
	six      bool
	buffers  buffers

	mu  sync.Mutex
	all map[client]*net.UDPConn
}

// client is who sent a datagram, and to which of our addresses: an answer must come from there.
type client struct {
	from netip.AddrPort
	to   netip.Addr
}

func (r *Relay) serveDatagrams(ctx context.Context, e *endpoint, dial Dial) {
	s := &sessions{r: r, listener: e.datagram, six: e.HostIP.Is6(), all: map[client]*net.UDPConn{}}
	buf, oob := make([]byte, maxDatagram), make([]byte, 128)
	for {
		n, oobn, _, from, err := e.datagram.ReadMsgUDPAddrPort(buf, oob)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(acceptPause)
			continue
		}
		c := client{from, destination(oob[:oobn])}
		conn := s.of(ctx, c, e.Port, dial)
		if conn == nil {
			continue
		}
		_ = conn.SetReadDeadline(time.Now().Add(datagramIdle))
		_, _ = conn.Write(buf[:n]) // an unreachable service loses datagrams, as everywhere
	}
}

// of is the connection that stands for the client inside, made when there is none; nil when it cannot be.
func (s *sessions) of(ctx context.Context, c client, p Port, dial Dial) *net.UDPConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if conn := s.all[c]; conn != nil {
		return conn
	}
	if len(s.all) >= maxSessions {
		return nil
	}
	dialing, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	any, err := dial(dialing, p)
	if err != nil {
		return nil
	}
	conn, ok := any.(*net.UDPConn)
	if !ok || !s.r.hold(conn) {
		any.Close()
		return nil
	}
	s.all[c] = conn
	go s.answer(c, conn)
	return conn
}

// answer sends the client what comes back, until nothing has for a while.
func (s *sessions) answer(c client, conn *net.UDPConn) {
	defer func() {
		s.mu.Lock()
		delete(s.all, c)
		s.mu.Unlock()
		s.r.drop(conn)
	}()
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	oob := source(c.to)
	for {
		var n int
		var failed error
		// The buffer is taken when a datagram is there.
		err := raw.Read(func(fd uintptr) bool {
			buf := s.buffers.get()
			defer s.buffers.put(buf)
			n, failed = unix.Read(int(fd), *buf)
			if failed == unix.EAGAIN || failed == unix.EINTR {
				return false
			}
			if failed == nil {
				_ = conn.SetReadDeadline(time.Now().Add(datagramIdle))
				_, _, _ = s.listener.WriteMsgUDPAddrPort((*buf)[:n], oob, c.from)
			}
			return true
		})
		if err != nil || failed != nil && failed != unix.ECONNREFUSED {
			return
		}
	}
}

// wantDestination asks the kernel to say to which address a datagram came.
func wantDestination(fd int, six bool) error {
	if six {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
}

// destination reads that address from a datagram's control messages.
func destination(oob []byte) netip.Addr {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return netip.Addr{}
	}
	for _, m := range msgs {
		switch {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			return netip.AddrFrom4([4]byte(m.Data[4:8])) // spec_dst: ours, also when it came to a broadcast address
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			return netip.AddrFrom16([16]byte(m.Data[:16]))
		}
	}
	return netip.Addr{}
}

// source is the control message that sends a datagram from addr.
func source(addr netip.Addr) []byte {
	switch {
	case addr.Is4():
		return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: addr.As4()})
	case addr.Is6() && !addr.IsMulticast():
		return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: addr.As16()})
	}
	return nil
}
