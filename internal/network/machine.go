package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// kernel works on the namespace in which the bridges stand. It is used by one goroutine, on a thread that is in that namespace.
type kernel struct {
	s  *Store
	rt *netlink.Handle
}

// onMachine calls fn with the kernel of the namespace in which the bridges stand: this machine's, or for a plain user the one
// that his store has in its user namespace.
func (s *Store) onMachine(fn func(*kernel) error) error {
	work := func() error {
		rt, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("netlink: %w", classify(err))
		}
		defer rt.Close()
		return fn(&kernel{s, rt})
	}
	if !s.opt.Userns {
		return work()
	}
	ns, err := s.ground()
	if err != nil {
		return err
	}
	defer ns.Close()
	return in(ns, work)
}

// found makes the bridge of a network that has none yet. Addresses that nobody named are chosen here: such that nothing on
// this machine has or leads to.
func (k *kernel) found(n *Network) error {
	link, err := k.makeBridge(n)
	if err != nil {
		return err
	}
	err = k.number(n, link)
	if err == nil {
		err = k.rt.LinkSetUp(link)
	}
	if err == nil {
		err = k.admit(*n)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("network %s: bridge %s: %w", n.Name, n.Device, classify(err)), k.removeBridge(n.Device))
	}
	return nil
}

func (k *kernel) makeBridge(n *Network) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = n.Device, mtuOf(*n)
	if attrs.MTU == 0 {
		attrs.MTU = k.mtu()
	}
	// A hardware address of its own: else the bridge has that of one of its cables, and changes it as they come and go.
	attrs.HardwareAddr = bridgeMAC(n.ID)
	link := &netlink.Bridge{LinkAttrs: attrs}
	if err := k.rt.LinkAdd(link); err != nil {
		if errors.Is(err, unix.EEXIST) {
			return nil, errdef.WithHint(fmt.Errorf("network %s: a device %s exists: %w", n.Name, n.Device, errdef.ErrExists),
				"ip link delete "+n.Device+"   (if it is nobody's)")
		}
		return nil, k.cannot(fmt.Errorf("network %s: bridge %s: %w", n.Name, n.Device, err))
	}
	return link, nil
}

// cannot adds what to do when this machine does not let us make networks.
func (k *kernel) cannot(err error) error {
	err = classify(err)
	switch {
	case errors.Is(err, unix.EPERM):
		return errdef.WithHint(err, "making networks takes CAP_NET_ADMIN: run with --network host")
	case errors.Is(err, unix.EOPNOTSUPP):
		return errdef.WithHint(err, "the kernel lacks bridges: modprobe bridge veth, or run with --network host")
	}
	return err
}

func bridgeMAC(id string) net.HardwareAddr {
	mac := net.HardwareAddr{0x02, 0x42}
	for i := 0; i < 8; i += 2 {
		var b byte
		_, _ = fmt.Sscanf(id[i:i+2], "%02x", &b) // an id is hexadecimal
		mac = append(mac, b)
	}
	return mac
}

// mtu is that of the way out, if there is one.
func (k *kernel) mtu() int {
	routes, err := k.rt.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return 0
	}
	for _, r := range routes {
		if !isDefault(r) {
			continue
		}
		if link, err := k.rt.LinkByIndex(r.LinkIndex); err == nil {
			return link.Attrs().MTU
		}
	}
	return 0
}

func isDefault(r netlink.Route) bool {
	if r.Dst == nil {
		return true
	}
	ones, _ := r.Dst.Mask.Size()
	return ones == 0
}

// number gives the bridge its addresses.
func (k *kernel) number(n *Network, link netlink.Link) error {
	if _, have := n.Pool4(); !have {
		if err := k.choose4(n, link); err != nil {
			return err
		}
	} else if err := k.addGateways(link, n.Pools); err != nil {
		return err
	}
	if _, have := n.Pool6(); n.IPv6 && !have {
		p := Pool{Subnet: unique6(n.ID)}
		if err := p.complete(); err != nil {
			return err
		}
		n.Pools = append(n.Pools, p)
		return k.addGateways(link, []Pool{p})
	}
	return nil
}

