package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"strata/internal/errdef"
)

// capability is what an endpoint is good for, in containerd's words.
type capability uint8

const (
	canPull    capability = 1 << iota // manifests and blobs by digest
	canResolve                        // tags
	canPush
	canRefer // lists of referrers
)

const (
	canAll = canPull | canResolve | canPush | canRefer

	downTime     = time.Minute     // for which a mirror that could not be reached is left alone
	probeTimeout = 3 * time.Second // for finding out whether a loopback port speaks TLS
)

// endpoint is one place that is asked for a registry's repositories.
type endpoint struct {
	registry string // whose repositories they are: "docker.io"
	host     string // host[:port] that is asked
	path     string // before the repository: "/v2"
	can      capability
	entry    hostEntry // that it was made from
	mirror   bool
	alias    *alias      // of repositories; nil leaves their names
	keeper   string      // host under whose name the credentials are kept; "" for the usual rule
	header   http.Header // sent to this host only
	dirs     []string    // Options.HostDirs, for hints

	http      *http.Client
	userAgent string
	tell      func(ctx context.Context, text string) (over func()) // see Options.Tell
	secrets   func(ctx context.Context, e *endpoint, repo string) (credential, error)

	mu        sync.Mutex
	scheme    string             // "https", "http"; "" until a loopback host has been asked what it speaks
	provers   map[string]*prover // by repository: podman's files can have credentials for single ones
	problems  []string           // why credentials could not be read
	downUntil atomic.Int64       // Unix nanoseconds
	left      *quota             // what the registry last said
}

// name is the endpoint in error messages.
func (e *endpoint) name() string {
	if e.mirror {
		return "mirror " + e.host + " of " + e.registry
	}
	return "registry " + e.registry
}

// request is one HTTP request to an endpoint.
type request struct {
	method string
	path   string // below the endpoint's own
	query  url.Values
	at     *url.URL // a place that the registry named, instead of path and query
	repo   string   // for the credentials; "" is the registry as a whole
	scopes []string // what a token must allow
	header http.Header
	// body opens what is sent, anew for each try; nil sends nothing.
	body func() (io.ReadCloser, error)
	size int64 // of body, -1 if it is not known
	once bool  // body can be read only once
	// check, of a list, looks at each page's answer before it is read. Nil finds nothing wrong.
	check func(resp *http.Response) error

	about subject
}

// do sends a request. An answer of any status is returned; the error tells why there is none.
func (e *endpoint) do(ctx context.Context, r request) (*http.Response, error) {
	req, err := e.build(ctx, r)
	if err != nil {
		return nil, err
	}
	resp, err := e.prover(e.alias.repo(r.repo)).do(req, e.alias.scopes(r.scopes))
	if err != nil {
		return nil, e.explain(ctx, err, r.about)
	}
	e.notice(ctx, resp)
	return resp, nil
}

// notice remembers what a registry says of what it allows, and tells once when little is left.
func (e *endpoint) notice(ctx context.Context, resp *http.Response) {
	q, ok := readQuota(resp.Header)
	if !ok {
		return
	}
	e.mu.Lock()
	tell := q.scarce() && (e.left == nil || !e.left.scarce()) && e.tell != nil
	e.left = &q
	e.mu.Unlock()
	if tell {
		e.tell(ctx, e.name()+": "+q.String())()
	}
}

func (e *endpoint) build(ctx context.Context, r request) (*http.Request, error) {
	at := r.at
	if at == nil {
		base, err := e.base(ctx, r.about)
		if err != nil {
			return nil, err
		}
		path := r.path
		if rest, ok := strings.CutPrefix(path, r.repo+"/"); ok && r.repo != "" {
			path = e.alias.repo(r.repo) + "/" + rest
		}
		at = base.JoinPath(path)
		at.RawQuery = e.query(r.query).Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, at.String(), nil)
	if err != nil {
		return nil, err
	}
	if r.body != nil && r.size != 0 {
		if req.Body, err = r.body(); err != nil {
			return nil, err
		}
		req.ContentLength = r.size
		req.GetBody = nil
		if !r.once {
			req.GetBody = r.body
		}
	}
	if at.Host == e.host {
		for k, v := range e.header {
			req.Header[k] = append([]string(nil), v...)
		}
	}
	for k, v := range r.header {
		req.Header[k] = v
	}
	return req, nil
}

