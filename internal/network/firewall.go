package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The firewall is one table of our own, which nobody else need know: its rules never change, what changes are the members
// of its sets and maps. A rule of another table that drops a packet stands, whatever ours says, and the other way round.
//
//	prerouting, output   what comes to a published port of this machine, except from a container and by the loopback: those
//	                     come to the relay that listens there
//	forward              nothing between networks, nothing out of or into an internal one, into others only what comes to a
//	                     published port
//	postrouting          what leaves has this machine's address

// table is our table with its sets.
type table struct {
	*nftables.Table
	bridges, internal, outbound *nftables.Set
	pairs                       *nftables.Set            // of a bridge and itself
	forwards                    map[string]*nftables.Set // at4, any4, at6, any6
}

func (s *Store) tableName() string {
	if s.opt.Default {
		return "strata"
	}
	return "strata-" + s.builtinNetwork(Bridge).ID[:8]
}

// describe gives the table as it is declared. Nothing is sent.
func (s *Store) describe() *table {
	t := &table{Table: &nftables.Table{Family: nftables.TableFamilyINet, Name: s.tableName()}, forwards: map[string]*nftables.Set{}}
	names := func(name string) *nftables.Set {
		return &nftables.Set{Table: t.Table, Name: name, KeyType: nftables.TypeIFName, KeyByteOrder: binaryutil.NativeEndian}
	}
	t.bridges, t.internal, t.outbound = names("bridges"), names("internal"), names("outbound")
	t.pairs = names("pairs")
	t.pairs.KeyType, t.pairs.Concatenation = nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIFName), true
	for fam, addr := range map[string]nftables.SetDatatype{"4": nftables.TypeIPAddr, "6": nftables.TypeIP6Addr} {
		data := nftables.MustConcatSetType(addr, nftables.TypeInetService)
		t.forwards["any"+fam] = &nftables.Set{Table: t.Table, Name: "any" + fam, IsMap: true, Concatenation: true,
			KeyType: nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService), DataType: data}
		t.forwards["at"+fam] = &nftables.Set{Table: t.Table, Name: "at" + fam, IsMap: true, Concatenation: true,
			KeyType: nftables.MustConcatSetType(addr, nftables.TypeInetProto, nftables.TypeInetService), DataType: data}
	}
	return t
}

// declare makes the table anew in c: it replaces one that is there, in the same transaction.
func (t *table) declare(c *nftables.Conn, closed bool) error {
	c.AddTable(t.Table)
	c.DelTable(t.Table)
	c.AddTable(t.Table)
	sets := []*nftables.Set{t.bridges, t.internal, t.outbound, t.pairs}
	for _, name := range []string{"at4", "any4", "at6", "any6"} {
		sets = append(sets, t.forwards[name])
	}
	for _, set := range sets {
		if err := c.AddSet(set, nil); err != nil {
			return err
		}
	}
	chain := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority *nftables.ChainPriority) func(exprs ...[]expr.Any) {
		ch := c.AddChain(&nftables.Chain{Name: name, Table: t.Table, Type: kind, Hooknum: hook, Priority: priority})
		return func(exprs ...[]expr.Any) {
			c.AddRule(&nftables.Rule{Table: t.Table, Chain: ch, Exprs: slices.Concat(exprs...)})
		}
	}
	publish := chain("publish", "", nil, nil)
	for _, name := range []string{"at4", "any4", "at6", "any6"} {
		publish(t.forward(name))
	}
	pre := chain("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	pre(deviceIn(expr.MetaKeyIIFNAME, t.bridges, true), toUs(), jump("publish"))
	out := chain("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest)
	out(loopback4(), verdict(expr.VerdictReturn))
	out(loopback6(), verdict(expr.VerdictReturn))
	out(toUs(), jump("publish"))
	post := chain("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	post(deviceIn(expr.MetaKeyIIFNAME, t.outbound, false), deviceIn(expr.MetaKeyOIFNAME, t.bridges, true), []expr.Any{&expr.Masq{}})
	t.declareForward(chain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter), closed)
	return nil
}

// declareForward is the chain of what is passed on. closed: this machine passed nothing on before there were networks, and
// is not to be a router for others now.
func (t *table) declareForward(rule func(exprs ...[]expr.Any), closed bool) {
	from := func(set *nftables.Set) []expr.Any { return deviceIn(expr.MetaKeyIIFNAME, set, false) }
	to := func(set *nftables.Set) []expr.Any { return deviceIn(expr.MetaKeyOIFNAME, set, false) }
	rule(connection(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), verdict(expr.VerdictAccept))
	rule(t.bridged(), verdict(expr.VerdictAccept))
	rule(from(t.bridges), to(t.bridges), verdict(expr.VerdictDrop))
	rule(from(t.internal), verdict(expr.VerdictDrop))
	rule(from(t.bridges), verdict(expr.VerdictAccept))
	rule(to(t.internal), verdict(expr.VerdictDrop))
	rule(to(t.bridges), connection(expr.CtKeySTATUS, ipsDstNAT), verdict(expr.VerdictAccept))
	rule(to(t.bridges), verdict(expr.VerdictDrop))
	if closed {
		rule(verdict(expr.VerdictDrop))
	}
}

// ipsDstNAT is the kernel's mark of a connection whose destination was rewritten.
const ipsDstNAT = 1 << 5

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }

