package network

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// Rule says who of a network may open connections to whom there. Of several the first that fits decides.
type Rule struct {
	// From and To are names of containers in the network, or aliases; "" is everybody.
	From string `json:",omitempty"`
	To   string `json:",omitempty"`
	// Port is that of To; the zero Port means all traffic.
	Port  Port `json:",omitzero"`
	Allow bool
}

func (r Rule) check() error {
	for _, name := range []string{r.From, r.To} {
		if len(name) > 255 || strings.ContainsAny(name, " \t\n\x00") {
			return invalid("invalid container name %.60q", name)
		}
	}
	if r.Port.Protocol == "sctp" {
		return fmt.Errorf("rules for sctp: %w", errdef.ErrUnsupported)
	}
	if r.From == "" && r.To == "" && r.Port == (Port{}) {
		return errdef.WithHint(invalid("a rule for everything"), "name a container with --from or --to, or a --port")
	}
	return nil
}

// policed reports whether what goes on in the network is looked at.
func (n Network) policed() bool { return len(n.Rules) > 0 || !n.option(optTalk) }

// SetRules changes a network's rules: change gets those that there are and gives those that are to be.
func (s *Store) SetRules(ctx context.Context, ref string, change func([]Rule) ([]Rule, error)) error {
	n, err := s.Lookup(ref)
	if err != nil {
		return err
	}
	if n.Driver != DriverBridge {
		return fmt.Errorf("rules in network %s: %w", n.Name, errdef.ErrUnsupported)
	}
	if err := s.exists(ctx, &n); err != nil {
		return err
	}
	records, err := s.records()
	if err != nil {
		return err
	}
	unlock, err := s.lock(ctx, "all")
	if err != nil {
		return err
	}
	defer unlock()
	err = records.Update(ctx, n.ID, func(v *Network, exists bool) error {
		if !exists {
			return noSuch(ref)
		}
		rules, err := change(slices.Clone(v.Rules))
		if err != nil {
			return err
		}
		for _, r := range rules {
			if err := r.check(); err != nil {
				return err
			}
		}
		v.Rules = rules
		return nil
	})
	if err != nil {
		return err
	}
	all, err := s.List()
	if err != nil {
		return err
	}
	return s.onMachine(func(k *kernel) error { return k.police(all) })
}

