package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// errNoCredential is why a registry that wants a password was shown none.
var errNoCredential = errors.New("authentication required")

// credential is what a person has for a registry. The zero value is none.
type credential struct {
	user, secret string
	identity     string // a token for which the token service gives others: docker's identity token
	access       string // a token as the registry wants it
}

// prover sends requests about one repository of an endpoint and proves who one is where that is asked, with what the
// registry's token service gives, or with a password. What served once is kept.
type prover struct {
	e    *endpoint
	repo string
	turn chan struct{} // full while somebody asks for a proof: the others wait for it

	mu    sync.Mutex
	known map[string]string // values of Authorization, by host, or by host and scopes where it is a token
}

// do sends a request that needs a token for scopes. The answer may still be that access is denied.
func (p *prover) do(req *http.Request, scopes []string) (*http.Response, error) {
	req.Header.Set("User-Agent", p.e.userAgent)
	if req.Header.Get("Authorization") != "" {
		return p.e.http.Do(req)
	}
	proof, last := p.keptFor(req.URL.Host, scopes), false
	for {
		resp, err := p.send(req, proof)
		if err != nil || last || resp.StatusCode != http.StatusUnauthorized {
			return resp, err
		}
		// One that was reached by a redirect gets to see nothing of ours.
		way, ok := choose(parseChallenges(resp.Header.Values("Www-Authenticate")))
		if !ok || !sameOrigin(req.URL, resp.Request.URL) {
			return resp, nil
		}
		release(resp)
		if proof, last, err = p.prove(req.Context(), req.URL, way, scopes, proof); err != nil {
			return nil, err
		}
		if req, err = rewound(req); err != nil {
			return nil, err
		}
	}
}

func (p *prover) send(req *http.Request, proof string) (*http.Response, error) {
	if proof != "" {
		req.Header.Set("Authorization", proof)
	}
	return p.e.http.Do(req)
}

// rewound is the request once more, with its body from the start.
func rewound(req *http.Request) (*http.Request, error) {
	again := req.Clone(req.Context())
	if req.Body == nil || req.Body == http.NoBody {
		return again, nil
	}
	if req.GetBody == nil {
		return nil, errors.New("a login was asked for when part of the upload was sent")
	}
	var err error
	again.Body, err = req.GetBody()
	return again, err
}

// keptFor is the proof that served for such a request, or "".
func (p *prover) keptFor(host string, scopes []string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if basic := p.known[host]; basic != "" {
		return basic
	}
	return p.known[host+" "+strings.Join(mergeScopes(scopes), " ")]
}

// prove finds what answers a challenge, other than the proof that was refused. fresh tells that there is no newer one.
func (p *prover) prove(ctx context.Context, at *url.URL, way challenge, scopes []string, refused string) (proof string, fresh bool, err error) {
	key := at.Host
	if way.scheme == "bearer" {
		scopes = mergeScopes(append(slices.Clone(scopes), strings.Fields(way.params["scope"])...))
		key += " " + strings.Join(scopes, " ")
	}
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return "", false, ctx.Err()
	}
	p.mu.Lock()
	kept := p.known[key]
	p.mu.Unlock()
	if kept != "" && kept != refused {
		return kept, false, nil
	}
	cred := p.e.credential(ctx, at.Host, p.repo)
	if way.scheme == "basic" {
		proof, err = cred.basic()
	} else {
		proof, err = p.e.bearer(ctx, at, way, scopes, cred)
	}
	if err != nil {
		return "", false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil {
		p.known = map[string]string{}
	}
	if way.scheme == "bearer" {
		delete(p.known, at.Host) // it has changed its mind
	}
	p.known[key] = proof
	return proof, true, nil
}

// basic is the value of Authorization with a password. See RFC 7617.
func (c credential) basic() (string, error) {
	switch {
	case c == credential{}:
		return "", errNoCredential
	case c.user == "" || c.secret == "":
		return "", errors.New("the registry wants a user name and a password, and one of them is missing")
	}
	return "Basic " + basicAuth(c.user, c.secret), nil
}

// sameOrigin reports whether two URLs have scheme, host and port in common.
func sameOrigin(a, b *url.URL) bool {
	return strings.EqualFold(a.Scheme, b.Scheme) && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	return map[string]string{"http": "80", "https": "443"}[strings.ToLower(u.Scheme)]
}

// catalogScope lets a token list a registry's repositories.
const catalogScope = "registry:catalog:*"

// repositoryScope lets a token do the actions to a repository.
func repositoryScope(repo string, actions ...string) string {
	return fmt.Sprintf("repository:%s:%s", repo, strings.Join(actions, ","))
}

// mergeScopes are the scopes in order, the actions on one thing put together. See distribution's "Token Scope".
func mergeScopes(scopes []string) []string {
	actions := map[string][]string{}
	var merged []string
	for _, s := range scopes {
		i := strings.LastIndexByte(s, ':')
		if i < 0 {
			merged = append(merged, s)
			continue
		}
		actions[s[:i]] = append(actions[s[:i]], strings.Split(s[i+1:], ",")...)
	}
	for on, do := range actions {
		slices.Sort(do)
		if do = slices.Compact(do); slices.Contains(do, "*") {
			do = []string{"*"}
		}
		merged = append(merged, on+":"+strings.Join(do, ","))
	}
	slices.Sort(merged)
	return slices.Compact(merged)
}
