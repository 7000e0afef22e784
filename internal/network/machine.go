package network

import (
	"errors"
	"fmt"
	"iter"
	"net"
	"net/netip"
	"os"
	"slices"
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

// groundMTU is that of networks which a plain user has: their packets end in a program, strata-net's or pasta's are as large.
const groundMTU = 65520

// mtu is that of the way out, if there is one.
func (k *kernel) mtu() int {
	if k.s.opt.Userns {
		return groundMTU
	}
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
	_, have4 := n.Pool4()
	_, have6 := n.Pool6()
	if err := k.addGateways(link, n.Pools); err != nil || have4 && (have6 || !n.IPv6) {
		return err
	}
	pools, err := k.s.pools()
	if err != nil {
		return err
	}
	if !have4 {
		if err := k.choose(n, link, subnets(pools, false)); err != nil {
			return err
		}
	}
	if have6 || !n.IPv6 {
		return nil
	}
	if slices.ContainsFunc(pools, func(p AddressPool) bool { return p.Base.Addr().Is6() }) {
		return k.choose(n, link, subnets(pools, true))
	}
	return k.choose(n, link, slices.Values([]netip.Prefix{unique6(n.ID)}))
}

// pools are what subnets are taken from: docker's usual ones for a family of which the settings name none.
func (s *Store) pools() ([]AddressPool, error) {
	if s.opt.Pools == nil {
		return usualPools(), nil
	}
	pools, err := s.opt.Pools()
	if !slices.ContainsFunc(pools, func(p AddressPool) bool { return p.Base.Addr().Is4() }) {
		pools = append(pools, usualPools()...)
	}
	return pools, err
}

// choose finds a subnet among the candidates. Stores do not know of each other, and no lock is shared by all: so the address is
// set first, and if another has come to the same one meanwhile, given up again. Of two at once at least one sees the other.
func (k *kernel) choose(n *Network, link netlink.Link, candidates iter.Seq[netip.Prefix]) error {
	recorded, err := k.recorded(*n)
	if err != nil {
		return err
	}
	taken, err := k.taken(0)
	if err != nil {
		return err
	}
	for subnet := range candidates {
		if overlaps(recorded, subnet) || overlaps(taken, subnet) {
			continue
		}
		p := Pool{Subnet: subnet}
		if err := p.complete(); err != nil {
			return err
		}
		if err := k.addGateways(link, []Pool{p}); err != nil {
			return err
		}
		if taken, err = k.taken(link.Attrs().Index); err != nil {
			return err
		}
		if !overlaps(taken, subnet) {
			n.Pools = append(n.Pools, p)
			slices.SortStableFunc(n.Pools, func(a, b Pool) int { return a.Subnet.Addr().BitLen() - b.Subnet.Addr().BitLen() })
			return nil
		}
		if err := k.rt.AddrDel(link, linkAddr(netip.PrefixFrom(p.Gateway, p.Subnet.Bits()))); err != nil {
			return err
		}
	}
	return errdef.WithHint(&wordedError{"could not find an available, non-overlapping address pool among the defaults to assign to the network", errdef.ErrUnavailable},
		"strata network prune   (or give the network a --subnet of its own, or strata.toml more network.address-pools)")
}

func overlaps(taken []netip.Prefix, subnet netip.Prefix) bool {
	return slices.ContainsFunc(taken, subnet.Overlaps)
}

// recorded is what the store's other networks have: their bridges may not stand since the machine was started.
func (k *kernel) recorded(n Network) (all []netip.Prefix, err error) {
	networks, err := k.s.List()
	for _, other := range networks {
		if other.ID == n.ID {
			continue
		}
		for _, p := range other.Pools {
			all = append(all, p.Subnet)
		}
	}
	return all, err
}

// taken is what this machine has addresses in or routes to, those of one device left out. A plain user's bridges stand apart: what
// leads somewhere there would hide what the machine's own routes lead to.
func (k *kernel) taken(except int) ([]netip.Prefix, error) {
	all, err := taken(k.rt, except)
	if err != nil || !k.s.opt.Userns {
		return all, err
	}
	err = outside(func() error {
		rt, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer rt.Close()
		more, err := taken(rt, 0)
		all = append(all, more...)
		return err
	})
	return all, err
}

func taken(rt *netlink.Handle, except int) (all []netip.Prefix, err error) {
	addrs, err := rt.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		if p, ok := prefixOf(a.IPNet); ok && a.LinkIndex != except {
			all = append(all, p)
		}
	}
	// Of all tables: those of private networks have their own.
	routes, err := rt.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, err
	}
	for _, r := range routes {
		if p, ok := prefixOf(r.Dst); ok && !isDefault(r) && r.LinkIndex != except && leads(r) {
			all = append(all, p)
		}
	}
	return all, nil
}

// leads reports whether a route leads somewhere: others say that nothing is there.
func leads(r netlink.Route) bool {
	return r.Type != unix.RTN_BLACKHOLE && r.Type != unix.RTN_UNREACHABLE && r.Type != unix.RTN_PROHIBIT
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
