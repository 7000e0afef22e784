package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"strata/internal/nameserver"
)

// ResolverAddr is where a container finds the names of its networks, docker's address: images have it in their configuration.
const ResolverAddr = "127.0.0.11"

// ResolveOptions say where names are asked for that no network knows.
type ResolveOptions struct {
	// Servers are asked from the container's own namespace, if it names any itself.
	Servers []string
	// Machine gives the servers of this machine, which are asked from its namespace.
	Machine func() []string
}

// Resolve answers the owner's questions for names, inside the sandbox at [ResolverAddr], until stop is called. Port 53 itself stays
// free for the container: questions are led to another one by a rule inside.
func (s *Store) Resolve(ctx context.Context, sb *Sandbox, owner string, o ResolveOptions) (stop func(), err error) {
	var streams *net.TCPListener
	var datagrams *net.UDPConn
	err = sb.Do(func() error {
		at := net.ParseIP(ResolverAddr)
		if streams, err = net.ListenTCP("tcp4", &net.TCPAddr{IP: at}); err != nil {
			return err
		}
		if datagrams, err = net.ListenUDP("udp4", &net.UDPAddr{IP: at}); err != nil {
			return err
		}
		return leadQuestions(streams.Addr().(*net.TCPAddr).Port, datagrams.LocalAddr().(*net.UDPAddr).Port)
	})
	stop = func() {
		if streams != nil {
			streams.Close()
		}
		if datagrams != nil {
			datagrams.Close()
		}
	}
	if err != nil {
		stop()
		return nil, fmt.Errorf("names in the container's networks: %w", classify(err))
	}
	z := &zone{s: s, owner: owner}
	server := &nameserver.Server{Zone: z, Forward: func() (nameserver.Forward, bool) {
		if !z.look().out {
			return nameserver.Forward{}, false
		}
		if len(o.Servers) > 0 {
			return nameserver.Forward{Servers: o.Servers, Dial: sb.dial}, true
		}
		return nameserver.Forward{Servers: o.Machine(), Dial: (&net.Dialer{}).DialContext}, true
	}}
	go server.Serve(context.WithoutCancel(ctx), datagrams, streams)
	return stop, nil
}

// dial connects from inside.
func (sb *Sandbox) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = sb.Do(func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// leadQuestions leads what the calling thread's namespace sends to port 53 of ResolverAddr to these ports there.
func leadQuestions(tcp, udp int) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "strata-names"})
	c.FlushTable(t)
	ch := c.AddChain(&nftables.Chain{Name: "output", Table: t, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest})
	at := netip.MustParseAddr(ResolverAddr).AsSlice()
	for proto, to := range map[byte]int{unix.IPPROTO_TCP: tcp, unix.IPPROTO_UDP: udp} {
		exprs := append(transport(proto, expr.CmpOpEq), port(2, 53)...)
		exprs = append(exprs, destination4(1), &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: at},
			&expr.Immediate{Register: 1, Data: at}, &expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(uint16(to))},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2})
		c.AddRule(&nftables.Rule{Table: t, Chain: ch, Exprs: exprs})
	}
	return c.Flush()
}

// zone is what one container can call by name: those who are in its networks.
type zone struct {
	s     *Store
	owner string

	mu    sync.Mutex
	known view
}

// view is the names as they were when the directories had these times of change.
type view struct {
	stamp string
	addrs map[string][]netip.Addr
	names map[netip.Addr][]string
	out   bool // one of the networks has a way out
}

func (z *zone) Addresses(name string) ([]netip.Addr, bool) {
	addrs, ok := z.look().addrs[name]
	return slices.Clone(addrs), ok
}

func (z *zone) Names(addr netip.Addr) []string { return z.look().names[addr] }

// look gives the names, read anew if somebody has come or gone.
func (z *zone) look() view {
	z.mu.Lock()
	defer z.mu.Unlock()
	stamp, settled := z.s.stamp()
	if z.known.addrs == nil || !settled || stamp != z.known.stamp {
		if v, err := z.read(); err == nil { // else what was known is better than nothing
			v.stamp = stamp
			z.known = v
		}
	}
	return z.known
}

// stamp names the state of all networks by when they changed. It is settled if that was long enough ago for another change to have
// another time.
func (s *Store) stamp() (stamp string, settled bool) {
	dirs, err := os.ReadDir(s.opt.Run)
	if err != nil {
		return "", false
	}
	var b strings.Builder
	settled = true
	for _, d := range dirs {
		if !d.IsDir() {
			continue
		}
		info, err := os.Stat(filepath.Join(s.opt.Run, d.Name()))
		if err != nil {
			return "", false
		}
		settled = settled && time.Since(info.ModTime()) > 50*time.Millisecond
		fmt.Fprintf(&b, "%s %d ", d.Name(), info.ModTime().UnixNano())
	}
	return b.String(), settled
}

func (z *zone) read() (view, error) {
	v := view{addrs: map[string][]netip.Addr{}, names: map[netip.Addr][]string{}}
	own, err := z.s.Endpoints(z.owner)
	if err != nil {
		return v, err
	}
	for _, e := range own {
		v.out = v.out || !e.Internal
		if !e.Named {
			continue
		}
		members, err := z.s.members(e.NetworkID)
		if err != nil {
			return v, err
		}
		for _, m := range members {
			v.add(m)
		}
	}
	return v, nil
}

// add makes an endpoint known by all of its names, and by each with the network's behind it.
func (v view) add(e Endpoint) {
	for _, name := range e.Names() {
		name = strings.ToLower(name)
		for _, full := range []string{name, name + "." + strings.ToLower(e.Network)} {
			for _, p := range []netip.Prefix{e.IPv4, e.IPv6} {
				if p.IsValid() && !slices.Contains(v.addrs[full], p.Addr()) {
					v.addrs[full] = append(v.addrs[full], p.Addr())
				}
			}
		}
	}
	for _, p := range []netip.Prefix{e.IPv4, e.IPv6} {
		if p.IsValid() {
			v.names[p.Addr()] = append(v.names[p.Addr()], e.Owner.Name+"."+e.Network)
		}
	}
}
