package network

import (
	"net/netip"
	"strings"
	"testing"
)

// neighbour is a machine beside this one, which routes what is for anybody's containers to it.
func neighbour(t *testing.T, s *Store) *box {
	t.Helper()
	for _, line := range []string{
		"ip link add lan type veth peer name lan0", "ip addr add 10.200.0.1/24 dev lan", "ip link set lan up",
	} {
		command(t, line)
	}
	sb, err := NewSandbox()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sb.Close)
	t.Cleanup(func() { command(t, "ip link del lan") }) // before that: it goes with the namespace, in a while
	command(t, "ip link set lan0 netns "+sb.Path())
	err = sb.Do(func() error {
		for _, line := range []string{"ip addr add 10.200.0.2/24 dev lan0", "ip link set lan0 up", "ip route add default via 10.200.0.1"} {
			command(t, line)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return &box{Sandbox: sb, owner: Owner{Name: "neighbour"}}
}

func TestPublish(t *testing.T) {
	s := testStore(t)
	n := neighbour(t, s)
	if _, err := s.Create(t.Context(), CreateOptions{Name: "other"}); err != nil {
		t.Fatal(err)
	}
	web, same, other := join(t, s, "web", Attachment{Network: Bridge}), join(t, s, "same", Attachment{Network: Bridge}), join(t, s, "far", Attachment{Network: "other"})
	web.serve(t, "80")
	asked, err := ParsePublish("8080:80")
	if err != nil {
		t.Fatal(err)
	}
	here, err := ParsePublish("127.0.0.1:8081:80")
	if err != nil {
		t.Fatal(err)
	}
	relay, err := Listen(t.Context(), append(asked, here...), ListenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer relay.Close()
	go relay.Serve(t.Context(), s.Dialer(web.ends[0]), nil)
	if err := s.Publish(web.ends[0], relay.Bindings()); err != nil {
		t.Fatal(err)
	}
	gateway := web.ends[0].Gateway4.String()
	inside := netip.AddrPortFrom(web.ends[0].IPv4.Addr(), 80).String()
	for _, tt := range []struct {
		from *box
		addr string
		sees string // the beginning of the address that the service sees; "" where nothing is reached
	}{
		{n, "10.200.0.1:8080", "10.200.0.2:"}, // rewritten by the kernel: the neighbour's own address is seen
		{n, "10.200.0.1:8081", ""},
		{n, inside, ""}, // only published ports are passed on
		{nil, "127.0.0.1:8080", gateway}, {nil, "[::1]:8080", gateway}, {nil, "127.0.0.1:8081", gateway},
		{nil, "10.200.0.1:8080", "10.200.0.1:"},
		{same, gateway + ":8080", gateway}, {other, "10.200.0.1:8080", gateway}, {other, inside, ""},
	} {
		got, err := tt.from.get(tt.addr, tt.sees != "")
		if tt.sees == "" && err == nil || tt.sees != "" && !strings.HasPrefix(got, "web sees "+tt.sees) {
			t.Errorf("%s: %q %v, want %q", tt.addr, got, err, tt.sees)
		}
	}
	if err := s.Release(web.owner.ID); err != nil {
		t.Fatal(err)
	}
	relay.Close()
	if got, err := n.get("10.200.0.1:8080", false); err == nil {
		t.Errorf("released, and reached: %q", got)
	}
}

func TestRules(t *testing.T) {
	s := testStore(t)
	for _, o := range []CreateOptions{{Name: "net"}, {Name: "still", Options: map[string]string{optTalk: "false"}}} {
		if _, err := s.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	set := func(network string, rules ...Rule) {
		t.Helper()
		if err := s.SetRules(t.Context(), network, func([]Rule) ([]Rule, error) { return rules, nil }); err != nil {
			t.Fatal(err)
		}
	}
	boxes := func(network string) (a, b, db *box, at string) {
		a, b = join(t, s, "a"+network, Attachment{Network: network}), join(t, s, "b"+network, Attachment{Network: network})
		db = join(t, s, "db"+network, Attachment{Network: network, Aliases: []string{"store"}})
		db.serve(t, "80")
		db.serve(t, "81")
		return a, b, db, db.ends[0].IPv4.Addr().String()
	}
	check := func(what string, from *box, addr string, ok bool) {
		t.Helper()
		if got, err := from.get(addr, ok); (err == nil) != ok {
			t.Errorf("%s: %q %v", what, got, err)
		}
	}
	web := Port{80, "tcp"}
	set("net", Rule{From: "anet", To: "store", Port: web, Allow: true}, Rule{To: "dbnet", Port: web})
	a, b, _, at := boxes("net")
	check("allowed", a, at+":80", true)
	check("denied", b, at+":80", false)
	check("another port", b, at+":81", true)
	set("net")
	check("no rules any more", b, at+":80", true)
	set("net", Rule{From: "bnet"})
	check("denied while it runs", b, at+":81", false)

	set("still", Rule{From: "astill", To: "store", Port: web, Allow: true})
	a, b, _, at = boxes("still")
	check("allowed where nothing is", a, at+":80", true)
	check("another port where nothing is allowed", a, at+":81", false)
	check("nothing is allowed", b, at+":80", false)
	set("still")
	check("no rules, nothing is allowed", a, at+":80", false)
}
