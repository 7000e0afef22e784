package remote

import (
	"context"
	"fmt"
	"sync"
	"time"

	"strata/internal/errdef"
	"strata/internal/oci"
	"strata/internal/reference"
)

// Options say where the client's configuration is.
type Options struct {
	// HostDirs are directories in the form of containerd's certs.d (HOST/hosts.toml, HOST/*.crt), the most important
	// first. Nil: the usual places of this user and this machine.
	HostDirs []string
	// UserAgent is sent with every request.
	UserAgent string
}

// Client talks to registries. It is safe for use by several goroutines.
type Client struct {
	opt   Options
	pause time.Duration // before the first retry; each further one waits twice as long

	mu      sync.Mutex
	sites   map[string]*site    // by registry
	offered map[upload]*session // upload sessions that a refused mount left open
}

// New makes a client. Configuration is read when a registry is first asked.
func New(o Options) *Client {
	if o.HostDirs == nil {
		o.HostDirs = defaultHostDirs()
	}
	return &Client{opt: o, pause: firstPause, sites: map[string]*site{}, offered: map[upload]*session{}}
}

// Document is a manifest or index as a registry gave it.
type Document = oci.Document

// site gives the places where a registry is asked.
func (c *Client) site(registry string) (*site, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.sites[registry]; s != nil {
		return s, nil
	}
	s, err := c.newSite(registry)
	if err != nil {
		return nil, err
	}
	c.sites[registry] = s
	return s, nil
}

// forPush gives the one endpoint that takes what is pushed to ref's registry.
func (c *Client) forPush(ref reference.Ref) (*endpoint, error) {
	s, err := c.site(ref.Domain)
	if err != nil {
		return nil, err
	}
	for _, m := range s.mirrors {
		if m.can&canPush != 0 {
			return m, nil
		}
	}
	if s.server.can&canPush == 0 {
		return nil, fmt.Errorf("registry %s: its hosts.toml lets no host take a push: %w", ref.Domain, errdef.ErrUnsupported)
	}
	return s.server, nil
}

// pull asks the mirrors of ref's registry that can do what is wanted, in their order, then the registry itself, until one
// answers.
func pull[T any](ctx context.Context, c *Client, ref reference.Ref, want capability, ask func(*endpoint) (T, error)) (T, error) {
	var none T
	s, err := c.site(ref.Domain)
	if err != nil {
		return none, err
	}
	var failed []error
	for _, m := range s.mirrors {
		if m.can&want == 0 || m.down() {
			continue
		}
		got, err := ask(m)
		if err == nil {
			return got, nil
		}
		if ctx.Err() != nil {
			return none, err
		}
		m.note(err)
		failed = append(failed, err)
	}
	if s.server.can&want == 0 {
		return none, onlyMirrors(ref, failed)
	}
	got, err := ask(s.server)
	if err != nil && ctx.Err() == nil {
		err = alsoMirrors(err, failed)
	}
	return got, err
}
