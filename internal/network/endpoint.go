package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"strata/internal/atomicfile"
	"strata/internal/errdef"
)

// Who is in a network stands in one file for each: <run>/<network id>/<owner's id>@<IPv4>@<IPv6>. The name says which
// addresses are taken, so that giving one out reads the directory alone. The file is there before anything is made in the kernel, and
// goes after that has: whatever is killed in between, the file tells what to clear away.

func (s *Store) membersDir(network string) string { return filepath.Join(s.opt.Run, network) }

// seat is the name of an endpoint's file, taken apart.
type seat struct {
	owner      string
	ip4, ip6   netip.Addr
	file       string
	networkDir string
}

func (e Endpoint) fileName() string {
	return e.Owner.ID + "@" + text(e.IPv4.Addr()) + "@" + text(e.IPv6.Addr())
}

func text(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// seats reads who is in a network from the names of the files.
func (s *Store) seats(network string) ([]seat, error) {
	dir := s.membersDir(network)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var seats []seat
	for _, e := range entries {
		parts := strings.Split(e.Name(), "@")
		if len(parts) != 3 || atomicfile.IsTemp(e.Name()) {
			continue
		}
		st := seat{owner: parts[0], file: filepath.Join(dir, e.Name()), networkDir: dir}
		st.ip4, _ = netip.ParseAddr(parts[1]) // the zero address where there is none
		st.ip6, _ = netip.ParseAddr(parts[2])
		seats = append(seats, st)
	}
	return seats, nil
}

func (st seat) read() (e Endpoint, err error) {
	raw, err := os.ReadFile(st.file)
	if err != nil {
		return e, err
	}
	if err := json.Unmarshal(raw, &e); err != nil {
		return e, fmt.Errorf("endpoint %s: %w: %w", st.file, errdef.ErrCorrupt, err)
	}
	return e, nil
}

func (s *Store) writeEndpoint(e Endpoint) error {
	raw, err := json.Marshal(e)
	if err != nil {
		return err
	}
	dir := s.membersDir(e.NetworkID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return atomicfile.Write(s.seatFile(e), raw, 0o600)
}

// Rename gives the owner another name in all networks that it is in. Nobody must be taking it out of one meanwhile.
func (s *Store) Rename(owner, name string) error {
	endpoints, err := s.Endpoints(owner)
	if err != nil {
		return err
	}
	for _, e := range endpoints {
		e.Owner.Name = name
		if err := s.writeEndpoint(e); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) seatFile(e Endpoint) string {
	return filepath.Join(s.membersDir(e.NetworkID), e.fileName())
}

// Members are those who are in a network now, by name.
func (s *Store) Members(n Network) ([]Endpoint, error) { return s.members(n.ID) }

func (s *Store) members(network string) ([]Endpoint, error) {
	seats, err := s.seats(network)
	if err != nil {
		return nil, err
	}
	return readSeats(seats, func(a, b Endpoint) int { return strings.Compare(a.Owner.Name, b.Owner.Name) })
}

// Endpoints are the owner's places in all networks, in the order of its interfaces.
func (s *Store) Endpoints(owner string) ([]Endpoint, error) {
	seats, err := s.seatsOf(owner)
	if err != nil {
		return nil, err
	}
	return readSeats(seats, func(a, b Endpoint) int { return a.Index - b.Index })
}

// readSeats reads the endpoints of those that are still there, and sorts them.
func readSeats(seats []seat, order func(a, b Endpoint) int) ([]Endpoint, error) {
	var list []Endpoint
	for _, st := range seats {
		e, err := st.read()
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	slices.SortFunc(list, order)
	return list, nil
}

func (s *Store) seatsOf(owner string) ([]seat, error) {
	found, err := filepath.Glob(filepath.Join(s.opt.Run, "*", owner+"@*"))
	if err != nil || len(found) == 0 {
		return nil, err
	}
	var seats []seat
	for _, file := range found {
		seats = append(seats, seat{owner: owner, file: file, networkDir: filepath.Dir(file)})
	}
	return seats, nil
}

// Owners are all who are in any network, sorted.
func (s *Store) Owners() ([]string, error) {
	dirs, err := os.ReadDir(s.opt.Run)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var owners []string
	for _, d := range dirs {
		if !d.IsDir() {
			continue
		}
		seats, err := s.seats(d.Name())
		if err != nil {
			return nil, err
		}
		for _, st := range seats {
			owners = append(owners, st.owner)
		}
	}
	slices.Sort(owners)
	return slices.Compact(owners), nil
}

// seatIn chooses the owner's addresses in a network and writes them down.
func (s *Store) seatIn(ctx context.Context, n Network, o Owner, a Attachment, index int) (e Endpoint, err error) {
	unlock, err := s.lock(ctx, n.ID)
	if err != nil {
		return e, err
	}
	defer unlock()
	records, err := s.records()
	if err != nil {
		return e, err
	}
	if _, err := records.Get(n.ID); err != nil { // it may have been removed meanwhile
		return e, err
	}
	seats, err := s.seats(n.ID)
	if err != nil {
		return e, err
	}
	if slices.ContainsFunc(seats, func(st seat) bool { return st.owner == o.ID }) {
		return e, &wordedError{fmt.Sprintf("endpoint with name %s already exists in network %s", o.Name, n.Name), errdef.ErrConflict}
	}
	taken := func(addr netip.Addr) bool {
		return slices.ContainsFunc(seats, func(st seat) bool { return st.ip4 == addr || st.ip6 == addr })
	}
	e = Endpoint{
		ID: newID(), Network: n.Name, NetworkID: n.ID, Owner: o, Aliases: a.Aliases, MAC: a.MAC, Index: index,
		Interface: n.interfaceName(index), Internal: n.Internal, Named: n.Named(), Policed: n.policed(),
	}
	e.Device = cable(e.ID)
	if at := n.Options[optBindingIPv4]; at != "" {
		e.PublishAt, _ = netip.ParseAddr(at) // it was checked before
	}
	if e.LinkLocal, err = linkLocal(a.LinkLocal); err != nil {
		return e, err
	}
	if err := e.choose(n, a, taken); err != nil {
		return e, err
	}
	return e, s.writeEndpoint(e)
}

// linkLocal gives addresses of the link's own ranges with these.
func linkLocal(addrs []netip.Addr) (list []netip.Prefix, err error) {
	for _, a := range addrs {
		if !a.IsLinkLocalUnicast() {
			return nil, &wordedError{fmt.Sprintf("invalid link-local IP address: %s is in neither 169.254.0.0/16 nor fe80::/10", a), errdef.ErrInvalid}
		}
		bits := 16
		if a.Is6() {
			bits = 64
		}
		list = append(list, netip.PrefixFrom(a, bits))
	}
	return list, nil
}

// choose fills in the addresses.
func (e *Endpoint) choose(n Network, a Attachment, taken func(netip.Addr) bool) error {
	pick := func(p Pool, have bool, asked netip.Addr) (netip.Prefix, netip.Addr, error) {
		var err error
		switch {
		case asked.IsValid():
			err = p.want(asked, taken)
		case have:
			asked, err = p.free(taken)
		}
		if err != nil || !asked.IsValid() {
			return netip.Prefix{}, netip.Addr{}, err
		}
		if n.Internal {
			return netip.PrefixFrom(asked, p.Subnet.Bits()), netip.Addr{}, nil
		}
		return netip.PrefixFrom(asked, p.Subnet.Bits()), p.Gateway, nil
	}
	var err error
	p4, have4 := n.Pool4()
	if e.IPv4, e.Gateway4, err = pick(p4, have4, a.IPv4); err != nil {
		return err
	}
	p6, have6 := n.Pool6()
	if e.IPv6, e.Gateway6, err = pick(p6, have6, a.IPv6); err != nil {
		return err
	}
	if e.MAC == "" {
		e.MAC = macOf(e.IPv4.Addr(), e.IPv6.Addr())
	}
	return nil
}

// interfaceName is what the container's interface in the network is called.
func (n Network) interfaceName(index int) string {
	prefix := n.Options[optPrefix]
	if prefix == "" {
		prefix = "eth"
	}
	return prefix + strconv.Itoa(index)
}

// macOf is docker's way to give an address of hardware: locally administered, with the IPv4 address in it.
func macOf(four, six netip.Addr) string {
	mac := net.HardwareAddr{0x02, 0x42}
	if four.IsValid() {
		return append(mac, four.AsSlice()...).String()
	}
	return append(mac, six.AsSlice()[12:]...).String()
}

// cable is the name of the device that leads from the bridge to an endpoint. Every endpoint has another: the last one of its
// owner may still be there, until the kernel has cleared it away.
func cable(endpoint string) string { return "veth" + endpoint[:10] }
