package remote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strings"

	"strata/internal/errdef"
)

// LoginResult says where the credentials are now.
type LoginResult struct {
	// File is the configuration file that was written.
	File string
	// Helper is the credential helper that keeps the secret; "" when it stands in File, unencrypted.
	Helper string
}

// Login proves the credentials to the registry and keeps them where docker does: in docker's config.json, or the file that
// REGISTRY_AUTH_FILE names, or with the credential helper that this file names. Wrong credentials are errdef.ErrDenied. The
// registry may be written as a URL; "" is docker.io.
func (c *Client) Login(ctx context.Context, registry, user, secret string) (LoginResult, error) {
	registry, err := loginName(registry)
	if err != nil {
		return LoginResult{}, err
	}
	if user == "" || secret == "" || strings.ContainsRune(user, ':') {
		return LoginResult{}, fmt.Errorf("login to %s: want a user name without ':' and a password: %w", registry, errdef.ErrInvalid)
	}
	file, err := loginFile()
	if err != nil {
		return LoginResult{}, err
	}
	cred := credential{user: user, secret: secret}
	if err := c.prove(ctx, registry, cred); err != nil {
		return LoginResult{}, err
	}
	result := LoginResult{File: file}
	err = changeAuthFile(file, func(f *authFile) (bool, error) {
		helper, key := f.helper(registry)
		f.drop(registry)
		if result.Helper = helper; helper == "" {
			return true, f.put(key, authEntry{Auth: basicAuth(user, secret)})
		}
		if err := tellHelper(ctx, helper, key, cred); err != nil {
			return false, err
		}
		return true, f.put(key, authEntry{})
	})
	if err != nil {
		return LoginResult{}, fmt.Errorf("login to %s: the credentials are right, but cannot be kept: %w", registry, err)
	}
	c.forget(registry)
	return result, nil
}

// forget makes the next request to a registry look for credentials anew.
func (c *Client) forget(registry string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.sites {
		if host, _, _ := strings.Cut(key, " "); host == registry {
			delete(c.sites, key)
		}
	}
}

// loginName is the registry's host in what a person types after login: docker's config has URLs.
func loginName(s string) (string, error) {
	name := s
	if _, rest, ok := strings.Cut(s, "://"); ok {
		name = rest
	}
	name, _, _ = strings.Cut(name, "/")
	switch name {
	case "", "index.docker.io", dockerHubHost, dockerHub:
		return dockerHub, nil
	}
	if strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(".-:[]_", r)
	}) {
		return "", fmt.Errorf("registry %.200q: want HOST[:PORT]: %w", s, errdef.ErrInvalid)
	}
	return name, nil
}

// prove shows the credentials to the registry.
func (c *Client) prove(ctx context.Context, registry string, cred credential) error {
	c.forget(registry)
	s, err := c.site(registry)
	if err != nil {
		return err
	}
	defer c.forget(registry) // what is set below is for this proof only
	e, asked := s.server, false
	e.secrets = func(context.Context, *endpoint, string) (credential, error) {
		asked = true
		return cred, nil
	}
	err = e.ping(ctx, nil)
	if err == nil && !asked {
		// It lets anybody in here. It may still look at credentials that it is shown.
		err = e.ping(ctx, http.Header{"Authorization": {"Basic " + basicAuth(cred.user, cred.secret)}})
	}
	var r *refusal
	if errors.As(err, &r) && errors.Is(err, errdef.ErrDenied) {
		text := "unauthorized: incorrect username or password"
		if r.status != http.StatusUnauthorized {
			text = "denied: " + r.Error()
		}
		return fmt.Errorf("login to %s: %s: %w", registry, text, errdef.ErrDenied)
	}
	return err
}

// ping asks for the API itself, which needs the right to do anything at all.
func (e *endpoint) ping(ctx context.Context, header http.Header) error {
	resp, err := e.do(ctx, request{method: http.MethodGet, path: "/", header: header, about: subject{noun: e.name()}})
	if err != nil {
		return err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return resp.Body.Close()
	case http.StatusNotFound:
		resp.Body.Close()
		return fmt.Errorf("%s: %s is no registry: it has nothing at %s/: %w", e.name(), e.host, e.path, errdef.ErrUnsupported)
	}
	return e.refused(resp, subject{noun: e.name()})
}

// Logout forgets the credentials for the registry. False when there were none. Credentials in podman's files stay; where
// there are no others, the error is errdef.ErrConflict and names the file.
func (c *Client) Logout(ctx context.Context, registry string) (bool, error) {
	registry, err := loginName(registry)
	if err != nil {
		return false, err
	}
	file, err := loginFile()
	if err != nil {
		return false, err
	}
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return false, stillPodman(ctx, file, registry)
	}
	var had bool
	err = changeAuthFile(file, func(f *authFile) (bool, error) {
		if helper, key := f.helper(registry); helper != "" {
			cred, err := askHelper(ctx, helper, key)
			if err == nil && cred != (credential{}) {
				had, err = true, erase(ctx, helper, key)
			}
			if err != nil {
				return false, err
			}
		}
		changed := f.drop(registry)
		had = had || changed
		return changed, nil
	})
	c.forget(registry)
	if had || err != nil {
		return had, err
	}
	return false, stillPodman(ctx, file, registry)
}

// stillPodman is the error for credentials that only podman's files have.
func stillPodman(ctx context.Context, written, registry string) error {
	for _, name := range credentialFiles() {
		if name == written {
			continue
		}
		if cred, err := findCredential(ctx, []string{name}, registry, ""); err == nil && cred != (credential{}) {
			err := fmt.Errorf("logout from %s: its credentials are podman's, in %s: %w", registry, name, errdef.ErrConflict)
			return errdef.WithHint(err, "podman logout "+registry)
		}
	}
	return nil
}
