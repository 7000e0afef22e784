//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"strata/internal/network"
)

// wireMTU is the size of the largest packet: there is no medium between the two ends that would set one.
const wireMTU = 65520

// outName is the interface in the ground that leads out.
const outName = "out"

// Addresses on the wire are for this link alone, so that they are in nobody's way.
func near4() netip.Prefix { return netip.MustParsePrefix("169.254.87.1/30") } // the ground's
func far4() netip.Addr    { return netip.MustParseAddr("169.254.87.2") }      // ours
func near6() netip.Prefix { return netip.MustParsePrefix("fd57:7261:7461::1/64") }
func far6() netip.Addr    { return netip.MustParseAddr("fd57:7261:7461::2") }

func nearMAC() net.HardwareAddr { return net.HardwareAddr{0x02, 0x42, 0, 0, 0, 1} }

// farMAC is that of our stack. The kernel's device at our end has another: what is for us the kernel leaves alone.
func farMAC() net.HardwareAddr { return net.HardwareAddr{0x02, 0x42, 0, 0, 0, 2} }

// wire is our end of the cable. It is in a network namespace of our own, so that it goes with this process, and the other end
// with it.
type wire struct {
	home *network.Sandbox
	fd   int // a packet socket
	six  bool
}

func (w *wire) close() {
	unix.Close(w.fd)
	w.home.Close()
}

// layWire lays a cable into the ground and leads out through it, for IPv6 only if this machine has a way out for that.
func layWire(ground *network.Sandbox, six bool) (*wire, error) {
	home, err := network.NewSandbox()
	if err != nil {
		return nil, err
	}
	w := &wire{home: home, fd: -1, six: six}
	target, err := os.Open(ground.Path())
	if err != nil {
		return nil, err
	}
	defer target.Close()
	err = ground.Do(clearAway)
	if err == nil {
		err = home.Do(func() error { return w.lay(int(target.Fd())) })
	}
	if err == nil {
		err = ground.Do(func() error { return leadOut(six) })
	}
	if err != nil {
		w.close()
		return nil, fmt.Errorf("way out: %w", err)
	}
	return w, nil
}

// clearAway removes the end of a cable whose other end's process was killed, if the kernel has not done so yet.
func clearAway() error {
	rt, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer rt.Close()
	link, err := rt.LinkByName(outName)
	if err == nil {
		err = rt.LinkDel(link)
	}
	var gone netlink.LinkNotFoundError
	if errors.As(err, &gone) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// lay makes the cable, in our namespace, and opens our end of it.
func (w *wire) lay(ground int) error {
	rt, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer rt.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.Flags = "wire", wireMTU, net.FlagUp
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: outName, PeerHardwareAddr: nearMAC(), PeerMTU: wireMTU, PeerNamespace: netlink.NsFd(ground)}
	if err := rt.LinkAdd(veth); err != nil {
		return fmt.Errorf("cable: %w", err)
	}
	link, err := rt.LinkByName("wire")
	if err != nil {
		return err
	}
	return w.open(link.Attrs().Index)
}

// open opens the packet socket. Packets come with the kernel's header of what it left for hardware to do: segments are handed over
// together, and without check sums, as between containers.
func (w *wire) open(index int) error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("packet socket: %w", err)
	}
	w.fd = fd
	for _, option := range []struct{ level, name, value int }{
		{unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1},
		{unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1},
		{unix.SOL_SOCKET, unix.SO_RCVBUF, 4 << 20}, // as much of it as the machine gives
		{unix.SOL_SOCKET, unix.SO_SNDBUF, 4 << 20},
	} {
		if err := unix.SetsockoptInt(fd, option.level, option.name, option.value); err != nil {
			return fmt.Errorf("packet socket: option %d: %w", option.name, err)
		}
	}
	all := uint16(unix.ETH_P_ALL)<<8 | uint16(unix.ETH_P_ALL)>>8 // in network byte order
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index}); err != nil {
		return fmt.Errorf("packet socket: %w", err)
	}
	return nil
}

// leadOut gives the end in the ground its addresses and makes it the way out.
func leadOut(six bool) error {
	rt, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer rt.Close()
	link, err := rt.LinkByName(outName)
	if err != nil {
		return err
	}
	if err := rt.LinkSetUp(link); err != nil {
		return err
	}
	if err := hop(rt, link, near4(), far4()); err != nil || !six {
		return err
	}
	return hop(rt, link, near6(), far6())
}

// hop is an address of one family, and the default route to the other end.
func hop(rt *netlink.Handle, link netlink.Link, near netip.Prefix, far netip.Addr) error {
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: near.Addr().AsSlice(), Mask: net.CIDRMask(near.Bits(), far.BitLen())}}
	if far.Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	if err := rt.AddrAdd(link, addr); err != nil {
		return fmt.Errorf("address %s: %w", near, err)
	}
	index := link.Attrs().Index
	err := rt.NeighSet(&netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, IP: far.AsSlice(), HardwareAddr: farMAC()})
	if err != nil {
		return fmt.Errorf("neighbour %s: %w", far, err)
	}
	if err := rt.RouteReplace(&netlink.Route{LinkIndex: index, Gw: far.AsSlice()}); err != nil {
		return fmt.Errorf("route by %s: %w", far, err)
	}
	return nil
}

// defaultRoute6 reports whether this machine has a way out for IPv6.
func defaultRoute6() bool {
	f, err := os.Open("/proc/net/ipv6_route")
	if err != nil {
		return false
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// Destination and its length, source and its length, gateway, …, device.
		field := strings.Fields(lines.Text())
		if len(field) == 10 && field[1] == "00" && strings.Trim(field[0], "0") == "" && field[9] != "lo" {
			return true
		}
	}
	return false
}

// dropRights gives up what the user's namespace gave: all capabilities, and the way to any others.
func dropRights() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); errno != 0 {
		return fmt.Errorf("no new privileges: %w", errno)
	}
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&none[0])), 0)
	if errno != 0 {
		return fmt.Errorf("capabilities: %w", errno)
	}
	return nil
}