// police makes the table that looks at what goes on within networks: bridged packets, which the other table never sees. Containers are told
// apart by their cables, which they cannot forge as they can an address. There is no table where no network has rules.
func (k *kernel) police(all []Network) error {
	t := &nftables.Table{Family: nftables.TableFamilyBridge, Name: k.s.tableName()}
	c, err := nftables.New()
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(slices.Clone(all), func(n Network) bool { return !n.policed() })
	if len(all) == 0 {
		if _, err := c.ListTableOfFamily(t.Name, t.Family); err != nil {
			return nil
		}
	}
	c.AddTable(t)
	c.DelTable(t)
	if len(all) > 0 {
		c.AddTable(t)
		ch := c.AddChain(&nftables.Chain{Name: "forward", Table: t, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityRef(0)})
		add := func(exprs ...[]expr.Any) {
			c.AddRule(&nftables.Rule{Table: t, Chain: ch, Exprs: slices.Concat(exprs...)})
		}
		add(neighbours(), verdict(expr.VerdictAccept))
		for _, n := range all {
			members, err := k.s.members(n.ID)
			if err != nil {
				return err
			}
			set, err := n.cables(c, t, members)
			if err != nil {
				return err
			}
			n.police(set, members, add)
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("firewall table %s for rules within networks: %w", t.Name, classify(err))
	}
	return nil
}

// cables is the set of all cables of a network.
func (n Network) cables(c *nftables.Conn, t *nftables.Table, members []Endpoint) (*nftables.Set, error) {
	set := &nftables.Set{Table: t, Name: "cables-" + n.ID[:12], KeyType: nftables.TypeIFName, KeyByteOrder: binaryutil.NativeEndian}
	var elements []nftables.SetElement
	for _, m := range members {
		elements = append(elements, nftables.SetElement{Key: deviceKey(m.Device)})
	}
	return set, c.AddSet(set, elements)
}

func (n Network) police(all *nftables.Set, members []Endpoint, add func(exprs ...[]expr.Any)) {
	cables := func(name string) []string {
		var list []string
		for _, m := range members {
			if slices.Contains(m.Names(), name) {
				list = append(list, m.Device)
			}
		}
		return list
	}
	within := deviceIn(expr.MetaKeyIIFNAME, all, false)
	for _, r := range n.Rules {
		froms, tos := [][]expr.Any{within}, [][]expr.Any{nil}
		backs, backTos := [][]expr.Any{within}, [][]expr.Any{nil}
		if r.From != "" {
			froms, backTos = nil, nil
			for _, d := range cables(r.From) {
				froms, backTos = append(froms, sameName(expr.MetaKeyIIFNAME, d)), append(backTos, sameName(expr.MetaKeyOIFNAME, d))
			}
		}
		if r.To != "" {
			tos, backs = nil, nil
			for _, d := range cables(r.To) {
				tos, backs = append(tos, sameName(expr.MetaKeyOIFNAME, d)), append(backs, sameName(expr.MetaKeyIIFNAME, d))
			}
		}
		kind := expr.VerdictDrop
		if r.Allow {
			kind = expr.VerdictAccept
		}
		for _, traffic := range r.opening() {
			each(froms, tos, func(from, to []expr.Any) { add(from, to, traffic, verdict(kind)) })
		}
		if r.Allow {
			for _, traffic := range r.answers() {
				each(backs, backTos, func(from, to []expr.Any) { add(from, to, traffic, verdict(kind)) })
			}
		}
	}
	if !n.option(optTalk) {
		for _, traffic := range (Rule{}).opening() {
			add(within, traffic, verdict(expr.VerdictDrop))
		}
	}
}

func each(a, b [][]expr.Any, fn func(a, b []expr.Any)) {
	for _, x := range a {
		for _, y := range b {
			fn(x, y)
		}
	}
}

// opening is the traffic that a rule decides on: of TCP what opens a connection (the rest of one that was never opened reaches
// nobody), of everything else each packet.
func (r Rule) opening() [][]expr.Any {
	switch r.Port.Protocol {
	case "":
		return [][]expr.Any{opens(), otherThanTCP()}
	case "tcp":
		return [][]expr.Any{append(opens(), port(2, r.Port.Number)...)}
	}
	return [][]expr.Any{append(transport(unix.IPPROTO_UDP, expr.CmpOpEq), port(2, r.Port.Number)...)}
}

// answers is the traffic back that goes with it; TCP's needs no leave.
func (r Rule) answers() [][]expr.Any {
	switch r.Port.Protocol {
	case "":
		return [][]expr.Any{otherThanTCP()}
	case "tcp":
		return nil
	}
	return [][]expr.Any{append(transport(unix.IPPROTO_UDP, expr.CmpOpEq), port(0, r.Port.Number)...)}
}

func sameName(key expr.MetaKey, device string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: deviceKey(device)}}
}

func transport(proto byte, op expr.CmpOp) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: []byte{proto}}}
}

func otherThanTCP() []expr.Any { return transport(unix.IPPROTO_TCP, expr.CmpOpNeq) }

// opens asks for SYN without ACK.
func opens() []expr.Any {
	return append(transport(unix.IPPROTO_TCP, expr.CmpOpEq),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{0x12}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0x02}})
}

func port(offset uint32, number uint16) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(number)},
	}
}

// neighbours asks for what IPv6 finds its neighbours with (types 133 to 137), as ARP does for IPv4.
func neighbours() []expr.Any {
	return append(transport(unix.IPPROTO_ICMPV6, expr.CmpOpEq),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
		&expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: []byte{133}, ToData: []byte{137}})
}

// repolice is police for a network's members that came or went.
func (s *Store) repolice(k *kernel, e Endpoint) error {
	if !e.Policed {
		return nil
	}
	all, err := s.List()
	if err != nil {
		return err
	}
	return k.police(all)
}

// exists gives the default network its addresses, if it has none yet, and updates n.
func (s *Store) exists(ctx context.Context, n *Network) error {
	if len(n.Pools) > 0 {
		return nil
	}
	unlock, err := s.lock(ctx, "all")
	if err != nil {
		return err
	}
	defer unlock()
	cur, err := s.wellKnown(n.Name)
	if err != nil {
		return err
	}
	*n = cur
	if len(n.Pools) > 0 {
		return nil // another process was first
	}
	// A bridge without a record is what a killed process left.
	return errors.Join(s.onMachine(func(k *kernel) error { return k.removeBridge(n.Device) }), s.found(ctx, n))
}
