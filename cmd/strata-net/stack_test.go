//go:build linux

package main

import (
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// TestTarget: a container's packets lead to other machines, and to this one by its addresses, never to its loopback.
func TestTarget(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1":          "192.0.2.1:80",
		"169.254.169.254":    "169.254.169.254:80",
		"2001:db8::1":        "[2001:db8::1]:80",
		"::ffff:192.0.2.1":   "192.0.2.1:80",
		"127.0.0.1":          "",
		"127.255.0.9":        "",
		"0.0.0.0":            "",
		"255.255.255.255":    "",
		"224.0.0.251":        "",
		"169.254.87.1":       "",
		"169.254.87.2":       "",
		"::1":                "",
		"::":                 "",
		"::ffff:127.0.0.1":   "",
		"::ffff:0.0.0.0":     "",
		"ff02::1":            "",
		"fd57:7261:7461::2":  "",
		"fd57:7261:7461::99": "",
	} {
		id := stack.TransportEndpointID{LocalPort: 80, LocalAddress: tcpip.AddrFromSlice(netip.MustParseAddr(addr).AsSlice())}
		got, ok := target(id)
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("%s: %v %v, want %q", addr, got, ok, want)
		}
	}
	if _, ok := target(stack.TransportEndpointID{LocalAddress: tcpip.AddrFrom4([4]byte{192, 0, 2, 1})}); ok {
		t.Error("port 0 leads somewhere")
	}
}
