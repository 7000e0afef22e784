package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// Join puts the sandbox into a network. index counts its interfaces; the first network with a way out is the way out.
func (s *Store) Join(ctx context.Context, sb *Sandbox, o Owner, a Attachment, index int) (Endpoint, error) {
	n, err := s.Lookup(a.Network)
	if err != nil {
		return Endpoint{}, err
	}
	if n.Driver != DriverBridge {
		return Endpoint{}, &wordedError{fmt.Sprintf("container cannot be connected to network %s", n.Name), errdef.ErrInvalid}
	}
	if err := s.exists(ctx, &n); err != nil {
		return Endpoint{}, err
	}
	e, err := s.seatIn(ctx, n, o, a, index)
	if err != nil {
		return e, err
	}
	err = s.onMachine(func(k *kernel) error {
		if err := s.stand(ctx, k, n); err != nil {
			return err
		}
		if err := s.repolice(k, e); err != nil {
			return err
		}
		return k.plug(n, e, sb)
	})
	if err == nil && s.opt.Userns && !n.Internal {
		err = s.egress(ctx)
	}
	if err != nil {
		return e, errors.Join(fmt.Errorf("network %s: %w", n.Name, err), s.leave(e, false))
	}
	return e, nil
}

// stand makes sure that the network's bridge and the firewall are there.
func (s *Store) stand(ctx context.Context, k *kernel, n Network) error {
	if ok, err := k.stands(n); ok || err != nil {
		return err
	}
	unlock, err := s.lock(ctx, "all")
	if err != nil {
		return err
	}
	defer unlock()
	return k.raise(n)
}

// plug lays the cable from the bridge into the sandbox and sets up the interface there.
func (k *kernel) plug(n Network, e Endpoint, sb *Sandbox) error {
	bridge, err := k.rt.LinkByName(n.Device)
	if err != nil {
		return err
	}
	mac, err := net.ParseMAC(e.MAC)
	if err != nil {
		return invalid("invalid MAC address %.40q", e.MAC)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex, attrs.Flags, attrs.MTU = e.Device, bridge.Attrs().Index, net.FlagUp, bridge.Attrs().MTU
	veth := &netlink.Veth{
		LinkAttrs: attrs, PeerName: e.Interface, PeerHardwareAddr: mac, PeerMTU: uint32(bridge.Attrs().MTU),
		PeerNamespace: netlink.NsFd(int(sb.ns.Fd())),
	}
	if err := k.rt.LinkAdd(veth); err != nil {
		return k.cannot(fmt.Errorf("cable %s: %w", e.Device, err))
	}
	return sb.Do(func() error { return e.setUp() })
}

// setUp gives the interface its addresses and routes, inside.
func (e Endpoint) setUp() error {
	rt, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer rt.Close()
	link, err := rt.LinkByName(e.Interface)
	if err != nil {
		return err
	}
	if e.IPv6.IsValid() || slices.ContainsFunc(e.LinkLocal, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		if err := setting("ipv6/conf/"+e.Interface+"/disable_ipv6", "0"); err != nil {
			return err
		}
	}
	for _, p := range append([]netip.Prefix{e.IPv4, e.IPv6}, e.LinkLocal...) {
		if p.IsValid() {
			if err := rt.AddrAdd(link, linkAddr(p)); err != nil {
				return fmt.Errorf("address %s: %w", p, classify(err))
			}
		}
	}
	if err := rt.LinkSetUp(link); err != nil {
		return fmt.Errorf("interface %s: %w", e.Interface, classify(err))
	}
	return e.route(rt, link)
}

// route leads out through this network, unless another does already.
func (e Endpoint) route(rt *netlink.Handle, link netlink.Link) error {
	for _, gateway := range []netip.Addr{e.Gateway4, e.Gateway6} {
		if !gateway.IsValid() {
			continue
		}
		err := rt.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: gateway.AsSlice()})
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("route by %s: %w", gateway, classify(err))
		}
	}
	return nil
}

