package network

import (
	"crypto/sha256"
	"fmt"
	"iter"
	"net/netip"
	"regexp"
	"strings"

	"strata/internal/errdef"
)

// ParsePool reads what --subnet, --ip-range, --gateway and --aux-address say of one subnet; "" leaves a part to be chosen.
func ParsePool(subnet, ipRange, gateway string) (p Pool, err error) {
	if p.Subnet, err = parsePrefix("subnet", subnet); err != nil {
		return p, err
	}
	if ipRange != "" {
		if p.Range, err = parsePrefix("ip-range", ipRange); err != nil {
			return p, err
		}
	}
	if gateway != "" {
		if p.Gateway, err = netip.ParseAddr(gateway); err != nil {
			return p, invalid("invalid gateway address: %.60s", gateway)
		}
	}
	return p, nil
}

func parsePrefix(what, s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, invalid("invalid %s %.60s: invalid CIDR block notation", what, s)
	}
	if p != p.Masked() {
		return p, invalid("invalid %s %s: it should be %s", what, p, p.Masked())
	}
	return p, nil
}

// complete checks the pool and chooses its gateway if nobody did: the first address.
func (p *Pool) complete() error {
	switch host := p.Subnet.Addr().BitLen() - p.Subnet.Bits(); {
	case !p.Subnet.IsValid():
		return invalid("a subnet is needed")
	case host < 2:
		return invalid("invalid subnet %s: it has no room for a gateway and a container", p.Subnet)
	case p.Subnet.Addr().IsMulticast() || p.Subnet.Addr().IsLoopback():
		return invalid("invalid subnet %s: not addresses of a network", p.Subnet)
	}
	inside := func(pre netip.Prefix) bool {
		return p.Subnet.Contains(pre.Addr()) && pre.Bits() >= p.Subnet.Bits()
	}
	if p.Range.IsValid() && !inside(p.Range) {
		return invalid("no matching subnet for range %s", p.Range)
	}
	if !p.Gateway.IsValid() {
		p.Gateway = p.Subnet.Addr().Next()
	}
	if !p.Subnet.Contains(p.Gateway) {
		return invalid("no matching subnet for gateway %s", p.Gateway)
	}
	for name, a := range p.Aux {
		if !p.Subnet.Contains(a) {
			return invalid("no matching subnet for aux-address %s (%.60s)", a, name)
		}
	}
	return nil
}

func checkPools(pools []Pool) error {
	seen := map[bool]bool{}
	for _, p := range pools {
		six := p.Subnet.Addr().Is6()
		if seen[six] {
			return fmt.Errorf("several subnets of one family: %w", errdef.ErrUnsupported)
		}
		seen[six] = true
	}
	return nil
}

// clash refuses a network whose addresses are another's.
func clash(all []Network, n Network) error {
	for _, other := range all {
		for _, a := range other.Pools {
			for _, b := range n.Pools {
				if a.Subnet.Overlaps(b.Subnet) {
					return errdef.WithHint(&wordedError{"Pool overlaps with other one on this address space", errdef.ErrConflict},
						fmt.Sprintf("network %s has %s: choose another --subnet", other.Name, a.Subnet))
				}
			}
		}
	}
	return nil
}

// AddressPool is cut into subnets for networks that name none: Base holds them all, Bits is the length of each one's prefix.
type AddressPool struct {
	Base netip.Prefix
	Bits int
}

// ParseAddressPool reads one of docker's default-address-pools: its base and size.
func ParseAddressPool(base string, size int) (p AddressPool, err error) {
	if p.Base, err = parsePrefix("base", base); err != nil {
		return p, err
	}
	if size < p.Base.Bits() || size > p.Base.Addr().BitLen()-2 {
		return p, invalid("invalid size %d: subnets of %s have prefixes of %d to %d bits", size, p.Base, p.Base.Bits(), p.Base.Addr().BitLen()-2)
	}
	p.Bits = size
	return p, nil
}

// usualPools are docker's, in docker's order.
func usualPools() []AddressPool {
	var pools []AddressPool
	for i := byte(17); i <= 31; i++ {
		pools = append(pools, AddressPool{netip.PrefixFrom(netip.AddrFrom4([4]byte{172, i}), 16), 16})
	}
	return append(pools, AddressPool{netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168}), 16), 20})
}

// maxCandidates bounds the subnets of one pool that are looked at: one of IPv6 may have more than can be.
const maxCandidates = 1 << 16

