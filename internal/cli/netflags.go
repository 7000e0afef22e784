package cli

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"strata/internal/engine"
	"strata/internal/errdef"
	"strata/internal/network"
)

// networkFlags are those of run and create that say how the container is connected.
type networkFlags struct {
	networks, aliases          []string
	linkLocal                  []string
	ip, ip6, mac               string
	hostname, domainname       string
	dns, dnsSearch, dnsOptions []string
	publish, expose            []string
	publishAll                 bool
}

func (f *networkFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringArrayVar(&f.networks, "network", nil, "network: bridge, host, none, container:NAME, or one of your own; may be repeated")
	fl.StringArrayVar(&f.networks, "net", nil, "network")
	fl.StringArrayVar(&f.aliases, "network-alias", nil, "one more name of the container in its network")
	fl.StringArrayVar(&f.aliases, "net-alias", nil, "one more name of the container in its network")
	for _, old := range []string{"net", "net-alias"} {
		_ = fl.MarkHidden(old) // fails only for a flag that is not there
	}
	fl.StringVar(&f.ip, "ip", "", "IPv4 address in the network")
	fl.StringVar(&f.ip6, "ip6", "", "IPv6 address in the network")
	fl.StringArrayVar(&f.linkLocal, "link-local-ip", nil, "one more address in the network, of the link's own ranges")
	fl.StringVar(&f.mac, "mac-address", "", "hardware address in the network")
	fl.StringVarP(&f.hostname, "hostname", "h", "", "host name in the container")
	fl.StringVar(&f.domainname, "domainname", "", "domain name in the container")
	fl.StringArrayVar(&f.dns, "dns", nil, "name server to ask")
	fl.StringArrayVar(&f.dnsSearch, "dns-search", nil, "domain in which names are searched; . for none")
	fl.StringArrayVar(&f.dnsOptions, "dns-option", nil, "option of the resolver")
	fl.StringArrayVar(&f.dnsOptions, "dns-opt", nil, "option of the resolver")
	_ = fl.MarkHidden("dns-opt")
	fl.StringArrayVarP(&f.publish, "publish", "p", nil, "publish a port of the container: [[IP:]HOSTPORT:]PORT[/udp]")
	fl.BoolVarP(&f.publishAll, "publish-all", "P", false, "publish every exposed port at a free port of the host")
	fl.StringArrayVar(&f.expose, "expose", nil, "name a port, or a range of ports, that the container serves")
}

// options fills in what the flags say.
func (f *networkFlags) options(o *engine.CreateOptions) error {
	o.Config.Hostname, o.Config.Domainname = f.hostname, f.domainname
	for _, d := range f.dns {
		if _, err := netip.ParseAddr(d); err != nil {
			return fmt.Errorf("%s is not an ip address: %w", d, errdef.ErrInvalid)
		}
	}
	o.Host.DNS, o.Host.DNSSearch, o.Host.DNSOptions = f.dns, f.dnsSearch, f.dnsOptions
	if err := f.attachments(o); err != nil {
		return err
	}
	return f.ports(o)
}

// attachments reads --network. What the flags beside it say is of the first network.
func (f *networkFlags) attachments(o *engine.CreateOptions) error {
	var list []network.Attachment
	for _, spec := range f.networks {
		a, err := parseNetwork(spec)
		if err != nil {
			return err
		}
		list = append(list, a)
	}
	own := len(list) == 0 || !namespaceMode(list[0].Network)
	if err := f.firstNetwork(&list, own); err != nil {
		return err
	}
	if len(list) == 0 {
		return nil // the engine chooses
	}
	o.Host.Network = list[0].Network
	o.Config.MacAddress = list[0].MAC
	if own || len(list) > 1 {
		o.Host.Networks = list
	}
	return nil
}

// namespaceMode reports whether a network is none of those that one can be in several of.
func namespaceMode(name string) bool {
	return name == network.Host || name == network.None || strings.HasPrefix(name, "container:")
}