// Publish makes the kernel pass on to the endpoint what comes to these ports of this machine.
func (s *Store) Publish(e Endpoint, bindings []Binding) error {
	for _, b := range bindings {
		// To the ground of a plain user's networks nothing comes but by the relay.
		if _, _, ok := element(e, b); ok && !s.opt.Userns {
			e.Forwards = append(e.Forwards, b)
		}
	}
	if len(e.Forwards) == 0 {
		return nil
	}
	if err := s.writeEndpoint(e); err != nil {
		return err
	}
	return s.onMachine(func(k *kernel) error {
		add := func() error {
			return k.change(func(c *nftables.Conn, t *table) error { return t.publish(c, e) })
		}
		err := add()
		if errors.Is(err, unix.EEXIST) {
			// The relay listens at these ports, so nobody else has them: what is there was left by a killed one.
			for _, b := range e.Forwards {
				if err := k.dropForward(e, b); err != nil {
					return err
				}
			}
			err = add()
		}
		return errors.Join(err, k.forgetFlows(e.Forwards))
	})
}

// Leave takes the owner out of one network.
func (s *Store) Leave(owner string, n Network) error {
	endpoints, err := s.Endpoints(owner)
	if err != nil {
		return err
	}
	for _, e := range endpoints {
		if e.NetworkID == n.ID {
			return s.leave(e, false)
		}
	}
	return &wordedError{fmt.Sprintf("container %s is not connected to network %s", owner, n.Name), errdef.ErrConflict}
}

// Reroute leads out through the first of the networks that the owner is in by now.
func (s *Store) Reroute(owner string, sb *Sandbox) error {
	endpoints, err := s.Endpoints(owner)
	if err != nil {
		return err
	}
	return sb.Do(func() error {
		rt, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer rt.Close()
		for _, e := range endpoints {
			link, err := rt.LinkByName(e.Interface)
			if err == nil {
				err = e.route(rt, link)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Release takes the owner out of all networks, when all of its processes have ended: the cables are taken out of the
// bridges, and go with the namespace, which the kernel clears away by and by. Repeating it, or finding nothing, is no error.
func (s *Store) Release(owner string) error {
	endpoints, err := s.Endpoints(owner)
	var errs []error
	for _, e := range endpoints {
		errs = append(errs, s.leave(e, true))
	}
	return errors.Join(append(errs, err)...)
}

// leave takes an endpoint away. dying: its namespace is, too.
func (s *Store) leave(e Endpoint, dying bool) error {
	err := s.onMachine(func(k *kernel) error {
		if err := errors.Join(k.unpublish(e), k.forgetFlows(e.Forwards)); err != nil {
			return err
		}
		return k.unplug(e, dying)
	})
	if err != nil {
		return fmt.Errorf("leaving network %s: %w", e.Network, err)
	}
	if err := os.Remove(s.seatFile(e)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if !e.Policed {
		return nil
	}
	return s.onMachine(func(k *kernel) error { return s.repolice(k, e) })
}

// unplug takes the cable off the bridge. Removing it takes the kernel tens of milliseconds; taking it off does not, and the
// rest comes with the end of the namespace.
func (k *kernel) unplug(e Endpoint, dying bool) error {
	link, err := k.rt.LinkByName(e.Device)
	switch {
	case err == nil && dying:
		err = k.rt.LinkSetNoMaster(link)
	case err == nil:
		err = k.rt.LinkDel(link)
	}
	var gone netlink.LinkNotFoundError
	if errors.As(err, &gone) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// Dialer connects to the ports of an endpoint, from the namespace in which the bridges stand.
func (s *Store) Dialer(e Endpoint) Dial {
	return func(ctx context.Context, p Port) (conn net.Conn, err error) {
		var d net.Dialer
		d.SetMultipathTCP(false) // its sockets cannot be spliced
		to := e.IPv4.Addr()
		if !to.IsValid() {
			to = e.IPv6.Addr()
		}
		dial := func() error {
			conn, err = d.DialContext(ctx, p.Protocol, netip.AddrPortFrom(to, p.Number).String())
			return err
		}
		if !s.opt.Userns {
			err = dial()
			return conn, err
		}
		ns, err := s.ground()
		if err != nil {
			return nil, err
		}
		defer ns.Close()
		err = in(ns, dial)
		return conn, err
	}
}
