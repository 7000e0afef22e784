package network

import (
	"net"
	"strings"
	"testing"
	"time"
)

// answer answers every datagram that comes to port 53 with the question and the box's name.
func (b *box) answer(t *testing.T) {
	t.Helper()
	var conn net.PacketConn
	err := b.Do(func() (err error) {
		conn, err = net.ListenPacket("udp", ":53")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 100)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(append(buf[:n], b.owner.Name...), from)
		}
	}()
}

// TestFlows: a client who keeps its port reaches whoever has the published port now, not who had it before.
func TestFlows(t *testing.T) {
	s := testStore(t)
	n := neighbour(t, s)
	asked, err := ParsePublish("5353:53/udp")
	if err != nil {
		t.Fatal(err)
	}
	var client *net.UDPConn
	err = n.Do(func() (err error) {
		client, err = net.DialUDP("udp", nil, &net.UDPAddr{IP: net.IPv4(10, 200, 0, 1), Port: 5353})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ask := func(question string) string {
		buf := make([]byte, 100)
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
			_, _ = client.Write([]byte(question)) // refused while nobody is there
			_ = client.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
			n, err := client.Read(buf)
			if name, ours := strings.CutPrefix(string(buf[:n]), question); err == nil && ours {
				return name // and no late answer to another
			}
		}
		return "nobody"
	}
	// Before anybody has the port a datagram is remembered as one to this machine itself.
	_, _ = client.Write([]byte("?"))
	boxes := []*box{join(t, s, "first", Attachment{Network: Bridge}), join(t, s, "second", Attachment{Network: Bridge})}
	for _, b := range boxes {
		b.answer(t)
		relay, err := Listen(t.Context(), asked, ListenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Publish(b.ends[0], relay.Bindings()); err != nil {
			t.Fatal(err)
		}
		if got := ask(b.owner.Name + "?"); got != b.owner.Name {
			t.Errorf("%q, want %s", got, b.owner.Name)
		}
		relay.Close()
		if err := s.Release(b.owner.ID); err != nil {
			t.Fatal(err)
		}
	}
}
