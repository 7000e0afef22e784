package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// ListenOptions say what network the container has.
type ListenOptions struct {
	// Shared: the container shares this machine's network.
	Shared bool
}

// endpoint is one binding and what listens at it: one of both, or neither where the container itself does.
type endpoint struct {
	Binding
	stream   *net.TCPListener
	datagram *net.UDPConn
}

func (e *endpoint) close() {
	if e.stream != nil {
		e.stream.Close()
	}
	if e.datagram != nil {
		e.datagram.Close()
	}
}

// randomTries is how often another free port is asked for when the first is free at one address only.
const randomTries = 16

// Listen makes all that asked asks for, or nothing. The error of a port that cannot be had has docker's words and is
// errdef.ErrConflict when another has it, errdef.ErrDenied when we may not. Serve the relay, and close it.
func Listen(ctx context.Context, asked []Publish, o ListenOptions) (*Relay, error) {
	r := &Relay{live: map[net.Conn]struct{}{}, streams: make(chan struct{}, maxStreams)}
	inside := map[Port]bool{}
	for _, p := range asked {
		inside[p.Port] = true
	}
	for _, p := range asked {
		made, err := listen(ctx, p, func(port uint16) bool {
			// Where the network is shared, a host port that is another's container port would be a relay to itself.
			return o.Shared && port != p.Port.Number && inside[Port{port, p.Port.Protocol}]
		})
		if err != nil {
			r.Close()
			return nil, err
		}
		for _, e := range made {
			if o.Shared && e.HostPort == e.Port.Number {
				e.close()
				e.stream, e.datagram = nil, nil
			}
			r.endpoints = append(r.endpoints, e)
		}
	}
	return r, nil
}

// listen makes the endpoints of p, at every address of p with the same port.
func listen(ctx context.Context, p Publish, taken func(port uint16) bool) ([]*endpoint, error) {
	if p.Port.Protocol != "tcp" && p.Port.Protocol != "udp" {
		return nil, fmt.Errorf("publishing port %s: %w", p.Port, errdef.ErrUnsupported)
	}
	for try := 0; ; try++ {
		port, last := p.First, try == randomTries
		if p.First != 0 {
			port += uint16(try)
			last = port == p.Last
		}
		made, err := listenAll(ctx, p, port)
		if err == nil && taken(made[0].HostPort) {
			closeAll(made)
			err = errdef.WithHint(&bindError{made[0].Binding, unix.EADDRINUSE, errdef.ErrConflict},
				fmt.Sprintf("the container shares this machine's network and has port %s for itself: choose another host port", Port{made[0].HostPort, p.Port.Protocol}))
		}
		if err == nil || last || !errors.Is(err, unix.EADDRINUSE) {
			return made, err
		}
	}
}

// listenAll listens at every address of p at port; when that is 0, at the one that the first address gives.
func listenAll(ctx context.Context, p Publish, port uint16) (made []*endpoint, err error) {
	addrs := []netip.Addr{p.HostIP}
	if !p.HostIP.IsValid() {
		addrs = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	for i, addr := range addrs {
		e, err := listenOne(ctx, Binding{p.Port, addr, port})
		if i > 0 && noFamily(err) {
			continue // a machine without IPv6
		}
		if err != nil {
			closeAll(made)
			return nil, err
		}
		made, port = append(made, e), e.HostPort
	}
	return made, nil
}

func closeAll(list []*endpoint) {
	for _, e := range list {
		e.close()
	}
}

func noFamily(err error) bool {
	return slices.ContainsFunc([]error{unix.EAFNOSUPPORT, unix.EADDRNOTAVAIL, unix.EPROTONOSUPPORT}, func(e error) bool { return errors.Is(err, e) })
}

func listenOne(ctx context.Context, b Binding) (*endpoint, error) {
	e := &endpoint{Binding: b}
	family := "4"
	if b.HostIP.Is6() {
		family = "6" // and that alone: the other has a listener of its own
	}
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // its sockets cannot be spliced
	if b.Port.Protocol == "tcp" {
		l, err := lc.Listen(ctx, "tcp"+family, b.Host())
		if err != nil {
			return nil, bindFailed(b, err)
		}
		e.stream = l.(*net.TCPListener)
		e.HostPort = uint16(l.Addr().(*net.TCPAddr).Port)
		return e, nil
	}
	lc.Control = func(_, _ string, c syscall.RawConn) (err error) {
		return errors.Join(c.Control(func(fd uintptr) { err = wantDestination(int(fd), b.HostIP.Is6()) }), err)
	}
	l, err := lc.ListenPacket(ctx, "udp"+family, b.Host())
	if err != nil {
		return nil, bindFailed(b, err)
	}
	e.datagram = l.(*net.UDPConn)
	e.HostPort = uint16(l.LocalAddr().(*net.UDPAddr).Port)
	return e, nil
}

// bindError has docker's words for a port that cannot be had.
type bindError struct {
	at    Binding
	errno unix.Errno
	class error
}

func (e *bindError) Error() string {
	return fmt.Sprintf("failed to bind host port %s/%s: %v", e.at.Host(), e.at.Port.Protocol, e.errno)
}

func (e *bindError) Unwrap() []error { return []error{e.errno, e.class} }

func bindFailed(b Binding, err error) error {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return fmt.Errorf("failed to bind host port %s/%s: %w", b.Host(), b.Port.Protocol, err)
	}
	e := &bindError{b, errno, errdef.ErrUnavailable}
	switch errno {
	case unix.EADDRINUSE:
		e.class = errdef.ErrConflict
		return errdef.WithHint(e, fmt.Sprintf("something listens there already: choose another host port, like -p %d:%d", other(b.HostPort), b.Port.Number))
	case unix.EACCES, unix.EPERM:
		e.class = errdef.ErrDenied
		return errdef.WithHint(e, fmt.Sprintf("only root may listen below port 1024 (net.ipv4.ip_unprivileged_port_start): use -p %d:%d", other(b.HostPort), b.Port.Number))
	case unix.EADDRNOTAVAIL:
		e.class = errdef.ErrInvalid
		return errdef.WithHint(e, "no interface of this machine has that address")
	}
	return e
}

// other is a port to propose instead of port.
func other(port uint16) int {
	if port < 1024 {
		return int(port) + 8000
	}
	return min(int(port)+1, 65535)
}

// TakenBy reports whether err tells of a port that another program has, and at which binding.
func TakenBy(err error) (Binding, bool) {
	var e *bindError
	if errors.As(err, &e) && e.errno == unix.EADDRINUSE {
		return e.at, true
	}
	return Binding{}, false
}

// Loopback dials the ports of this machine itself, where the services of a container that shares its network are.
func Loopback(ctx context.Context, p Port) (net.Conn, error) {
	var d net.Dialer
	d.SetMultipathTCP(false)
	port := strconv.Itoa(int(p.Number))
	conn, err := d.DialContext(ctx, p.Protocol, net.JoinHostPort("127.0.0.1", port))
	if errors.Is(err, unix.ECONNREFUSED) {
		if six, err := d.DialContext(ctx, p.Protocol, net.JoinHostPort("::1", port)); err == nil {
			return six, nil
		}
	}
	return conn, err
}
