package network

import (
	"net"
	"testing"
)

// TestHalfMade: what was killed between a network's bridge and its record leaves no bridge, and takes addresses from nobody; a device
// that was there before stays.
func TestHalfMade(t *testing.T) {
	s := testStore(t)
	pool, err := ParsePool("10.213.7.0/24", "", "")
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := s.lock(t.Context(), "all")
	if err != nil {
		t.Fatal(err)
	}
	n, err := s.plan(CreateOptions{Name: "half", Pools: []Pool{pool}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.noteHalfMade(n); err != nil {
		t.Fatal(err)
	}
	if err := s.onMachine(func(k *kernel) error { return k.found(&n) }); err != nil {
		t.Fatal(err)
	}
	unlock()
	if _, err := net.InterfaceByName(n.Device); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(t.Context(), CreateOptions{Name: "whole"}); err != nil {
		t.Fatal(err)
	}
	if _, err := net.InterfaceByName(n.Device); err == nil {
		t.Error("the bridge is left")
	}

	command(t, "ip link add foreign0 type bridge")
	n.Device = "foreign0"
	if err := s.noteHalfMade(n); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(t.Context(), CreateOptions{Name: "other"}); err != nil {
		t.Fatal(err)
	}
	if _, err := net.InterfaceByName("foreign0"); err != nil {
		t.Error("a device of somebody else is gone:", err)
	}
	command(t, "ip link del foreign0")
}
