package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

const maxToken = 128 << 10 // of a token service's answer, in bytes

// tokenRefusal is what a token service answered instead of a token.
type tokenRefusal struct{ *refusal }

// bearer asks the token service that a challenge of the registry at names for a token, and gives the value of
// Authorization. See distribution's "Token Authentication" and, for identity tokens, its "OAuth2 Token Authentication".
func (e *endpoint) bearer(ctx context.Context, at *url.URL, way challenge, scopes []string, cred credential) (string, error) {
	if cred.access != "" {
		return "Bearer " + cred.access, nil
	}
	realm, err := url.Parse(way.params["realm"])
	if err != nil {
		return "", fmt.Errorf("the registry's token service is no URL: %s", short(way.params["realm"]))
	}
	if err := mayAsk(ctx, at, realm); err != nil {
		return "", err
	}
	req, err := tokenRequest(ctx, realm, way.params["service"], scopes, cred)
	if err != nil {
		return "", err
	}
	req.Header.Set("User-Agent", e.userAgent)
	client := *e.http
	client.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if err := mayAsk(req.Context(), at, req.URL); err != nil {
			return err
		}
		if req.Body != nil && req.Body != http.NoBody && !sameOrigin(via[0].URL, req.URL) {
			return errors.New("the token service redirects a login to another host: it is not followed")
		}
		return e.redirect(req, via)
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	token, err := readToken(resp)
	return "Bearer " + token, err
}

// tokenRequest is the request for a token: with an identity token a form, else a query.
func tokenRequest(ctx context.Context, realm *url.URL, service string, scopes []string, cred credential) (*http.Request, error) {
	if cred.identity != "" {
		form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {cred.identity}, "service": {service}, "client_id": {"strata"}}
		if len(scopes) > 0 {
			form.Set("scope", strings.Join(scopes, " "))
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, realm.String(), strings.NewReader(form.Encode()))
		if err == nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		return req, err
	}
	at := *realm
	query := at.Query()
	if service != "" {
		query.Set("service", service)
	}
	for _, s := range scopes {
		query.Add("scope", s)
	}
	at.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err == nil && (cred.user != "" || cred.secret != "") {
		req.SetBasicAuth(cred.user, cred.secret)
	}
	return req, err
}

// readToken reads a token service's answer and closes it.
func readToken(resp *http.Response) (string, error) {
	if resp.StatusCode != http.StatusOK {
		return "", &tokenRefusal{readRefusal(resp)}
	}
	defer resp.Body.Close()
	var doc struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxToken)).Decode(&doc); err != nil {
		return "", fmt.Errorf("the token service at %s gave no token that can be read", resp.Request.URL.Host)
	}
	if doc.AccessToken != "" {
		return doc.AccessToken, nil
	}
	if doc.Token == "" {
		return "", fmt.Errorf("the token service at %s gave an empty token", resp.Request.URL.Host)
	}
	return doc.Token, nil
}

// mayAsk tells whether a registry may send us to a token service: not from HTTPS to HTTP, and not from outside to a host
// that only we can reach. One beside a registry that has a private address itself is the usual thing in a company's network.
func mayAsk(ctx context.Context, registry, service *url.URL) error {
	if service.Scheme != "https" && (service.Scheme != "http" || registry.Scheme == "https") {
		return fmt.Errorf("the registry names a token service without TLS, %s: it is not asked", short(service.Redacted()))
	}
	if strings.EqualFold(service.Hostname(), registry.Hostname()) || allInternal(ctx, registry.Hostname()) {
		return nil
	}
	for _, ip := range addresses(ctx, service.Hostname()) {
		if internalAddr(ip) {
			return fmt.Errorf("the registry names a token service at a private address, %s: it is not asked", service.Hostname())
		}
	}
	return nil
}

// allInternal reports whether a host has only addresses that are not of the public internet.
func allInternal(ctx context.Context, host string) bool {
	ips := addresses(ctx, host)
	for _, ip := range ips {
		if !internalAddr(ip) {
			return false
		}
	}
	return len(ips) > 0
}

// addresses are a host's; none where it cannot be looked up: then it cannot be reached either.
func addresses(ctx context.Context, host string) []netip.Addr {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}
	}
	if host == "localhost" { // whatever a name server says
		return []netip.Addr{netip.IPv6Loopback()}
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil
	}
	return ips
}

func internalAddr(ip netip.Addr) bool {
	ip = ip.Unmap()
	shared := netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64}), 10) // RFC 6598: between a provider and its customers
	return ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast() || ip.IsUnspecified() || shared.Contains(ip)
}
