package container

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"strata/internal/network"
)

const loopbackHosts = `127.0.0.1	localhost
::1	localhost ip6-localhost ip6-loopback
fe00::	ip6-localnet
ff00::	ip6-mcastprefix
ff02::1	ip6-allnodes
ff02::2	ip6-allrouters
`

// etcFiles writes the files that stand over the image's /etc/hosts, /etc/hostname and /etc/resolv.conf into the
// container's directory and gives their mounts. A container in another's network has that one's files.
func (s *Store) etcFiles(rec Record, n nets) ([]specs.Mount, error) {
	of := rec.ID
	if n.from != nil {
		of = n.from.ID
	} else if err := s.writeEtc(rec, n); err != nil {
		return nil, err
	}
	var mounts []specs.Mount
	for _, name := range []string{"hosts", "hostname", "resolv.conf"} {
		mounts = append(mounts, specs.Mount{
			Destination: "/etc/" + name, Type: "bind", Source: filepath.Join(s.Dir(of), name), Options: []string{"rbind", "rprivate"},
		})
	}
	return mounts, nil
}

func (s *Store) writeEtc(rec Record, n nets) error {
	for name, content := range map[string]string{
		"hosts": hosts(rec, n.endpoints), "hostname": rec.Config.Hostname + "\n", "resolv.conf": resolvers(rec, n),
	} {
		if err := writeShown(filepath.Join(s.Dir(rec.ID), name), content); err != nil {
			return fmt.Errorf("container file %s: %w", name, err)
		}
	}
	return nil
}

// renameHosts writes a running container's /etc/hosts anew, in place: it is mounted.
func (s *Store) renameHosts(rec Record) error {
	endpoints, err := s.opt.Networks.Endpoints(rec.ID)
	if err != nil {
		return err
	}
	return writeShown(filepath.Join(s.Dir(rec.ID), "hosts"), hosts(rec, endpoints))
}

// hosts is the container's /etc/hosts.
func hosts(rec Record, endpoints []network.Endpoint) string {
	var b strings.Builder
	if rec.Host.Network == network.Host {
		b.WriteString(hostFile("/etc/hosts"))
	}
	if b.Len() == 0 {
		b.WriteString(loopbackHosts)
	}
	names := rec.Config.Hostname
	if d := rec.Config.Domainname; d != "" {
		names = names + "." + d + " " + names
	}
	if rec.Host.Network == network.None {
		fmt.Fprintf(&b, "127.0.0.1\t%s\n", names)
	}
	for _, e := range endpoints {
		if e.IPv4.IsValid() {
			fmt.Fprintf(&b, "%s\t%s\n", e.IPv4.Addr(), names)
		}
		if e.IPv6.IsValid() {
			fmt.Fprintf(&b, "%s\t%s\n", e.IPv6.Addr(), names)
		}
	}
	for _, h := range rec.Host.ExtraHosts {
		if name, addr, ok := strings.Cut(h, ":"); ok {
			fmt.Fprintf(&b, "%s\t%s\n", machineAddress(addr, endpoints), name)
		}
	}
	return b.String()
}

// machineAddress is addr, or for docker's word for it the address by which the container reaches this machine.
func machineAddress(addr string, endpoints []network.Endpoint) string {
	if addr != "host-gateway" {
		return strings.Trim(addr, "[]")
	}
	for _, e := range endpoints {
		if e.Gateway4.IsValid() {
			return e.Gateway4.String()
		}
	}
	return "127.0.0.1"
}

// resolvers is the container's /etc/resolv.conf: what the user said, else this machine's, and without a network nothing else. Where names of networks are known, or this
// machine has servers at its loopback only, its supervisor is asked.
func resolvers(rec Record, n nets) string {
	h := rec.Host
	var c resolvConf
	if h.Network != network.None {
		c = parseResolv(hostFile("/etc/resolv.conf"))
	}
	switch {
	case h.Network == network.None:
		c.servers = h.DNS
	case n.resolve:
		c.servers = []string{network.ResolverAddr}
	case len(h.DNS) > 0:
		c.servers = h.DNS
	case !n.host:
		c.servers = usableServers(h)
	}
	if len(h.DNSSearch) > 0 {
		c.search = slices.DeleteFunc(slices.Clone(h.DNSSearch), func(d string) bool { return d == "." })
	}
	dots := func(o string) bool { return strings.HasPrefix(o, "ndots:") }
	if n.resolve { // of this machine, for this machine's names
		c.options = slices.DeleteFunc(c.options, dots)
	}
	if len(h.DNSOptions) > 0 {
		c.options = slices.Clone(h.DNSOptions)
	}
	if n.resolve && !slices.ContainsFunc(c.options, dots) {
		c.options = append(c.options, "ndots:0")
	}
	return c.String()
}

// usableServers are the name servers that a container can ask itself: those that the user named, else those of this machine that
// are not at its loopback.
func usableServers(h HostConfig) []string {
	if len(h.DNS) > 0 {
		return h.DNS
	}
	for _, file := range []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"} { // the second has those that systemd-resolved asks
		if servers := slices.DeleteFunc(parseResolv(hostFile(file)).servers, onLoopback); len(servers) > 0 {
			return servers
		}
	}
	return nil
}

// UsableServers are those of this machine's name servers that a container can ask itself.
func UsableServers() []string { return usableServers(HostConfig{}) }

// MachineServers are all of this machine's name servers.
func MachineServers() []string { return parseResolv(hostFile("/etc/resolv.conf")).servers }

func onLoopback(server string) bool {
	ip := net.ParseIP(server)
	return ip == nil || ip.IsLoopback()
}

// resolvConf is what counts of a resolv.conf.
type resolvConf struct{ servers, search, options []string }

func parseResolv(text string) (c resolvConf) {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "nameserver":
			server, _, _ := strings.Cut(words[1], "%") // a zone means nothing elsewhere
			c.servers = append(c.servers, server)
		case "search", "domain":
			c.search = words[1:]
		case "options":
			c.options = append(c.options, words[1:]...)
		}
	}
	return c
}

func (c resolvConf) String() string {
	var b strings.Builder
	for _, s := range c.servers {
		b.WriteString("nameserver " + s + "\n")
	}
	if len(c.search) > 0 {
		b.WriteString("search " + strings.Join(c.search, " ") + "\n")
	}
	if len(c.options) > 0 {
		b.WriteString("options " + strings.Join(c.options, " ") + "\n")
	}
	return b.String()
}

// hostFile is a small file of the host, "" when it has none.
func hostFile(path string) string {
	raw, err := os.ReadFile(path)
	if err != nil || len(raw) > 1<<20 {
		return ""
	}
	return string(raw)
}
