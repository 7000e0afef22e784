package build

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"

	"strata/internal/errdef"
)

// maxPorts bounds what one EXPOSE makes of its ranges: every port of every protocol.
const maxPorts = 3 << 16

// expose adds ports to the config and gives them as they stand in the history.
func (p *planner) expose(s *stage, c *instructions.ExposeCommand, lint *linter.Linter) ([]string, error) {
	var ports []string
	for _, word := range c.Ports {
		specs, err := p.file.ExpandWords(word, s.env)
		if err != nil {
			return nil, err
		}
		for _, spec := range specs {
			more, err := parsePort(spec, c, lint)
			if err != nil {
				return nil, err
			}
			if ports = append(ports, more...); len(ports) > maxPorts {
				return nil, fmt.Errorf("EXPOSE of more than %d ports: %w", maxPorts, errdef.ErrLimit)
			}
		}
	}
	cfg := &s.out.Image.Config
	if cfg.ExposedPorts == nil {
		cfg.ExposedPorts = make(map[string]struct{}, len(ports))
	}
	for _, port := range ports {
		cfg.ExposedPorts[port] = struct{}{}
	}
	return ports, nil
}

// parsePort reads one word of EXPOSE: "80", "80/udp", "8000-8010/tcp". Like BuildKit it takes a host's address and port in
// front, and warns of them.
func parsePort(spec string, c *instructions.ExposeCommand, lint *linter.Linter) ([]string, error) {
	host, container := "", spec
	if i := strings.LastIndexByte(spec, ':'); i >= 0 {
		host, container = spec[:i], spec[i+1:]
	}
	port, proto, _ := strings.Cut(container, "/")
	lower := strings.ToLower(proto)
	switch lower {
	case "":
		lower = "tcp"
	case "tcp", "udp", "sctp":
	default:
		return nil, fmt.Errorf("EXPOSE %s: protocol %q: want tcp, udp or sctp", spec, proto)
	}
	if lower != proto && proto != "" {
		lint.Run(&linter.RuleExposeProtoCasing, c.Location(), linter.RuleExposeProtoCasing.Format(spec))
	}
	first, last, err := portRange(port)
	if err != nil {
		return nil, fmt.Errorf("EXPOSE %s: %w", spec, err)
	}
	if host != "" {
		lint.Run(&linter.RuleExposeInvalidFormat, c.Location(), linter.RuleExposeInvalidFormat.Format(spec))
		if err := checkHostPort(host, last-first); err != nil {
			return nil, fmt.Errorf("EXPOSE %s: %w", spec, err)
		}
	}
	ports := make([]string, 0, last-first+1)
	for n := first; n <= last; n++ {
		ports = append(ports, strconv.Itoa(n)+"/"+lower)
	}
	return ports, nil
}

// checkHostPort checks the part of a port that says where on the host it would go: "[ip:]port[-port]".
func checkHostPort(host string, span int) error {
	addr, port := "", host
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		addr, port = host[:i], host[i+1:]
	}
	if addr = strings.TrimSuffix(strings.TrimPrefix(addr, "["), "]"); addr != "" {
		if _, err := netip.ParseAddr(addr); err != nil {
			return fmt.Errorf("address %q of the host is none", addr)
		}
	}
	if port == "" {
		return nil
	}
	first, last, err := portRange(port)
	if err == nil && last-first != span && span != 0 {
		err = fmt.Errorf("the host's ports %s are not as many as the container's", port)
	}
	return err
}

func portRange(text string) (first, last int, err error) {
	from, to, isRange := strings.Cut(text, "-")
	if first, err = portNumber(from); err != nil {
		return 0, 0, err
	}
	if !isRange {
		return first, first, nil
	}
	if last, err = portNumber(to); err != nil {
		return 0, 0, err
	}
	if last < first {
		return 0, 0, fmt.Errorf("the range %s goes backwards", text)
	}
	return first, last, nil
}

func portNumber(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("%q is no port from 0 to 65535", text)
	}
	return int(n), nil
}
