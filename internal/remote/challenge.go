package remote

import (
	"context"
	"crypto/rand"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
)

const maxChallenge = 16 << 10 // of WWW-Authenticate, in bytes

// challenges mends what registries say in WWW-Authenticate so that auth.Client understands it: of several challenges it
// reads the first only, and it refuses a token service at a private address beside the registry, which is the usual thing
// where the registry itself has a private address (a GitLab in a company's network). Such a service gets an alias on the
// registry's own host, which is turned back here.
type challenges struct {
	next http.RoundTripper
	host string // host[:port] of the endpoint

	mu      sync.Mutex
	aliases map[string]*url.URL // by path
}

func (t *challenges) RoundTrip(req *http.Request) (*http.Response, error) {
	if real := t.real(req.URL); real != nil {
		req = req.Clone(req.Context())
		req.URL, req.Host = real, ""
	}
	resp, err := t.next.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	c, ok := choose(parseChallenges(resp.Header.Values("Www-Authenticate")))
	resp.Header.Del("Www-Authenticate")
	if ok {
		if c.scheme == "bearer" && req.URL.Host == t.host {
			c.params["realm"] = t.alias(req.Context(), req.URL.Scheme, c.params["realm"])
		}
		resp.Header.Set("Www-Authenticate", c.String())
	}
	return resp, nil
}

// alias gives the URL by which auth.Client may know the token service realm.
func (t *challenges) alias(ctx context.Context, scheme, realm string) string {
	u, err := url.Parse(realm)
	if err != nil || (u.Scheme != "https" && u.Scheme != scheme) || strings.EqualFold(u.Hostname(), hostname(t.host)) {
		return realm
	}
	if !internal(ctx, hostname(t.host)) {
		return realm
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for path, known := range t.aliases {
		if known.String() == realm {
			return (&url.URL{Scheme: u.Scheme, Host: t.host, Path: path, RawQuery: u.RawQuery}).String()
		}
	}
	if t.aliases == nil {
		t.aliases = map[string]*url.URL{}
	}
	path := "/" + rand.Text()
	t.aliases[path] = u
	return (&url.URL{Scheme: u.Scheme, Host: t.host, Path: path, RawQuery: u.RawQuery}).String()
}

// real is the URL behind an alias, or nil.
func (t *challenges) real(u *url.URL) *url.URL {
	t.mu.Lock()
	defer t.mu.Unlock()
	known := t.aliases[u.Path]
	if known == nil || u.Host != t.host {
		return nil
	}
	real := *known
	real.RawQuery = u.RawQuery
	return &real
}

// internal reports whether a host has only addresses that are not of the public internet.
func internal(ctx context.Context, host string) bool {
	if host == "localhost" {
		return true
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return internalAddr(ip)
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	for _, ip := range ips {
		if !internalAddr(ip) {
			return false
		}
	}
	return err == nil && len(ips) > 0
}

func internalAddr(ip netip.Addr) bool {
	ip = ip.Unmap()
	return ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast()
}

// challenge is one way to prove who one is that a server offers. See RFC 9110, section 11.6.1.
type challenge struct {
	scheme string // in lower case
	params map[string]string
}

// String is the challenge in the form that auth.Client reads.
func (c challenge) String() string {
	if c.scheme == "basic" {
		return "Basic"
	}
	s, separator := "Bearer", " "
	for _, k := range []string{"realm", "service", "scope"} {
		if v, ok := c.params[k]; ok {
			s += separator + k + "=" + strconv.Quote(v)
			separator = ","
		}
	}
	return s
}

// choose takes the first challenge for a token, else the first for a password.
func choose(all []challenge) (challenge, bool) {
	for _, c := range all {
		if c.scheme == "bearer" && c.params["realm"] != "" {
			return c, true
		}
	}
	for _, c := range all {
		if c.scheme == "basic" {
			return c, true
		}
	}
	return challenge{}, false
}

// parseChallenges reads WWW-Authenticate headers: each can hold several challenges. It stops at what it does not understand.
func parseChallenges(headers []string) []challenge {
	var all []challenge
	for _, h := range headers {
		if len(h) > maxChallenge {
			continue
		}
		all = append(all, parseChallenge(h)...)
	}
	return all
}

func parseChallenge(s string) []challenge {
	var all []challenge
	for {
		s = strings.TrimLeft(s, " \t,")
		word, rest := token(s)
		if word == "" {
			return all
		}
		after := strings.TrimLeft(rest, " \t")
		if len(all) > 0 && strings.HasPrefix(after, "=") && !strings.HasPrefix(after, "==") {
			value, rest, ok := value(strings.TrimLeft(after[1:], " \t"))
			if !ok {
				return all
			}
			if last := all[len(all)-1].params; len(last) < 16 {
				last[strings.ToLower(word)] = value
			}
			s = rest
			continue
		}
		all = append(all, challenge{scheme: strings.ToLower(word), params: map[string]string{}})
		s = rest
		if rest != "" && rest[0] != ' ' && rest[0] != '\t' && rest[0] != ',' {
			return all
		}
	}
}

// token is the word that s starts with.
func token(s string) (word, rest string) {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?={}`, c) >= 0 {
			return s[:i], s[i:]
		}
	}
	return s, ""
}

// value is the token or quoted string that s starts with.
func value(s string) (v, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		v, rest = token(s)
		return v, rest, v != ""
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:], true
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}
