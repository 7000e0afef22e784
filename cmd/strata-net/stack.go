//go:build linux

package main

import (
	"errors"
	"fmt"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/fdbased"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

const (
	nic = 1
	// segments is how many bytes of one stream the kernel and the stack hand each other at once.
	segments = 65536
	// streamBuffer bounds what is held of each direction of a stream: the wire has next to no delay.
	streamBuffer = 1 << 20
	// maxOpening bounds the connections that are being made.
	maxOpening = 1024
)

// serve puts a stack at the end of the wire, and leads what comes to it out.
func serve(w *wire) error {
	link, err := fdbased.New(&fdbased.Options{
		FDs: []int{w.fd}, MTU: wireMTU, EthernetHeader: true, Address: tcpip.LinkAddress(farMAC()),
		GSOMaxSize: segments, RXChecksumOffload: true, PacketDispatchMode: fdbased.RecvMMsg,
	})
	if err != nil {
		return err
	}
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{arp.NewProtocol, ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
	})
	if err := tune(s); err != nil {
		return err
	}
	o := newOutlet()
	s.SetTransportProtocolHandler(tcp.ProtocolNumber, tcp.NewForwarder(s, 0, maxOpening, o.stream).HandlePacket)
	s.SetTransportProtocolHandler(udp.ProtocolNumber, udp.NewForwarder(s, o.datagram).HandlePacket)
	s.SetTransportProtocolHandler(icmp.ProtocolNumber4, func(_ stack.TransportEndpointID, pkt *stack.PacketBuffer) bool { return o.echo(s, pkt) })
	return attach(s, link)
}

func tune(s *stack.Stack) error {
	sack, moderate := tcpip.TCPSACKEnabled(true), tcpip.TCPModerateReceiveBufferOption(true)
	for _, option := range []tcpip.SettableTransportProtocolOption{
		&sack, &moderate,
		&tcpip.TCPReceiveBufferSizeRangeOption{Min: 4096, Default: streamBuffer / 4, Max: streamBuffer},
		&tcpip.TCPSendBufferSizeRangeOption{Min: 4096, Default: streamBuffer / 4, Max: streamBuffer},
	} {
		if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, option); err != nil {
			return failed("tuning", err)
		}
	}
	return nil
}

// attach makes the wire the stack's one interface, which takes what is sent to any address, and answers from it.
func attach(s *stack.Stack, link stack.LinkEndpoint) error {
	if err := s.CreateNIC(nic, link); err != nil {
		return failed("interface", err)
	}
	if err := errors.Join(failed("promiscuity", s.SetPromiscuousMode(nic, true)), failed("spoofing", s.SetSpoofing(nic, true))); err != nil {
		return err
	}
	var routes []tcpip.Route
	for _, hop := range []struct {
		protocol  tcpip.NetworkProtocolNumber
		near, far netip.Addr
		all       tcpip.Subnet
	}{
		{ipv4.ProtocolNumber, near4().Addr(), far4(), header.IPv4EmptySubnet},
		{ipv6.ProtocolNumber, near6().Addr(), far6(), header.IPv6EmptySubnet},
	} {
		near := tcpip.AddrFromSlice(hop.near.AsSlice())
		own := tcpip.ProtocolAddress{Protocol: hop.protocol, AddressWithPrefix: tcpip.AddrFromSlice(hop.far.AsSlice()).WithPrefix()}
		err := errors.Join(failed("address", s.AddProtocolAddress(nic, own, stack.AddressProperties{})),
			failed("neighbour", s.AddStaticNeighbor(nic, hop.protocol, near, tcpip.LinkAddress(nearMAC()))))
		if err != nil {
			return err
		}
		on := near.WithPrefix().Subnet()
		routes = append(routes, tcpip.Route{Destination: on, NIC: nic}, tcpip.Route{Destination: hop.all, Gateway: near, NIC: nic})
	}
	s.SetRouteTable(routes)
	return nil
}

func failed(what string, err tcpip.Error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("network stack: %s: %s", what, err)
}

// target is where what came for an address is to go. Nothing leads to this machine's loopback, nor to several at once.
func target(id stack.TransportEndpointID) (netip.AddrPort, bool) {
	addr, ok := netip.AddrFromSlice(id.LocalAddress.AsSlice())
	addr = addr.Unmap()
	broadcast := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	if !ok || addr.IsUnspecified() || addr.IsLoopback() || addr.IsMulticast() || addr == broadcast ||
		near4().Contains(addr) || near6().Contains(addr) || id.LocalPort == 0 {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(addr, id.LocalPort), true
}
