package network

import (
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"strata/internal/isolate"
)

// testStore is a store of networks in the tests' own namespace, and is gone with all that it made at the end.
func testStore(t *testing.T) *Store {
	t.Helper()
	if !isolate.Inside() {
		t.Skip("making networks takes root")
	}
	dir := t.TempDir()
	s := Open(Options{Dir: filepath.Join(dir, "networks"), Run: filepath.Join(dir, "run")})
	t.Cleanup(func() {
		all, err := s.List()
		if err != nil {
			t.Error(err)
		}
		for _, n := range all {
			if n.Driver == DriverBridge {
				if err := s.forget(n); err != nil {
					t.Error(err)
				}
			}
		}
		for _, family := range []string{"inet", "bridge"} {
			_ = exec.Command("nft", "delete", "table", family, s.tableName()).Run() // rarely both
		}
	})
	return s
}

func command(t *testing.T, line string) {
	t.Helper()
	words := strings.Fields(line)
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", line, err, out)
	}
}

// patience is how long a connection may take that is expected, and one that is not: such a one is given up sooner.
func patience(expected bool) time.Duration {
	if expected {
		return 20 * time.Second
	}
	return 500 * time.Millisecond
}

// box is a sandbox that is in networks.
type box struct {
	*Sandbox
	owner Owner
	ends  []Endpoint
}

func join(t *testing.T, s *Store, name string, wanted ...Attachment) *box {
	t.Helper()
	sb, err := NewSandbox()
	if err != nil {
		t.Fatal(err)
	}
	b := &box{Sandbox: sb, owner: Owner{ID: newID(), Name: name}}
	t.Cleanup(func() {
		if err := s.Release(b.owner.ID); err != nil {
			t.Error(err)
		}
		sb.Close()
	})
	for i, a := range wanted {
		e, err := s.Join(t.Context(), sb, b.owner, a, i)
		if err != nil {
			t.Fatal(err)
		}
		b.ends = append(b.ends, e)
	}
	return b
}

// serve answers connections and datagrams at a port with the address they came from.
func (b *box) serve(t *testing.T, port string) {
	t.Helper()
	err := b.Do(func() error {
		l, err := net.Listen("tcp", ":"+port)
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				io.WriteString(c, b.owner.Name+" sees "+c.RemoteAddr().String())
				c.Close()
			}
		}()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// get connects from inside the sandbox (nil: from the machine) and reads what is said. expected: it should be reached.
func (b *box) get(addr string, expected bool) (string, error) {
	var said string
	work := func() error {
		c, err := net.DialTimeout("tcp", addr, patience(expected))
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		raw, err := io.ReadAll(c)
		said = string(raw)
		return err
	}
	if b == nil {
		return said, work()
	}
	err := b.Do(work)
	return said, err
}

func TestBridge(t *testing.T) {
	s := testStore(t)
	a, b := join(t, s, "a", Attachment{Network: Bridge}), join(t, s, "b", Attachment{Network: Bridge})
	b.serve(t, "80")
	at := b.ends[0].IPv4.Addr().String()
	if got, err := a.get(at+":80", true); err != nil || !strings.HasPrefix(got, "b sees "+a.ends[0].IPv4.Addr().String()) {
		t.Errorf("%q %v", got, err)
	}
	if got, err := (*box)(nil).get(at+":80", true); err != nil || !strings.Contains(got, a.ends[0].Gateway4.String()) {
		t.Errorf("from the machine: %q %v", got, err)
	}
	if out, err := exec.Command("nft", "list", "table", "inet", s.tableName()).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	} else if os.Getenv("STRATA_TEST_SHOW") != "" {
		t.Logf("%s", out)
	}
}

// A network with IPv6 that comes after others without finds the machine passing its packets on, too.
func TestLaterIPv6(t *testing.T) {
	s := testStore(t)
	join(t, s, "a", Attachment{Network: Bridge})
	const file = "/proc/sys/net/ipv6/conf/all/forwarding"
	if err := os.WriteFile(file, []byte("0"), 0); err != nil {
		t.Skip("no IPv6: ", err)
	}
	if _, err := s.Create(t.Context(), CreateOptions{Name: "six", IPv6: true}); err != nil {
		t.Fatal(err)
	}
	join(t, s, "b", Attachment{Network: "six"})
	if now, err := os.ReadFile(file); err != nil || string(now) != "1\n" {
		t.Errorf("%s: %q, %v", file, now, err)
	}
}

func TestIsolation(t *testing.T) {
	s := testStore(t)
	for _, o := range []CreateOptions{{Name: "one"}, {Name: "two", IPv6: true}, {Name: "shut", Internal: true}} {
		if _, err := s.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	a, b := join(t, s, "a", Attachment{Network: "one"}), join(t, s, "b", Attachment{Network: "two"})
	c, d := join(t, s, "c", Attachment{Network: "shut"}), join(t, s, "d", Attachment{Network: "two"}, Attachment{Network: "shut"})
	for _, x := range []*box{a, b, c, d} {
		x.serve(t, "80")
	}
	addr := func(e Endpoint) string { return netip.AddrPortFrom(e.IPv4.Addr(), 80).String() }
	for _, tt := range []struct {
		from *box
		to   Endpoint
		ok   bool
	}{
		{a, b.ends[0], false}, {b, a.ends[0], false}, {a, c.ends[0], false}, {c, a.ends[0], false},
		{d, c.ends[0], true}, {c, d.ends[1], true}, {b, d.ends[0], true}, {b, d.ends[1], false},
	} {
		if got, err := tt.from.get(addr(tt.to), tt.ok); (err == nil) != tt.ok {
			t.Errorf("%s to %s (%s): %q %v", tt.from.owner.Name, tt.to.Owner.Name, tt.to.Network, got, err)
		}
	}
	six := netip.AddrPortFrom(d.ends[0].IPv6.Addr(), 80).String()
	if got, err := b.get(six, true); err != nil || !strings.HasPrefix(got, "d sees [fd") {
		t.Errorf("IPv6: %q %v", got, err)
	}
}
