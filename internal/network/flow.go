package network

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// toUsBy matches what the kernel keeps of datagrams that came to this machine's addresses at published ports.
type toUsBy struct {
	ports map[uint16]bool
	ours  map[string]bool // addresses as bytes
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (f toUsBy) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	to := flow.Forward.DstIP
	if four := to.To4(); four != nil {
		to = four
	}
	return flow.Forward.Protocol == unix.IPPROTO_UDP && f.ports[flow.Forward.DstPort] && f.ours[string(to)]
}

// forgetFlows makes the kernel forget where it sent datagrams that came to these published ports. It remembers that for minutes, and a
// client who goes on would be led to an address that nobody has any more, or past the container that has the port now. Of streams it
// need not forget anything: they end.
func (k *kernel) forgetFlows(bindings []Binding) error {
	f := toUsBy{map[uint16]bool{}, map[string]bool{}}
	families := map[netlink.InetFamily]bool{}
	for _, b := range bindings {
		if b.Port.Protocol != "udp" {
			continue
		}
		f.ports[b.HostPort] = true
		if b.HostIP.Is6() {
			families[unix.AF_INET6] = true
		} else {
			families[unix.AF_INET] = true
		}
	}
	if len(f.ports) == 0 {
		return nil
	}
	addrs, err := k.rt.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if p, ok := prefixOf(a.IPNet); ok {
			f.ours[string(p.Addr().AsSlice())] = true
		}
	}
	for family := range families {
		var err error = netlink.ErrDumpInterrupted
		for try := 0; try < 5 && errors.Is(err, netlink.ErrDumpInterrupted); try++ { // the list changed while it was read
			_, err = k.rt.ConntrackDeleteFilters(netlink.ConntrackTable, family, f)
		}
		// A kernel that shows nobody what it remembers (without nf_conntrack_netlink) is as it is.
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EPROTONOSUPPORT) && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return fmt.Errorf("datagrams to published ports: %w", classify(err))
		}
	}
	return nil
}