// subnets cuts pools of one family into the subnets that they give.
func subnets(pools []AddressPool, six bool) iter.Seq[netip.Prefix] {
	return func(yield func(netip.Prefix) bool) {
		for _, p := range pools {
			at := p.Base.Addr()
			for i := 0; i < maxCandidates && at.Is6() == six && p.Base.Contains(at); i++ {
				subnet := netip.PrefixFrom(at, p.Bits)
				if !yield(subnet) {
					return
				}
				at = lastOf(subnet).Next()
			}
		}
	}
}

// unique6 is an IPv6 subnet for local use that only the network of this id has.
func unique6(id string) netip.Prefix {
	sum := sha256.Sum256([]byte(id))
	addr := [16]byte{0xfd}
	copy(addr[1:8], sum[:])
	return netip.PrefixFrom(netip.AddrFrom16(addr), 64)
}

// free finds the lowest address of the pool that nobody has.
func (p Pool) free(taken func(netip.Addr) bool) (netip.Addr, error) {
	in := p.Subnet
	if p.Range.IsValid() {
		in = p.Range
	}
	last := lastOf(p.Subnet)
	for a := in.Addr(); in.Contains(a); a = a.Next() {
		if a != p.Subnet.Addr() && (a.Is6() || a != last) && p.usable(a) && !taken(a) {
			return a, nil
		}
	}
	return netip.Addr{}, errdef.WithHint(fmt.Errorf("no available IPv%d addresses on this network's address pools: %s: %w", family(in.Addr()), in, errdef.ErrUnavailable),
		"stop containers that are in it, or make a network with a larger --subnet")
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 4
	}
	return 6
}

// usable reports whether a is not set aside.
func (p Pool) usable(a netip.Addr) bool {
	if a == p.Gateway {
		return false
	}
	for _, aux := range p.Aux {
		if a == aux {
			return false
		}
	}
	return true
}

// want checks an address that was asked for.
func (p Pool) want(a netip.Addr, taken func(netip.Addr) bool) error {
	switch {
	case !p.Subnet.IsValid() || !p.Subnet.Contains(a):
		return errdef.WithHint(&wordedError{"no configured subnet contains IP address " + a.String(), errdef.ErrInvalid}, "the network has "+p.Subnet.String())
	case !p.usable(a) || taken(a):
		return &wordedError{"Address already in use", errdef.ErrConflict}
	}
	return nil
}

// lastOf is the last address of a prefix, which for IPv4 is the broadcast address.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	return last
}

// Options that a bridge network may have, docker's names.
const (
	optBridgeName  = "com.docker.network.bridge.name"
	optMasquerade  = "com.docker.network.bridge.enable_ip_masquerade"
	optTalk        = "com.docker.network.bridge.enable_icc"
	optBindingIPv4 = "com.docker.network.bridge.host_binding_ipv4"
	optMTU         = "com.docker.network.driver.mtu"
	optPrefix      = "com.docker.network.container_iface_prefix"
)

// checkOptions refuses options that nobody would heed.
func checkOptions(n Network) error {
	for key, value := range n.Options {
		var ok bool
		switch key {
		case optBridgeName, optPrefix:
			ok = deviceName(value) && len(value) <= 15
		case optMasquerade, optTalk:
			_, ok = yes(value)
		case optBindingIPv4:
			a, err := netip.ParseAddr(value)
			ok = err == nil && a.Is4()
		case optMTU:
			ok = mtuOf(n) >= 68 && mtuOf(n) <= 65535
		default:
			return errdef.WithHint(fmt.Errorf("network option %.80q: %w", key, errdef.ErrUnsupported), "docs/networks.md lists those that there are")
		}
		if !ok {
			return invalid("network option %s: %.60q cannot be its value", key, value)
		}
	}
	return nil
}

// mtuOf is the network's own MTU, 0 when it has none.
func mtuOf(n Network) int {
	var mtu int
	if _, err := fmt.Sscanf(n.Options[optMTU], "%d", &mtu); err != nil {
		return 0
	}
	return mtu
}

func yes(s string) (value, ok bool) {
	switch strings.ToLower(s) {
	case "true", "1", "t":
		return true, true
	case "false", "0", "f":
		return false, true
	}
	return false, false
}

// option is a yes or no of a network's options, yes unless it says no.
func (n Network) option(key string) bool {
	value, ok := yes(n.Options[key])
	return value || !ok
}

func deviceName(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c == '/' || c == ':' || c >= 0x7f {
			return false
		}
	}
	return s != "" && s != "." && s != ".."
}

// checkName holds docker's rule for names of networks.
func checkName(name string) error {
	if builtin(name) {
		return &wordedError{fmt.Sprintf("operation is not permitted on predefined %s network", name), errdef.ErrDenied}
	}
	if ok, _ := regexp.MatchString(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`, name); !ok || len(name) > 128 {
		return invalid("invalid network name %.130q: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)
	}
	return nil
}
