package network

import (
	"net/netip"
	"slices"
	"time"
)

// The drivers of networks, in docker's words.
const (
	DriverBridge = "bridge"
	DriverHost   = "host"
	DriverNull   = "null"
)

// The networks that are always there.
const (
	Bridge = "bridge" // the default one of containers
	Host   = "host"   // this machine's own network
	None   = "none"   // none but the loopback
)

// Network is what is known of one network.
type Network struct {
	ID       string // 64 hex digits
	Name     string
	Created  time.Time
	Driver   string
	IPv6     bool `json:",omitempty"`
	Internal bool `json:",omitempty"` // no way out
	// Attachable says something of swarms only; it is kept because docker shows it.
	Attachable bool `json:",omitempty"`
	// Device is the name of the bridge on this machine.
	Device  string            `json:",omitempty"`
	Pools   []Pool            `json:",omitempty"` // at most one for each family
	Options map[string]string `json:",omitempty"`
	Labels  map[string]string `json:",omitempty"`
	Rules   []Rule            `json:",omitempty"`
}

// Pool are the addresses of one family that a network gives out.
type Pool struct {
	Subnet netip.Prefix
	// Range is the part of Subnet that addresses are given out of; the zero Prefix means all of it.
	Range   netip.Prefix `json:",omitzero"`
	Gateway netip.Addr
	// Aux are addresses that are others', by name.
	Aux map[string]netip.Addr `json:",omitempty"`
}

// Pool4 and Pool6 are the pools of each family.
func (n Network) Pool4() (Pool, bool) { return n.pool(netip.Addr.Is4) }

// Pool6 is the IPv6 pool.
func (n Network) Pool6() (Pool, bool) { return n.pool(netip.Addr.Is6) }

func (n Network) pool(is func(netip.Addr) bool) (Pool, bool) {
	i := slices.IndexFunc(n.Pools, func(p Pool) bool { return is(p.Subnet.Addr()) })
	if i < 0 {
		return Pool{}, false
	}
	return n.Pools[i], true
}

// Builtin reports whether the network is one of those that are always there.
func (n Network) Builtin() bool { return builtin(n.Name) }

func builtin(name string) bool { return name == Bridge || name == Host || name == None }

// Named reports whether containers in the network find each other by name: in all but the default one, as docker has it.
func (n Network) Named() bool { return n.Driver == DriverBridge && n.Name != Bridge }

// Attachment asks for a container to be in a network.
type Attachment struct {
	Network string // its name
	// Aliases are more names of the container there.
	Aliases []string `json:",omitempty"`
	// IPv4, IPv6 and MAC ask for these very addresses; zero values take what comes.
	IPv4 netip.Addr `json:",omitzero"`
	IPv6 netip.Addr `json:",omitzero"`
	MAC  string     `json:",omitempty"`
	// LinkLocal are more addresses, of the link's own ranges.
	LinkLocal []netip.Addr `json:",omitempty"`
}

// Owner is who is in networks: a container, or a step of a build.
type Owner struct {
	ID       string // 64 hex digits for a container
	Name     string
	Hostname string
}

// Endpoint is a container's place in a network while it runs.
type Endpoint struct {
	ID        string // of the endpoint
	Network   string // name
	NetworkID string
	Owner     Owner
	Aliases   []string     `json:",omitempty"`
	IPv4      netip.Prefix `json:",omitzero"`
	IPv6      netip.Prefix `json:",omitzero"`
	// LinkLocal are addresses that the container asked for beside these.
	LinkLocal []netip.Prefix `json:",omitempty"`
	// Gateway4 and Gateway6 lead out; both are zero in a network without a way out.
	Gateway4 netip.Addr `json:",omitzero"`
	Gateway6 netip.Addr `json:",omitzero"`
	MAC      string
	// Device is the end of the cable on this machine, Interface the one in the container.
	Device    string
	Interface string
	// Index orders the interfaces of a container.
	Index    int  `json:",omitempty"`
	Internal bool `json:",omitempty"`
	Named    bool `json:",omitempty"` // names are resolved in the network
	Policed  bool `json:",omitempty"` // the network has rules
	// PublishAt is the address of this machine at which ports are published that name none; the zero address means all.
	PublishAt netip.Addr `json:",omitzero"`
	Forwards  []Binding  `json:",omitempty"` // ports that the kernel forwards
}

// Names are those by which others in the network find the container: its name, its aliases, its short id.
func (e Endpoint) Names() []string {
	names := append([]string{e.Owner.Name}, e.Aliases...)
	return slices.Compact(append(names, e.Owner.ID[:min(12, len(e.Owner.ID))]))
}