// query adds the name of the registry that a mirror is asked for, as containerd does: one mirror can serve several.
func (e *endpoint) query(q url.Values) url.Values {
	if from := q.Get("from"); from != "" && e.alias != nil {
		q = url.Values{"from": {e.alias.repo(from)}, "mount": q["mount"]}
	}
	if !e.mirror || e.alias != nil {
		return q
	}
	with := url.Values{"ns": {e.registry}}
	for k, v := range q {
		with[k] = v
	}
	return with
}

// base is the endpoint's URL; a loopback host is asked first whether it speaks TLS.
func (e *endpoint) base(ctx context.Context, about subject) (*url.URL, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.scheme == "" {
		scheme, err := probe(ctx, e.host)
		if err != nil {
			return nil, e.explain(ctx, err, about)
		}
		e.scheme = scheme
	}
	return &url.URL{Scheme: e.scheme, Host: e.host, Path: e.path}, nil
}

// probe finds out which of HTTPS and HTTP a loopback host speaks.
func probe(ctx context.Context, host string) (string, error) {
	addr := host
	if _, _, err := net.SplitHostPort(host); err != nil {
		addr = net.JoinHostPort(strings.Trim(host, "[]"), "443")
	}
	d := tls.Dialer{
		NetDialer: &net.Dialer{Timeout: probeTimeout},
		// Nothing is said on this connection, so nothing need be proven. The odd protocol ends the first line for an HTTP
		// server, which would wait for its end otherwise.
		Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1", "\n"}}, //nolint:gosec // see above
	}
	short, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	conn, err := d.DialContext(short, "tcp", addr)
	if err == nil {
		conn.Close()
		return "https", nil
	}
	if ctx.Err() != nil {
		return "", err
	}
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		if addr == host {
			return "", err
		}
		return "http", nil // nothing at port 443: port 80 will tell
	}
	return speaks(err), nil
}

// speaks tells from a failed handshake whether the other side speaks TLS: an alert is TLS.
func speaks(err error) string {
	var alert tls.AlertError
	var op *net.OpError
	if errors.As(err, &alert) || errors.As(err, &op) && op.Op == "remote error" {
		return "https"
	}
	return "http"
}

// prover has the credentials for a repository.
func (e *endpoint) prover(repo string) *prover {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.provers[repo]
	if p == nil {
		p = &prover{e: e, repo: repo, turn: make(chan struct{}, 1)}
		if e.provers == nil {
			e.provers = map[string]*prover{}
		}
		e.provers[repo] = p
	}
	return p
}

// credential gives the credentials to the endpoint's own host and to no other. Those that cannot be read are as good as
// none: many things can be had without. Why is told if it turns out that they were needed.
func (e *endpoint) credential(ctx context.Context, host, repo string) credential {
	if host != e.host {
		return credential{}
	}
	cred, err := e.secrets(ctx, e, repo)
	if err != nil {
		e.mu.Lock()
		e.problems = []string{err.Error()}
		e.mu.Unlock()
		return credential{}
	}
	return cred
}

// note remembers a mirror that could not be reached, so that not every request waits for it.
func (e *endpoint) note(err error) {
	var r *refusal
	if errors.Is(err, errdef.ErrUnavailable) && !errors.As(err, &r) {
		e.downUntil.Store(time.Now().Add(downTime).UnixNano())
	}
}

func (e *endpoint) down() bool { return time.Now().UnixNano() < e.downUntil.Load() }

// loopback reports whether host[:port] can only be this machine.
func loopback(host string) bool {
	name := (&url.URL{Host: host}).Hostname()
	if name == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(name)
	return err == nil && ip.Unmap().IsLoopback()
}
