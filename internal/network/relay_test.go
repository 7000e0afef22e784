package network_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"strata/internal/errdef"
	"strata/internal/network"
)

var loopback = netip.MustParseAddr("127.0.0.1")

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func portOf(a net.Addr) uint16 {
	switch a := a.(type) {
	case *net.TCPAddr:
		return uint16(a.Port)
	case *net.UDPAddr:
		return uint16(a.Port)
	}
	return 0
}

// relayTo serves a relay of the port at any free port of the loopback address, and gives that address.
func relayTo(t *testing.T, p network.Port, dial network.Dial, atRest func()) (*network.Relay, string) {
	t.Helper()
	r, err := network.Listen(t.Context(), []network.Publish{{Port: p, HostIP: loopback}}, network.ListenOptions{Shared: true})
	must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Serve(context.Background(), dial, atRest)
	}()
	t.Cleanup(func() { r.Close(); <-done })
	return r, r.Bindings()[0].Host()
}

// A client that has sent all and closed its half still gets the answer, and each end is passed on.
func TestStreamHalfClose(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				all, _ := io.ReadAll(c) // to the client's end
				_, _ = c.Write(bytes.ToUpper(all))
			}()
		}
	}()
	_, at := relayTo(t, network.Port{Number: portOf(l.Addr()), Protocol: "tcp"}, network.Loopback, nil)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			c, err := net.Dial("tcp", at)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			go func() {
				_, _ = io.WriteString(c, strings.Repeat("a", 300_000))
				_ = c.(*net.TCPConn).CloseWrite()
			}()
			got, err := io.ReadAll(c)
			if err != nil || string(got) != strings.Repeat("A", 300_000) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	wg.Wait()
}

func TestStreamNobodyThere(t *testing.T) {
	refused := func(context.Context, network.Port) (net.Conn, error) { return nil, errors.New("refused") }
	r, at := relayTo(t, network.Port{Number: 1, Protocol: "tcp"}, refused, nil)
	if c, err := net.Dial("tcp", at); err == nil { // else it was reset already
		defer c.Close()
		if n, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("read %d bytes from nobody", n)
		}
	}
	r.Close()
	if c, err := net.Dial("tcp", at); err == nil {
		c.Close()
		t.Error("a closed relay accepts")
	}
}

// Closing the relay ends the streams that it moves.
func TestCloseEndsStreams(t *testing.T) {
	dialed := make(chan net.Conn, 1)
	dial := func(context.Context, network.Port) (net.Conn, error) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		c, err := net.Dial("tcp", l.Addr().String())
		if err == nil {
			var far net.Conn
			far, err = l.Accept()
			dialed <- far
		}
		return c, err
	}
	r, at := relayTo(t, network.Port{Number: 1, Protocol: "tcp"}, dial, nil)
	c, err := net.Dial("tcp", at)
	must(t, err)
	defer c.Close()
	far := <-dialed
	defer far.Close()
	_, err = far.Write([]byte("x"))
	must(t, err)
	_, err = io.ReadFull(c, make([]byte, 1))
	must(t, err)
	r.Close()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the stream goes on")
	}
}

// Datagrams go to and fro, each client has its own session, and the answer comes from the address that was asked.
func TestDatagrams(t *testing.T) {
	service, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	defer service.Close()
	go func() {
		buf := make([]byte, 70_000)
		for {
			n, from, err := service.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = service.WriteTo(append([]byte(from.String()+" "), buf[:n]...), from)
		}
	}()
	p := network.Port{Number: portOf(service.LocalAddr()), Protocol: "udp"}
	r, err := network.Listen(t.Context(), []network.Publish{{Port: p}}, network.ListenOptions{})
	must(t, err)
	go r.Serve(context.Background(), network.Loopback, nil)
	defer r.Close()
	port := r.Bindings()[0].HostPort
	seen := map[string]bool{}
	for _, to := range []string{"127.0.0.1", "127.0.0.2", "127.0.0.1"} {
		c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(to), port)))
		must(t, err)
		defer c.Close()
		var first string
		for _, size := range []int{1, 60_000} {
			_, err = c.Write(bytes.Repeat([]byte("x"), size))
			must(t, err)
			must(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
			buf := make([]byte, 70_000)
			n, err := c.Read(buf) // a connected socket takes answers from the address it asked only
			must(t, err)
			who, rest, _ := strings.Cut(string(buf[:n]), " ")
			if len(rest) != size || first != "" && first != who {
				t.Errorf("%s: %d bytes as %s, before as %s", to, len(rest), who, first)
			}
			first = who
		}
		if seen[first] {
			t.Errorf("two clients share the session %s", first)
		}
		seen[first] = true
	}
}

func TestListenAllOrNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	taken := portOf(l.Addr())
	free := network.Publish{Port: network.Port{Number: 1, Protocol: "tcp"}, HostIP: loopback}
	_, err = network.Listen(t.Context(), []network.Publish{free, {Port: network.Port{Number: 2, Protocol: "tcp"}, HostIP: loopback, First: taken, Last: taken}}, network.ListenOptions{})
	at, ok := network.TakenBy(err)
	if !errors.Is(err, errdef.ErrConflict) || !ok || at.HostPort != taken || err.Error() != "failed to bind host port "+l.Addr().String()+"/tcp: address already in use" {
		t.Errorf("%v", err)
	}
	if errdef.Hint(err) == "" {
		t.Error("no hint")
	}
	// A range goes past what is taken.
	if taken < 65535 {
		r, err := network.Listen(t.Context(), []network.Publish{{Port: network.Port{Number: 2, Protocol: "tcp"}, HostIP: loopback, First: taken, Last: taken + 1}}, network.ListenOptions{})
		if err == nil && r.Bindings()[0].HostPort != taken+1 {
			t.Errorf("%v", r.Bindings())
		}
		r.Close()
	}
	l.Close()
	_, err = network.Listen(t.Context(), []network.Publish{{Port: network.Port{Number: 2, Protocol: "sctp"}}}, network.ListenOptions{})
	if !errors.Is(err, errdef.ErrUnsupported) {
		t.Errorf("%v", err)
	}
}

// In a shared network a port under its own number is left to the container, and none is relayed to itself.
func TestListenShared(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	n := portOf(l.Addr())
	l.Close()
	same := network.Publish{Port: network.Port{Number: n, Protocol: "tcp"}, HostIP: loopback, First: n, Last: n}
	r, err := network.Listen(t.Context(), []network.Publish{same}, network.ListenOptions{Shared: true})
	must(t, err)
	defer r.Close()
	if b := r.Bindings(); len(b) != 1 || b[0].HostPort != n {
		t.Errorf("%v", b)
	}
	own, err := net.Listen("tcp", l.Addr().String())
	if err != nil {
		t.Fatal("the container cannot have its port:", err)
	}
	own.Close()
	other := network.Publish{Port: network.Port{Number: n + 1, Protocol: "tcp"}, HostIP: loopback, First: n, Last: n}
	_, err = network.Listen(t.Context(), []network.Publish{other, {Port: network.Port{Number: n, Protocol: "tcp"}, HostIP: loopback}}, network.ListenOptions{Shared: true})
	if !errors.Is(err, errdef.ErrConflict) {
		t.Errorf("a relay to itself: %v", err)
	}
	var none *network.Relay
	none.Serve(t.Context(), nil, nil)
	none.Close()
	if none.Bindings() != nil {
		t.Error("nothing has bindings")
	}
}
