package nameserver

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// zone is names with their addresses.
type zone map[string][]netip.Addr

func (z zone) Addresses(name string) ([]netip.Addr, bool) {
	addrs, ok := z[name]
	return slices.Clone(addrs), ok
}

func (z zone) Names(addr netip.Addr) (names []string) {
	for name, addrs := range z {
		if slices.Contains(addrs, addr) {
			names = append(names, name)
		}
	}
	return names
}

// start serves z on loopback; forward may be nil.
func start(t *testing.T, z Zone, forward *Forward) string {
	t.Helper()
	var l *net.TCPListener
	var u *net.UDPConn
	for u == nil { // somebody else may have the datagrams of a port whose streams are free
		var err error
		if l, err = net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
			t.Fatal(err)
		}
		u, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: l.Addr().(*net.TCPAddr).Port})
		if err != nil {
			l.Close()
			if !errors.Is(err, unix.EADDRINUSE) {
				t.Fatal(err)
			}
		}
	}
	s := &Server{Zone: z, Forward: func() (Forward, bool) {
		if forward == nil {
			return Forward{}, false
		}
		return *forward, true
	}}
	done := make(chan struct{})
	go func() { s.Serve(context.Background(), u, l); close(done) }()
	t.Cleanup(func() { l.Close(); u.Close(); <-done })
	return l.Addr().String()
}

// resolver asks the server at addr.
func resolver(addr, network string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, asked, _ string) (net.Conn, error) {
		if network != "" {
			asked = network
		}
		var d net.Dialer
		return d.DialContext(ctx, asked, addr)
	}}
}

func addrs(texts ...string) (list []netip.Addr) {
	for _, s := range texts {
		list = append(list, netip.MustParseAddr(s))
	}
	return list
}

func TestAnswers(t *testing.T) {
	many := make([]netip.Addr, 60)
	for i := range many {
		many[i] = netip.AddrFrom4([4]byte{10, 1, 0, byte(i)})
	}
	outer := start(t, zone{"outside.example": addrs("192.0.2.7")}, nil)
	z := zone{"web": addrs("10.0.0.2", "fd00::2"), "web.net": addrs("10.0.0.2"), "four": addrs("10.0.0.4"), "all": many}
	inner := start(t, z, &Forward{Servers: []string{outer}, Dial: (&net.Dialer{}).DialContext})
	for _, network := range []string{"udp", "tcp"} {
		r := resolver(inner, network)
		for host, want := range map[string]string{"web.": "10.0.0.2 fd00::2", "WEB.net.": "10.0.0.2", "four.": "10.0.0.4", "outside.example.": "192.0.2.7"} {
			got, err := r.LookupHost(t.Context(), host)
			slices.Sort(got)
			if err != nil || strings.Join(got, " ") != want {
				t.Errorf("%s by %s: %v %v, want %s", host, network, got, err, want)
			}
		}
		if _, err := r.LookupHost(t.Context(), "nobody.example."); err == nil || !err.(*net.DNSError).IsNotFound {
			t.Errorf("nobody: %v", err)
		}
		for addr, want := range map[string]string{"10.0.0.4": "four.", "fd00::2": "web."} {
			if got, err := r.LookupAddr(t.Context(), addr); err != nil || len(got) != 1 || got[0] != want {
				t.Errorf("%s by %s: %v %v", addr, network, got, err)
			}
		}
	}
	// What does not fit a datagram comes by a stream.
	if got, err := resolver(inner, "").LookupHost(t.Context(), "all."); err != nil || len(got) != len(many) {
		t.Errorf("all: %d %v", len(got), err)
	}
}

func TestNoWayOut(t *testing.T) {
	at := start(t, zone{"web": addrs("10.0.0.2")}, nil)
	if _, err := resolver(at, "").LookupHost(t.Context(), "outside.example."); err == nil || !err.(*net.DNSError).IsNotFound {
		t.Errorf("answered: %v", err)
	}
}

// TestLiar holds that an answer to another question, or with another number, is not believed.
func TestLiar(t *testing.T) {
	u, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := u.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			h, q, _ := question(buf[:n])
			answer := func(h dnsmessage.Header, q dnsmessage.Question, last byte) {
				u.WriteToUDPAddrPort(build(h, q, 0, func(b *dnsmessage.Builder, rh dnsmessage.ResourceHeader) error {
					if q.Type != dnsmessage.TypeA {
						return nil
					}
					return b.AResource(rh, dnsmessage.AResource{A: [4]byte{192, 0, 2, last}})
				}), from)
			}
			wrong := h
			wrong.ID++
			answer(wrong, q, 1)
			other := q
			other.Name = dnsmessage.MustNewName("evil.example.")
			answer(h, other, 2)
			u.WriteToUDPAddrPort([]byte("\x00\x01garbage"), from)
			answer(h, q, 3)
		}
	}()
	at := start(t, zone{}, &Forward{Servers: []string{u.LocalAddr().String()}, Dial: (&net.Dialer{}).DialContext})
	got, err := resolver(at, "udp").LookupHost(t.Context(), "good.example.")
	if err != nil || len(got) != 1 || got[0] != "192.0.2.3" {
		t.Errorf("%v %v", got, err)
	}
}

func FuzzQuery(f *testing.F) {
	q := dnsmessage.Question{Name: dnsmessage.MustNewName("web."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: 7})
	if b.StartQuestions() != nil || b.Question(q) != nil {
		f.Fatal("no query")
	}
	raw, err := b.Finish()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte("\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01"))
	s := &Server{Zone: zone{"web": addrs("10.0.0.2", "fd00::2")}, Forward: func() (Forward, bool) { return Forward{}, false }}
	f.Fuzz(func(t *testing.T, query []byte) {
		answer, done := s.local(query)
		if !done {
			t.Fatal("asked elsewhere")
		}
		if answer == nil {
			return
		}
		h, _, ok := heading(answer)
		if !ok || len(query) < 2 || byte(h.ID>>8) != query[0] || byte(h.ID) != query[1] {
			t.Fatalf("%x answered by %x", query, answer)
		}
		if cut := short(answer); len(cut) > 512 {
			t.Fatalf("%d bytes in a datagram", len(cut))
		}
	})
}

func TestReversed(t *testing.T) {
	for name, want := range map[string]string{
		"2.0.0.10.in-addr.arpa":                          "10.0.0.2",
		"2." + strings.Repeat("0.", 29) + "d.f.ip6.arpa": "fd00::2",
	} {
		if got, ok := reversed(name); !ok || got.String() != want {
			t.Errorf("%s: %v %v", name, got, ok)
		}
	}
	for _, name := range []string{"", "x.in-addr.arpa", "1.2.3.in-addr.arpa", "1.ip6.arpa", "web", strings.Repeat("x.", 32) + "ip6.arpa"} {
		if got, ok := reversed(name); ok {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestMessageBound(t *testing.T) {
	if err := writeMessage(nil, make([]byte, maxMessage+1)); err == nil {
		t.Error("a message that no length can say")
	}
}
