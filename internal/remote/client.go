package remote

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
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
	// ConfFiles are files in the form of podman's registries.conf, those that count most last. Nil with HostDirs nil: the
	// usual ones of this user and this machine.
	ConfFiles []string
	// Insecure allows plain HTTP, and certificates that nobody vouches for, of registries of which no file says anything.
	Insecure bool
	// UserAgent is sent with every request.
	UserAgent string
	// Limits says what transfers may take of a network, when a registry is first asked. Nil: what is usual.
	Limits func() (Limits, error)
	// Tell is told in a line what takes long or will soon be refused: that a registry wants to be left alone for a while,
	// that little is left of what it allows. over is called when that is past. Nil: nobody is told.
	Tell func(ctx context.Context, text string) (over func())
}

// Limits bound what transfers take of a network. The zero Limits are the usual ones.
type Limits struct {
	// Connections is how many ranges of blobs are fetched at a time, of all blobs together; 0 is [DefaultConnections].
	Connections int
	// Rate bounds the bytes a second of all transfers together; 0 does not.
	Rate int64
}

// DefaultConnections is how many ranges of blobs are fetched at a time where nothing else is said.
const DefaultConnections = 16

// Client talks to registries. It is safe for use by several goroutines.
type Client struct {
	opt   Options
	pause time.Duration // before the first retry; each further one waits twice as long

	conf func() (*registriesConf, error)

	watch watching // of the speed of downloads

	limits    func() (Limits, error) // once
	downloads slots
	slow      *throttle // nil without a bound

	ahead atomic.Int32 // blobs that are read ahead of
	panes sync.Pool

	mu      sync.Mutex
	sites   map[string]*site    // by registry, and prefix in registries.conf
	offered map[upload]*session // upload sessions that a refused mount left open
}

// New makes a client. Configuration is read when a registry is first asked.
func New(o Options) *Client {
	files := func() []string { return o.ConfFiles }
	if o.HostDirs == nil {
		o.HostDirs = defaultHostDirs()
		if o.ConfFiles == nil {
			files = defaultConfFiles
		}
	}
	conf := sync.OnceValues(func() (*registriesConf, error) { return readConf(files()) })
	c := &Client{opt: o, conf: conf, pause: firstPause, watch: usualWatching(), sites: map[string]*site{}, offered: map[upload]*session{}}
	c.panes.New = func() any { return new(pane) }
	c.limits = sync.OnceValues(c.readLimits)
	return c
}

func (c *Client) readLimits() (l Limits, err error) {
	if c.opt.Limits != nil {
		l, err = c.opt.Limits()
	}
	if l.Connections <= 0 {
		l.Connections = DefaultConnections
	}
	if l.Rate > 0 {
		c.slow = &throttle{rate: l.Rate}
	}
	c.downloads = make(slots, l.Connections)
	return l, err
}

// slots lets so many in at a time as it has room for.
type slots chan struct{}

// take waits for a place; release gives it back.
func (s slots) take(ctx context.Context) (release func(), err error) {
	select {
	case s <- struct{}{}:
		return func() { <-s }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Document is a manifest or index as a registry gave it.
type Document = oci.Document

// site gives the places where a registry is asked that no more is said of than its name.
func (c *Client) site(registry string) (*site, error) {
	return c.siteOf(reference.Ref{Domain: registry})
}

// siteOf gives the places where ref's repository is asked for.
func (c *Client) siteOf(ref reference.Ref) (*site, error) {
	if _, err := c.limits(); err != nil {
		return nil, err
	}
	conf, err := c.conf()
	if err != nil {
		return nil, err
	}
	entry, found := conf.find(ref)
	key := ref.Domain + " " + entry.prefix
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.sites[key]; s != nil {
		return s, nil
	}
	s, err := c.newSite(ref.Domain, entry, found)
	if err != nil {
		return nil, err
	}
	c.sites[key] = s
	return s, nil
}

// forPush gives the one endpoint that takes what is pushed to ref's registry.
func (c *Client) forPush(ref reference.Ref) (*endpoint, error) {
	s, err := c.siteOf(ref)
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
	s, err := c.siteOf(ref)
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