func jump(chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: chain}}
}

// deviceIn compares the device that a packet comes from or goes to with a set.
func deviceIn(key expr.MetaKey, set *nftables.Set, invert bool) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID, Invert: invert},
	}
}

// bridged asks whether a packet stays within a bridge. Those come here only where br_netfilter is told to show them.
func (t *table) bridged() []expr.Any {
	const first, second = unix.NFT_REG32_00, unix.NFT_REG32_04
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: first},
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: second},
		&expr.Lookup{SourceRegister: first, SetName: t.pairs.Name, SetID: t.pairs.ID},
	}
}

// connection asks whether any of the bits are set in what is known of the connection.
func connection(key expr.CtKey, bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

// toUs asks whether the destination is an address of this machine.
func toUs() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}

func protocol(family byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}}}
}

// The places of the destination address in the headers.
func destination4(register uint32) *expr.Payload {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4}
}

func destination6(register uint32) *expr.Payload {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: 24, Len: 16}
}

func loopback4() []expr.Any {
	return append(protocol(unix.NFPROTO_IPV4), destination4(1),
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: []byte{0xff, 0, 0, 0}, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{127, 0, 0, 0}})
}

func loopback6() []expr.Any {
	return append(protocol(unix.NFPROTO_IPV6), destination6(1),
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: netip.IPv6Loopback().AsSlice()})
}

// forward rewrites the destination to what the map has for it. The parts of a key, and of what it leads to, lie in
// neighbouring registers of four bytes.
func (t *table) forward(name string) []expr.Any {
	set := t.forwards[name]
	const first = unix.NFT_REG32_00
	family, payload, words := byte(unix.NFPROTO_IPV4), destination4(first), uint32(1)
	if name == "at6" || name == "any6" {
		family, payload, words = unix.NFPROTO_IPV6, destination6(first), 4
	}
	exprs := protocol(family)
	next := uint32(first)
	if name == "at4" || name == "at6" {
		exprs, next = append(exprs, payload), first+words
	}
	return append(exprs,
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: next},
		&expr.Payload{DestRegister: next + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: first, DestRegister: unix.NFT_REG_1, IsDestRegSet: true, SetName: set.Name, SetID: set.ID},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(family), RegAddrMin: unix.NFT_REG_1, RegProtoMin: first + words})
}

// element is the map's entry for a published port: which map, and the entry. ok is false where the kernel does not forward.
func element(e Endpoint, b Binding) (name string, el nftables.SetElement, ok bool) {
	to := e.IPv4.Addr()
	fam := "4"
	if b.HostIP.Is6() {
		to, fam = e.IPv6.Addr(), "6"
	}
	proto := map[string]byte{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP}[b.Port.Protocol]
	if !to.IsValid() || b.HostIP.IsLoopback() || proto == 0 {
		return "", el, false
	}
	el.Key = append([]byte{proto, 0, 0, 0}, portBytes(b.HostPort)...)
	name = "any" + fam
	if !b.HostIP.IsUnspecified() {
		name, el.Key = "at"+fam, append(b.HostIP.AsSlice(), el.Key...)
	}
	el.Val = append(to.AsSlice(), portBytes(b.Port.Number)...)
	return name, el, true
}

func portBytes(p uint16) []byte { return append(binaryutil.BigEndian.PutUint16(p), 0, 0) }

// change is one transaction on the table.
func (k *kernel) change(fn func(c *nftables.Conn, t *table) error) error {
	c, err := nftables.New()
	if err == nil {
		if err = fn(c, k.s.describe()); err == nil {
			err = c.Flush()
		}
	}
	if err != nil {
		return fmt.Errorf("firewall table %s: %w", k.s.tableName(), classify(err))
	}
	return nil
}

// admit tells the table of a network's bridge. The first one makes the table, and lets this machine pass packets on.
func (k *kernel) admit(n Network) error {
	err := k.change(func(c *nftables.Conn, t *table) error { return t.admit(c, n) })
	if errors.Is(err, unix.ENOENT) {
		return k.rebuild(&n)
	}
	if err == nil && n.IPv6 { // those before may have had none
		err = k.passOn6()
	}
	return err
}

func (t *table) admit(c *nftables.Conn, n Network) error {
	for set, el := range t.elements(n) {
		if set == t.internal && !n.Internal || set == t.outbound && (n.Internal || !n.option(optMasquerade)) {
			continue
		}
		if err := c.SetAddElements(set, el); err != nil {
			return err
		}
	}
	return nil
}