// choose4 finds an IPv4 subnet. Stores do not know of each other, and no lock is shared by all: so the address is set
// first, and if another has come to the same one meanwhile, given up again. Of two at once at least one sees the other.
func (k *kernel) choose4(n *Network, link netlink.Link) error {
	given := len(n.Pools)
	for subnet := range candidates() {
		if used, err := k.inUse(subnet, 0); err != nil {
			return err
		} else if used {
			continue
		}
		p := Pool{Subnet: subnet}
		if err := p.complete(); err != nil {
			return err
		}
		pools := append([]Pool{p}, n.Pools[:given]...)
		if err := k.addGateways(link, pools); err != nil {
			return err
		}
		used, err := k.inUse(subnet, link.Attrs().Index)
		if err != nil {
			return err
		}
		if !used {
			n.Pools = pools
			return nil
		}
		if err := k.dropAddresses(link); err != nil {
			return err
		}
	}
	return errdef.WithHint(&wordedError{"could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network", errdef.ErrUnavailable},
		"strata network prune   (or give the network a --subnet of its own)")
}

// inUse reports whether an address or a route of this machine, those of one device left out, lies in the subnet or around it.
func (k *kernel) inUse(subnet netip.Prefix, except int) (bool, error) {
	addrs, err := k.rt.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return false, err
	}
	for _, a := range addrs {
		if p, ok := prefixOf(a.IPNet); ok && a.LinkIndex != except && p.Overlaps(subnet) {
			return true, nil
		}
	}
	routes, err := k.rt.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return false, err
	}
	for _, r := range routes {
		if p, ok := prefixOf(r.Dst); ok && !isDefault(r) && r.LinkIndex != except && p.Overlaps(subnet) {
			return true, nil
		}
	}
	return false, nil
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), ones), ok
}

func (k *kernel) addGateways(link netlink.Link, pools []Pool) error {
	for _, p := range pools {
		if err := k.rt.AddrAdd(link, linkAddr(netip.PrefixFrom(p.Gateway, p.Subnet.Bits()))); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
	return nil
}

func (k *kernel) dropAddresses(link netlink.Link) error {
	addrs, err := k.rt.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if err := k.rt.AddrDel(link, &a); err != nil {
			return err
		}
	}
	return nil
}

// linkAddr is an address for a device. IPv6 asks nobody whether it is free: we gave it out.
func linkAddr(p netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

// stands reports whether a recorded network's bridge and the table are there: a restart of the machine takes both away, and
// others flush the whole rule set when they start.
func (k *kernel) stands(n Network) (bool, error) {
	_, err := k.rt.LinkByName(n.Device)
	var gone netlink.LinkNotFoundError
	if errors.As(err, &gone) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	c, err := nftables.New()
	if err != nil {
		return false, err
	}
	_, err = c.ListTableOfFamily(k.s.tableName(), nftables.TableFamilyINet)
	return err == nil, nil
}

// raise makes what a recorded network lacks of that. The caller holds the lock "all".
func (k *kernel) raise(n Network) error {
	if _, err := k.rt.LinkByName(n.Device); err != nil {
		return k.found(&n)
	}
	if ok, err := k.stands(n); ok || err != nil {
		return err
	}
	return k.rebuild(&n)
}

// removeBridge removes a device; one that is not there is no error.
func (k *kernel) removeBridge(name string) error {
	link, err := k.rt.LinkByName(name)
	if err == nil {
		err = k.rt.LinkDel(link)
	}
	var gone netlink.LinkNotFoundError
	if errors.As(err, &gone) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// setting writes one of the kernel's network settings if it has another value.
func setting(name, value string) error {
	path := "/proc/sys/net/" + name
	now, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("setting %s: %w", name, err)
	}
	if strings.TrimSpace(string(now)) == value {
		return nil
	}
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		return errdef.WithHint(fmt.Errorf("setting %s: %w", name, err), "sysctl -w net."+strings.ReplaceAll(name, "/", ".")+"="+value)
	}
	return nil
}

// classify adds the error class to what the kernel said.
func classify(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w: %w", errdef.ErrDenied, err)
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EPROTONOSUPPORT):
		return fmt.Errorf("%w: %w", errdef.ErrUnsupported, err)
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%w: %w", errdef.ErrNotFound, err)
	}
	return err
}
