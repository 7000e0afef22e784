package network

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"strata/internal/errdef"
)

// Port is a port of a container.
type Port struct {
	Number   uint16
	Protocol string // "tcp", "udp" or "sctp"
}

func (p Port) String() string { return strconv.Itoa(int(p.Number)) + "/" + p.Protocol }

// MarshalText writes p as "80/tcp".
func (p Port) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what [Port.MarshalText] wrote.
func (p *Port) UnmarshalText(text []byte) (err error) {
	*p, err = ParsePort(string(text))
	return err
}

// Compare orders ports by number, then protocol.
func (p Port) Compare(o Port) int {
	return cmp.Or(cmp.Compare(p.Number, o.Number), cmp.Compare(p.Protocol, o.Protocol))
}

// Publish asks for a port of a container to be reachable on this machine.
type Publish struct {
	Port Port
	// HostIP is the address to listen at; the zero value means all of them.
	HostIP netip.Addr `json:",omitzero"`
	// First to Last are the ports of which a free one is taken. Both 0: any free port.
	First, Last uint16 `json:",omitempty"`
}

// HostPort is the part of p that names the ports of this machine: "", "8080" or "8000-8010".
func (p Publish) HostPort() string {
	switch p.First {
	case 0:
		return ""
	case p.Last:
		return strconv.Itoa(int(p.First))
	}
	return fmt.Sprintf("%d-%d", p.First, p.Last)
}

// Address is p's address in text, "" for all.
func (p Publish) Address() string {
	if !p.HostIP.IsValid() {
		return ""
	}
	return p.HostIP.String()
}

// Binding is where a port of a running container is reached.
type Binding struct {
	Port     Port
	HostIP   netip.Addr
	HostPort uint16
}

// Host is the binding's place as text: "0.0.0.0:8080", "[::]:8080".
func (b Binding) Host() string {
	return net.JoinHostPort(b.HostIP.String(), strconv.Itoa(int(b.HostPort)))
}

// Compare orders bindings by the container's port, then address, then port of this machine.
func (b Binding) Compare(o Binding) int {
	return cmp.Or(b.Port.Compare(o.Port), b.HostIP.Compare(o.HostIP), cmp.Compare(b.HostPort, o.HostPort))
}

// Summary is the PORTS column of docker's ps: the ports that are only exposed, and the bindings, runs of them as ranges.
func Summary(exposed []Port, bindings []Binding) string {
	type line struct {
		ip   netip.Addr
		port Port
		host uint16
	}
	var lines []line
	bound := map[Port]bool{}
	for _, b := range bindings {
		bound[b.Port] = true
		lines = append(lines, line{b.HostIP, b.Port, b.HostPort})
	}
	for _, p := range exposed {
		if !bound[p] {
			lines = append(lines, line{port: p})
		}
	}
	slices.SortFunc(lines, func(a, b line) int {
		return cmp.Or(cmp.Compare(a.port.Number, b.port.Number), a.ip.Compare(b.ip), cmp.Compare(a.host, b.host), cmp.Compare(a.port.Protocol, b.port.Protocol))
	})
	var out, single []string
	var runs []*run
	for _, l := range lines {
		if l.ip.IsValid() && l.host != l.port.Number {
			single = append(single, Binding{l.port, l.ip, l.host}.Host()+"->"+l.port.String())
			continue
		}
		i := slices.IndexFunc(runs, func(r *run) bool { return r.ip == l.ip && r.protocol == l.port.Protocol })
		switch {
		case i < 0:
			runs = append(runs, &run{l.ip, l.port.Protocol, l.port.Number, l.port.Number})
		case l.port.Number == runs[i].last+1:
			runs[i].last++
		default:
			out = append(out, runs[i].String())
			runs[i].first, runs[i].last = l.port.Number, l.port.Number
		}
	}
	for _, r := range runs {
		out = append(out, r.String())
	}
	return strings.Join(append(out, single...), ", ")
}

// run is a range of ports that are the same on both sides, or only exposed.
type run struct {
	ip          netip.Addr
	protocol    string
	first, last uint16
}

func (r *run) String() string {
	ports := strconv.Itoa(int(r.first))
	if r.last != r.first {
		ports += "-" + strconv.Itoa(int(r.last))
	}
	if r.ip.IsValid() {
		ports = net.JoinHostPort(r.ip.String(), ports) + "->" + ports
	}
	return ports + "/" + r.protocol
}

// ParsePort reads "80" or "80/tcp".
func ParsePort(s string) (Port, error) {
	ports, err := ParsePorts(s)
	if err == nil && len(ports) != 1 {
		err = invalid("invalid port '%s': a range", s)
	}
	if err != nil {
		return Port{}, err
	}
	return ports[0], nil
}

// ParsePorts reads one port or a range of ports: "80", "80/udp", "8000-8010/tcp".
func ParsePorts(s string) ([]Port, error) {
	text, protocol, _ := strings.Cut(s, "/")
	protocol, err := parseProtocol(protocol)
	if err != nil {
		return nil, err
	}
	first, last, err := parseRange(text)
	if err != nil {
		return nil, err
	}
	ports := make([]Port, 0, int(last-first)+1)
	for n := int(first); n <= int(last); n++ {
		ports = append(ports, Port{uint16(n), protocol})
	}
	return ports, nil
}

// invalidError has docker's words, and the class errdef.ErrInvalid.
type invalidError string

func (e invalidError) Error() string { return string(e) }
func (e invalidError) Unwrap() error { return errdef.ErrInvalid }

func invalid(format string, args ...any) error { return invalidError(fmt.Sprintf(format, args...)) }

func parseProtocol(s string) (string, error) {
	switch s = strings.ToLower(s); s {
	case "":
		return "tcp", nil
	case "tcp", "udp", "sctp":
		return s, nil
	}
	return "", invalid("invalid proto: %.40s", s)
}

// parseRange reads "80" or "80-90".
func parseRange(s string) (first, last uint16, err error) {
	if s == "" {
		return 0, 0, invalid("empty string specified for ports")
	}
	from, to, isRange := strings.Cut(s, "-")
	if first, err = parseNumber("start", from); err != nil || !isRange {
		return first, first, err
	}
	if last, err = parseNumber("end", to); err != nil {
		return 0, 0, err
	}
	if last < first {
		return 0, 0, invalid("invalid port range: %.40s", s)
	}
	return first, last, nil
}

func parseNumber(which, s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	switch {
	case s == "":
		return 0, invalid("invalid %s port '': value is empty", which)
	case err != nil:
		return 0, invalid("invalid %s port '%.40s': invalid syntax", which, s)
	case n == 0 || n > 65535:
		return 0, invalid("invalid %s port '%.40s': value out of range (1–65535)", which, s)
	}
	return uint16(n), nil
}