// elements are the network's bridge in each of the sets.
func (t *table) elements(n Network) map[*nftables.Set][]nftables.SetElement {
	key := deviceKey(n.Device)
	one := []nftables.SetElement{{Key: key}}
	return map[*nftables.Set][]nftables.SetElement{t.bridges: one, t.internal: one, t.outbound: one, t.pairs: {{Key: slices.Concat(key, key)}}}
}

// deviceKey is a device's name as the kernel compares it: sixteen bytes.
func deviceKey(name string) []byte {
	key := make([]byte, unix.IFNAMSIZ)
	copy(key, name)
	return key
}

// rebuild makes the whole table from the records, and with it this network, which may not be recorded yet.
func (k *kernel) rebuild(more *Network) error {
	if err := k.passOn(more.IPv6); err != nil {
		return err
	}
	all, err := k.s.List()
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(all, func(n Network) bool { return n.ID == more.ID && len(n.Pools) > 0 }) {
		all = append(all, *more)
	}
	_, statErr := os.Stat(k.s.closedMark())
	err = k.change(func(c *nftables.Conn, t *table) error {
		if err := t.declare(c, statErr == nil); err != nil {
			return err
		}
		for _, n := range all {
			if n.Driver != DriverBridge || len(n.Pools) == 0 && n.ID != more.ID {
				continue
			}
			if err := t.admit(c, n); err != nil {
				return err
			}
			members, err := k.s.members(n.ID)
			if err != nil {
				return err
			}
			for _, e := range members {
				if err := t.publish(c, e); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return k.police(all)
}

// closedMark is there when this machine passed no packets on before we made it.
func (s *Store) closedMark() string { return filepath.Join(s.opt.Run, "closed") }

// passOn lets this machine pass packets on.
func (k *kernel) passOn(six bool) error {
	now, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	if err != nil {
		return err
	}
	if string(now) == "0\n" {
		if err := os.MkdirAll(k.s.opt.Run, 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(k.s.closedMark(), nil, 0o600); err != nil {
			return err
		}
	}
	if err := setting("ipv4/ip_forward", "1"); err != nil || !six {
		return err
	}
	return k.passOn6()
}

// passOn6 is passOn for IPv6. A machine that passes on listens no longer to what routers announce, unless it is told to: it
// must not lose its own way out.
func (k *kernel) passOn6() error {
	links, err := k.rt.LinkList()
	if err != nil {
		return err
	}
	for _, l := range links {
		file := "ipv6/conf/" + l.Attrs().Name + "/accept_ra"
		if now, err := os.ReadFile("/proc/sys/net/" + file); err == nil && string(now) == "1\n" {
			if err := setting(file, "2"); err != nil {
				return err
			}
		}
	}
	return setting("ipv6/conf/all/forwarding", "1")
}

// publish adds the endpoint's published ports.
func (t *table) publish(c *nftables.Conn, e Endpoint) error {
	for _, b := range e.Forwards {
		if name, el, ok := element(e, b); ok {
			if err := c.SetAddElements(t.forwards[name], []nftables.SetElement{el}); err != nil {
				return err
			}
		}
	}
	return nil
}

// dropForward takes away what is there for a port of this machine, wherever it leads.
func (k *kernel) dropForward(e Endpoint, b Binding) error {
	name, el, ok := element(e, b)
	if !ok {
		return nil
	}
	err := k.change(func(c *nftables.Conn, t *table) error {
		return c.SetDeleteElements(t.forwards[name], []nftables.SetElement{{Key: el.Key}})
	})
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// unpublish takes the endpoint's published ports away. One that is not there, or leads to another by now, stays as it is.
func (k *kernel) unpublish(e Endpoint) error {
	var errs []error
	for _, b := range e.Forwards {
		name, el, ok := element(e, b)
		if !ok {
			continue
		}
		err := k.change(func(c *nftables.Conn, t *table) error {
			set, one := t.forwards[name], []nftables.SetElement{el}
			// Added first: so that it is there, and with this value, or nothing is done.
			if err := c.SetAddElements(set, one); err != nil {
				return err
			}
			return c.SetDeleteElements(set, one)
		})
		if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EEXIST) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// withdraw takes a network's bridge out of the table.
func (k *kernel) withdraw(n Network) error {
	err := k.change(func(c *nftables.Conn, t *table) error {
		for set, el := range t.elements(n) {
			// Added first: one that is not there could not be removed.
			if err := errors.Join(c.SetAddElements(set, el), c.SetDeleteElements(set, el)); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, unix.ENOENT) {
		return nil // no table: nothing to take out
	}
	return err
}

// dropTables removes both tables.
func (k *kernel) dropTables() error {
	for _, family := range []nftables.TableFamily{nftables.TableFamilyINet, nftables.TableFamilyBridge} {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		t := &nftables.Table{Family: family, Name: k.s.tableName()}
		if _, err := c.ListTableOfFamily(t.Name, family); err != nil {
			continue // there is none
		}
		c.DelTable(t)
		if err := c.Flush(); err != nil {
			return fmt.Errorf("firewall table %s: %w", t.Name, classify(err))
		}
	}
	return nil
}
