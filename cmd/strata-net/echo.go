//go:build linux

package main

import (
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// echoTime is how long an answer may take.
const echoTime = 10 * time.Second

// echo passes IPv4 echo requests (ping) on. The machine's kernel lets users send these if their group is in net.ipv4.ping_group_range.
func (o *outlet) echo(s *stack.Stack, pkt *stack.PacketBuffer) bool {
	request := header.ICMPv4(pkt.TransportHeader().Slice())
	if len(request) < header.ICMPv4MinimumSize || request.Type() != header.ICMPv4Echo {
		return false
	}
	from, to := pkt.Network().SourceAddress(), pkt.Network().DestinationAddress()
	at, ok := target(stack.TransportEndpointID{LocalAddress: to, LocalPort: 1}) // the port is of no matter
	if !ok || !take(o.sessions) {
		return false
	}
	message := append(append([]byte{}, request...), pkt.Data().AsRange().ToSlice()...)
	go func() {
		defer func() { <-o.sessions }()
		if answer, err := ask(at.Addr().As4(), message); err == nil {
			reply(s, to, from, request.Ident(), answer)
		}
	}()
	return true
}

// ask sends an echo request and gives the answer. The kernel sees to identifiers and check sums.
func ask(to [4]byte, request []byte) ([]byte, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_ICMP)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "echo")
	defer f.Close()
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to}); err != nil {
		return nil, err
	}
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(echoTime)); err != nil {
		return nil, err
	}
	if _, err := conn.Write(request); err != nil {
		return nil, err
	}
	answer := make([]byte, len(request))
	n, err := conn.Read(answer)
	return answer[:n], err
}

// reply gives the container the answer, as if it came from where he sent the request.
func reply(s *stack.Stack, from, to tcpip.Address, ident uint16, answer []byte) {
	h := header.ICMPv4(answer)
	if len(h) < header.ICMPv4MinimumSize || h.Type() != header.ICMPv4EchoReply {
		return
	}
	h.SetIdent(ident)
	h.SetChecksum(0)
	h.SetChecksum(^checksum.Checksum(answer, 0))
	r, err := s.FindRoute(nic, from, to, header.IPv4ProtocolNumber, false)
	if err != nil {
		return
	}
	defer r.Release()
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{ReserveHeaderBytes: int(r.MaxHeaderLength()), Payload: buffer.MakeWithData(answer)})
	defer pkt.DecRef()
	_ = r.WritePacket(stack.NetworkHeaderParams{Protocol: header.ICMPv4ProtocolNumber, TTL: 64}, pkt) // an answer may be lost
}