// firstNetwork adds the flags that stand alone to the first network.
func (f *networkFlags) firstNetwork(list *[]network.Attachment, own bool) error {
	var err error
	first := network.Attachment{Aliases: f.aliases, MAC: f.mac}
	if first.IPv4, err = parseAddress(f.ip, netip.Addr.Is4); err != nil {
		return err
	}
	if first.IPv6, err = parseAddress(f.ip6, netip.Addr.Is6); err != nil {
		return err
	}
	if first.MAC, err = parseMAC(first.MAC); err != nil {
		return err
	}
	if first.LinkLocal, err = parseLinkLocal(f.linkLocal); err != nil {
		return err
	}
	switch {
	case !f.givenApart():
		return nil
	case !own:
		return fmt.Errorf("conflicting options: an address or an alias and the network mode %s: %w", (*list)[0].Network, errdef.ErrInvalid)
	case len(*list) == 0:
		first.Network = network.Bridge
		*list = append(*list, first)
		return nil
	}
	a := &(*list)[0]
	if f.givenTwice(*a) {
		return fmt.Errorf("conflicting options: cannot give an address or an alias both in --network and by a flag of its own: %w", errdef.ErrInvalid)
	}
	a.Aliases = append(a.Aliases, f.aliases...)
	a.LinkLocal = append(a.LinkLocal, first.LinkLocal...)
	if f.ip != "" {
		a.IPv4 = first.IPv4
	}
	if f.ip6 != "" {
		a.IPv6 = first.IPv6
	}
	if f.mac != "" {
		a.MAC = first.MAC
	}
	return nil
}

// givenApart reports whether any of the flags that are about the first network is there.
func (f *networkFlags) givenApart() bool {
	return len(f.aliases) > 0 || len(f.linkLocal) > 0 || f.ip != "" || f.ip6 != "" || f.mac != ""
}

// givenTwice reports whether one of them says what --network said already.
func (f *networkFlags) givenTwice(a network.Attachment) bool {
	return len(a.Aliases) > 0 && len(f.aliases) > 0 || a.IPv4.IsValid() && f.ip != "" || a.IPv6.IsValid() && f.ip6 != "" || a.MAC != "" && f.mac != ""
}

// parseNetwork reads docker's two forms of --network: a name, or name=…,alias=…,ip=…,ip6=…,mac-address=….
func parseNetwork(spec string) (a network.Attachment, err error) {
	if !strings.Contains(spec, "=") {
		if spec == "default" {
			spec = network.Bridge
		}
		return network.Attachment{Network: spec}, nil
	}
	for field := range strings.SplitSeq(spec, ",") {
		key, value, ok := strings.Cut(field, "=")
		if !ok || value == "" {
			return a, fmt.Errorf("invalid field %.60s must be a key=value pair: %w", field, errdef.ErrInvalid)
		}
		switch strings.ToLower(strings.TrimSpace(key)) {
		case "name":
			a.Network = value
		case "alias":
			a.Aliases = append(a.Aliases, value)
		case "ip":
			a.IPv4, err = parseAddress(value, netip.Addr.Is4)
		case "ip6":
			a.IPv6, err = parseAddress(value, netip.Addr.Is6)
		case "link-local-ip":
			var addr netip.Addr
			addr, err = parseAddress(value, netip.Addr.IsLinkLocalUnicast)
			a.LinkLocal = append(a.LinkLocal, addr)
		case "mac-address":
			a.MAC, err = parseMAC(value)
		default:
			err = fmt.Errorf("invalid field key %.60s: %w", key, errdef.ErrInvalid)
		}
		if err != nil {
			return a, err
		}
	}
	if a.Network == "" {
		return a, fmt.Errorf("network name/id is not specified: %w", errdef.ErrInvalid)
	}
	return a, nil
}

func parseAddress(s string, of func(netip.Addr) bool) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || !of(a) {
		return a, fmt.Errorf("invalid IP address: %.60s: %w", s, errdef.ErrInvalid)
	}
	return a, nil
}

func parseLinkLocal(texts []string) (list []netip.Addr, err error) {
	for _, text := range texts {
		addr, err := parseAddress(text, netip.Addr.IsLinkLocalUnicast)
		if err != nil {
			return nil, err
		}
		list = append(list, addr)
	}
	return list, nil
}

func parseMAC(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	mac, err := net.ParseMAC(s)
	if err != nil || len(mac) != 6 || mac[0]&1 != 0 {
		return "", fmt.Errorf("%.40s is not a valid mac address: %w", s, errdef.ErrInvalid)
	}
	return mac.String(), nil
}

// defaultNetwork fills in the network of a container that asked for none. Where containers cannot have one of their own
// what runs shares the machine's, and whoever sits at the terminal is told so.
func (a *app) defaultNetwork(e *engine.Engine, o *engine.CreateOptions) {
	if o.Host.Network != "" {
		return
	}
	name, why := e.DefaultNetwork()
	if why != nil && a.watched() {
		fmt.Fprintf(a.err, "strata: note: the container shares this machine's network: %v\n", why)
		if hint := errdef.Hint(why); hint != "" {
			fmt.Fprintf(a.err, "  %s\n", hint)
		}
	}
	o.Host.Network = name
	if name != network.Host {
		o.Host.Networks = []network.Attachment{{Network: name}}
	}
}
