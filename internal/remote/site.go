package remote

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"strata/internal/errdef"
)

const (
	dockerHub     = "docker.io"
	dockerHubHost = "registry-1.docker.io" // where docker.io's API is
)

// site is a registry with all the places where it is asked.
type site struct {
	mirrors []*endpoint
	server  *endpoint
}

// usual is where a registry is unless a file says otherwise.
func usual(registry string) place {
	p := place{scheme: "https", host: registry, path: "/v2"}
	if registry == dockerHub {
		p.host = dockerHubHost
	}
	if loopback(p.host) {
		p.scheme = ""
	}
	return p
}

// newSite reads the configuration for a registry. entry is what registries.conf says of it, if it does: a hosts.toml for
// that very registry counts more, but nothing unblocks what is blocked.
func (c *Client) newSite(registry string, entry confEntry, found bool) (*site, error) {
	if found && entry.blocked {
		return nil, fmt.Errorf("registry %s: %s blocks %s: %w", registry, entry.file, entry.prefix, errdef.ErrDenied)
	}
	h, err := findHosts(c.opt.HostDirs, registry)
	if err != nil {
		return nil, err
	}
	if found && (h == nil || filepath.Base(filepath.Dir(h.file)) == defaultHost) {
		return entry.site(c, registry)
	}
	if h == nil {
		h = &hostsFile{server: hostEntry{can: canAll, skipVerify: c.opt.Insecure}}
	}
	server := h.server
	if server.at.host == "" {
		server.at = usual(registry)
		if c.opt.Insecure && h.file == "" {
			server.at.scheme = "" // whichever it speaks
		}
	}
	s := &site{}
	for _, entry := range h.hosts {
		if entry.at.host == server.at.host && entry.at.path == server.at.path {
			entry.can |= server.can
			server = entry // it says how the registry itself is reached: no mirror
			continue
		}
		m, err := c.newEndpoint(registry, entry)
		if err != nil {
			return nil, err
		}
		m.mirror = entry.at.host != usual(registry).host
		s.mirrors = append(s.mirrors, m)
	}
	s.server, err = c.newEndpoint(registry, server)
	return s, err
}

func (c *Client) newEndpoint(registry string, entry hostEntry) (*endpoint, error) {
	e := &endpoint{
		registry: registry, host: entry.at.host, path: entry.at.path, scheme: entry.at.scheme, can: entry.can,
		entry: entry, header: entry.header, userAgent: c.opt.UserAgent, secrets: fileSecrets, dirs: c.opt.HostDirs,
		tell: c.opt.Tell,
	}
	names := []string{e.host}
	if e.host == usual(registry).host && registry != e.host {
		names = append(names, registry)
	}
	t, err := c.trust(names, entry)
	if err != nil {
		return nil, err
	}
	e.http = newHTTP(e, t, entry.dialTimeout, c.pause, c.slow)
	return e, nil
}

// account is the name under which the credentials for an endpoint are kept: the registry's, but a mirror's own for a
// mirror.
func (e *endpoint) account() string {
	switch {
	case e.keeper != "":
		return e.keeper
	case e.mirror:
		return e.host
	}
	return e.registry
}

func fileSecrets(ctx context.Context, e *endpoint, repo string) (credential, error) {
	return findCredential(ctx, credentialFiles(), e.account(), repo)
}

// hostDir is the directory in which a person can configure the endpoint; "" without any.
func (e *endpoint) hostDir() string {
	if len(e.dirs) == 0 {
		return ""
	}
	return filepath.Join(e.dirs[0], e.account())
}

// hintHTTP says how plain HTTP is allowed.
func (e *endpoint) hintHTTP() string {
	dir := e.hostDir()
	if dir == "" || strings.ContainsAny(dir, `'"$`) {
		return ""
	}
	return "if that is meant, allow it: `mkdir -p " + dir + " && echo 'server = \"http://" + e.host + "\"' > " + filepath.Join(dir, hostsName) + "`"
}

// hintAuthority says where the certificate of an authority is put.
func (e *endpoint) hintAuthority() string {
	if e.hostDir() == "" {
		return ""
	}
	return "if it is to be trusted, put the authority's certificate (PEM) into " + filepath.Join(e.hostDir(), "ca.crt")
}

// hintClient says where client certificates are put.
func (e *endpoint) hintClient() string {
	if e.hostDir() == "" {
		return ""
	}
	return "if it wants a client certificate, put it into " + filepath.Join(e.hostDir(), "client.cert") + ", its key into client.key beside it"
}
