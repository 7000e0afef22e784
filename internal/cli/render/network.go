package render

// NetworkRow is a line of `network ls`.
type NetworkRow struct {
	CreatedAt string // [Stamp]
	Driver    string
	ID        string `heading:"NETWORK ID"`
	IPv4      string `heading:"IPV4"`
	IPv6      string `heading:"IPV6"`
	Internal  string
	Labels    string // [Labels]
	Name      string
	Scope     string

	// LabelValues answers {{.Label "name"}}.
	LabelValues map[string]string `json:"-"`
}

// Label is the value of one label, "" if the network has none of that name.
func (r NetworkRow) Label(name string) string { return r.LabelValues[name] }

// NetworkColumns are the columns of `network ls`.
func NetworkColumns() []string { return []string{"ID", "Name", "Driver", "Scope"} }

// NetworkInspect is docker's document of a network.
type NetworkInspect struct {
	Name       string
	ID         string `json:"Id"`
	Created    string // [Time]
	Scope      string
	Driver     string
	EnableIPv4 bool
	EnableIPv6 bool
	IPAM       NetworkIPAM
	Internal   bool
	Attachable bool
	Ingress    bool
	ConfigFrom struct{ Network string }
	ConfigOnly bool
	Containers map[string]NetworkMember
	Options    map[string]string
	Labels     map[string]string
	// Rules are strata's own: who may talk to whom, the first that fits decides.
	Rules []NetworkRule `json:",omitempty"`
}

// NetworkIPAM says which addresses a network gives out.
type NetworkIPAM struct {
	Driver  string
	Options map[string]string
	Config  []NetworkPool
}

// NetworkPool is one subnet of a network.
type NetworkPool struct {
	Subnet             string            `json:",omitempty"`
	IPRange            string            `json:",omitempty"`
	Gateway            string            `json:",omitempty"`
	AuxiliaryAddresses map[string]string `json:",omitempty"`
}

// NetworkMember is a container in a network.
type NetworkMember struct {
	Name        string
	EndpointID  string
	MacAddress  string
	IPv4Address string
	IPv6Address string
}

// NetworkRule is one of a network's rules.
type NetworkRule struct{ From, To, Port, Action string }
