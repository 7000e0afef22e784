package nameserver

import (
	"math/rand/v2"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// Zone knows names.
type Zone interface {
	// Addresses are those of name, and whether there is such a name at all.
	Addresses(name string) (addrs []netip.Addr, known bool)
	// Names are those of an address, the first one first; none if it is not the zone's.
	Names(addr netip.Addr) []string
}

// ttl is how long, in seconds, an answer may be kept: containers come back with other addresses.
const ttl = 5

// question reads a query's header and its one question.
func question(query []byte) (dnsmessage.Header, dnsmessage.Question, bool) {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil || h.Response {
		return h, dnsmessage.Question{}, false
	}
	q, err := p.Question()
	if err != nil {
		return h, q, false
	}
	_, err = p.Question()
	return h, q, err == dnsmessage.ErrSectionDone
}

// own is the zone's answer to the question, nil when it has none.
func own(z Zone, h dnsmessage.Header, q dnsmessage.Question) []byte {
	if q.Class != dnsmessage.ClassINET || h.OpCode != 0 {
		return nil
	}
	name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	if q.Type == dnsmessage.TypePTR {
		addr, ok := reversed(name)
		if !ok {
			return nil
		}
		names := z.Names(addr)
		if len(names) == 0 {
			return nil
		}
		return build(h, q, dnsmessage.RCodeSuccess, func(b *dnsmessage.Builder, rh dnsmessage.ResourceHeader) error {
			target, err := dnsmessage.NewName(names[0] + ".")
			if err != nil {
				return err
			}
			return b.PTRResource(rh, dnsmessage.PTRResource{PTR: target})
		})
	}
	addrs, known := z.Addresses(name)
	if !known {
		return nil
	}
	rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] }) // who share a name share the work
	return build(h, q, dnsmessage.RCodeSuccess, func(b *dnsmessage.Builder, rh dnsmessage.ResourceHeader) error {
		for _, a := range addrs {
			var err error
			switch {
			case a.Is4() && q.Type == dnsmessage.TypeA:
				err = b.AResource(rh, dnsmessage.AResource{A: a.As4()})
			case a.Is6() && q.Type == dnsmessage.TypeAAAA:
				err = b.AAAAResource(rh, dnsmessage.AAAAResource{AAAA: a.As16()})
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// build makes an answer to the question; fill, which may be nil, adds its resources. What cannot be built is a server failure.
func build(h dnsmessage.Header, q dnsmessage.Question, code dnsmessage.RCode, fill func(*dnsmessage.Builder, dnsmessage.ResourceHeader) error) []byte {
	head := dnsmessage.Header{ID: h.ID, Response: true, OpCode: h.OpCode, RecursionDesired: h.RecursionDesired, RecursionAvailable: true, RCode: code, Authoritative: fill != nil}
	b := dnsmessage.NewBuilder(nil, head)
	b.EnableCompression()
	err := b.StartQuestions()
	if err == nil {
		err = b.Question(q)
	}
	if err == nil && fill != nil {
		if err = b.StartAnswers(); err == nil {
			err = fill(&b, dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: ttl})
		}
	}
	if err == nil {
		var raw []byte
		if raw, err = b.Finish(); err == nil {
			return raw
		}
	}
	if fill == nil {
		return nil // not even the question: there is nobody to answer
	}
	return build(h, q, dnsmessage.RCodeServerFailure, nil)
}

// short fits an answer to what a datagram may hold: a longer one becomes the news that it is to be asked for by a stream.
func short(raw []byte) []byte {
	const most = 512
	if len(raw) <= most {
		return raw
	}
	h, q, ok := heading(raw)
	if !ok {
		return nil
	}
	h.Truncated = true
	b := dnsmessage.NewBuilder(nil, h)
	if b.StartQuestions() != nil || b.Question(q) != nil {
		return nil
	}
	cut, err := b.Finish()
	if err != nil {
		return nil
	}
	return cut
}

// heading reads an answer's header and question.
func heading(raw []byte) (h dnsmessage.Header, q dnsmessage.Question, ok bool) {
	var p dnsmessage.Parser
	h, err := p.Start(raw)
	if err != nil || !h.Response {
		return h, q, false
	}
	q, err = p.Question()
	return h, q, err == nil
}

// reversed reads the address out of a name that asks for an address's name.
func reversed(name string) (netip.Addr, bool) {
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		parts := strings.Split(rest, ".")
		if len(parts) != 4 {
			return netip.Addr{}, false
		}
		a, err := netip.ParseAddr(parts[3] + "." + parts[2] + "." + parts[1] + "." + parts[0])
		return a, err == nil
	}
	rest, ok := strings.CutSuffix(name, ".ip6.arpa")
	nibbles := strings.Split(rest, ".")
	if !ok || len(nibbles) != 32 {
		return netip.Addr{}, false
	}
	var b strings.Builder
	for i := 31; i >= 0; i-- {
		b.WriteString(nibbles[i])
		if i%4 == 0 && i > 0 {
			b.WriteByte(':')
		}
	}
	a, err := netip.ParseAddr(b.String())
	return a, err == nil
}
