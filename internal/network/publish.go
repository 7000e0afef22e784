package network

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// ParsePublish reads docker's -p: [[IP:][HOSTPORT[-HOSTPORT]]:]PORT[-PORT][/PROTOCOL], an IPv6 address in brackets or not,
// or target=…,published=…,protocol=…. Its errors have docker's words. A range on both sides gives one Publish for each pair.
func ParsePublish(spec string) ([]Publish, error) {
	if strings.Contains(spec, "=") {
		short, err := longPublish(spec)
		if err != nil {
			return nil, err
		}
		spec = short
	}
	ip, host, inside := splitPublish(spec)
	ports, protocol, _ := strings.Cut(inside, "/")
	if ports == "" {
		return nil, invalid("no port specified: %.100s<empty>", spec)
	}
	protocol, err := parseProtocol(protocol)
	if err != nil {
		return nil, err
	}
	addr, err := parseIP(ip)
	if err != nil {
		return nil, err
	}
	first, last, err := parseRange(ports)
	if err != nil {
		return nil, invalid("invalid containerPort: %.40s", ports)
	}
	from, to, err := hostRange(host)
	if err != nil {
		return nil, invalid("invalid hostPort: %.40s", host)
	}
	pairs := from != 0 && first != last
	if pairs && last-first != to-from {
		return nil, invalid("invalid ranges specified for container and host Ports: %.40s and %.40s", ports, host)
	}
	var list []Publish
	for n := int(first); n <= int(last); n++ {
		p := Publish{Port: Port{uint16(n), protocol}, HostIP: addr, First: from, Last: to}
		if pairs {
			p.First = from + uint16(n) - first
			p.Last = p.First
		}
		list = append(list, p)
	}
	return list, nil
}

// hostRange is parseRange where nothing and 0 mean any port.
func hostRange(s string) (first, last uint16, err error) {
	if s == "" || s == "0" {
		return 0, 0, nil
	}
	return parseRange(s)
}

// splitPublish splits at the last two colons: an IPv6 address may have more.
func splitPublish(s string) (ip, host, inside string) {
	parts := strings.Split(s, ":")
	n := len(parts)
	switch n {
	case 1:
		return "", "", s
	case 2:
		return "", parts[0], parts[1]
	}
	return strings.Join(parts[:n-2], ":"), parts[n-2], parts[n-1]
}

func parseIP(s string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, nil
	}
	bare := s
	if s[0] == '[' {
		host, _, err := net.SplitHostPort(s + ":")
		if err != nil {
			return netip.Addr{}, invalid("invalid IP address %.60s: %.100v", s, err)
		}
		bare = host
	}
	addr, err := netip.ParseAddr(bare)
	if err != nil || addr.Zone() != "" {
		return netip.Addr{}, invalid("invalid IP address: %.60s", bare)
	}
	return addr.Unmap(), nil
}

// longPublish turns docker's long form into the short one. Its mode says something of swarms only.
func longPublish(spec string) (string, error) {
	params := map[string]string{"protocol": "tcp"}
	for param := range strings.SplitSeq(spec, ",") {
		name, value, ok := strings.Cut(param, "=")
		if !ok || name == "" {
			return "", invalid("invalid publish opts format (should be name=value but got '%.100s')", param)
		}
		params[name] = value
	}
	return fmt.Sprintf("%s:%s/%s", params["published"], params["target"], params["protocol"]), nil
}
