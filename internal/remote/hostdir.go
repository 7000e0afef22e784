package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"strata/internal/errdef"
	"strata/internal/userns"
)

const (
	hostsName   = "hosts.toml"
	defaultHost = "_default" // the directory for registries that have none of their own

	maxHostFile = 1 << 20
	maxHostDir  = 1000 // files in one directory
)

// defaultHostDirs are the directories of this user and this machine. Root has one of its own only where XDG_CONFIG_HOME
// says so: under sudo the home may be another user's.
func defaultHostDirs() []string {
	var dirs []string
	if userns.Active() || os.Geteuid() != 0 || os.Getenv("XDG_CONFIG_HOME") != "" {
		if config := userConfigDir(); config != "" {
			dirs = append(dirs, filepath.Join(config, "strata/certs.d"))
		}
	}
	return append(dirs, "/etc/strata/certs.d", "/etc/containerd/certs.d", "/etc/docker/certs.d", "/etc/containers/certs.d")
}

// userConfigDir is $XDG_CONFIG_HOME or ~/.config; "" where there is no home.
func userConfigDir() string {
	dir, err := os.UserConfigDir()
	if err != nil {
		return ""
	}
	return dir
}

// dirNames are the names that the directory of a host can have, the best first.
func dirNames(host string) []string {
	if strings.ContainsAny(host, `/\`) || strings.HasPrefix(host, ".") {
		return nil
	}
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		return []string{host[:i] + "_" + host[i+1:] + "_", host}
	}
	return []string{host}
}

// registryOf is the host that a directory name stands for.
func registryOf(dir string) string {
	if s, ok := strings.CutSuffix(dir, "_"); ok {
		if i := strings.LastIndexByte(s, '_'); i > 0 {
			return s[:i] + ":" + s[i+1:]
		}
	}
	return dir
}

// findHosts reads the hosts.toml for a registry: that of its own directory in the first of dirs that has one, else that
// of _default. Nil if there is none.
func findHosts(dirs []string, registry string) (*hostsFile, error) {
	for _, names := range [][]string{dirNames(registry), {defaultHost}} {
		for _, dir := range dirs {
			for _, name := range names {
				file := filepath.Join(dir, name, hostsName)
				data, err := readFile(file, maxHostFile)
				if absent(err) {
					continue
				}
				if err != nil {
					return nil, err
				}
				return parseHosts(file, data)
			}
		}
	}
	return nil, nil
}

// absent reports whether err says that there is no such file, or none that this user may know of.
func absent(err error) bool {
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	var p *fs.PathError
	if !errors.As(err, &p) || !errors.Is(err, fs.ErrPermission) {
		return false
	}
	_, err = os.Lstat(p.Path)
	return err != nil
}

// readFile reads a regular file of at most limit bytes.
func readFile(name string, limit int64) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file: %w", name, errdef.ErrInvalid)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s: more than %d bytes: %w", name, limit, errdef.ErrLimit)
	}
	return data, err
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// Setting is what a configuration file says of one registry.
type Setting struct {
	// Registry is the host, or in a registries.conf the beginning of names; "_default" stands for all that have no directory
	// of their own. "" tells that the file lists registries for names that have none, which strata does not use.
	Registry string
	// File says so.
	File string
	// Server is the URL of the registry itself, "" if the file leaves it as it is.
	Server string
	// Mirrors are the URLs that are asked before it, in order.
	Mirrors []string
	// Insecure are those of all these URLs that are plain HTTP or whose certificates are not verified.
	Insecure []string
	// Blocked: nothing may be asked of it.
	Blocked bool
}

// Config lists what hosts.toml files say, sorted by registry, then what registries.conf says, the longest names first. Files
// that cannot be read make the error; the settings of the others are there nevertheless.
func (c *Client) Config(ctx context.Context) ([]Setting, error) {
	found := map[string]Setting{}
	var failed []error
	for _, dir := range c.opt.HostDirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !absent(err) {
			failed = append(failed, err)
		}
		for _, entry := range entries {
			registry := registryOf(entry.Name())
			if _, known := found[registry]; known || ctx.Err() != nil {
				continue
			}
			file := filepath.Join(dir, entry.Name(), hostsName)
			data, err := readFile(file, maxHostFile)
			if absent(err) || errors.Is(err, errNotDir) {
				continue
			}
			var h *hostsFile
			if err == nil {
				h, err = parseHosts(file, data)
			}
			if err != nil {
				failed = append(failed, err)
				continue
			}
			found[registry] = h.setting(registry)
		}
	}
	var list []Setting
	for _, registry := range sortedKeys(found) {
		list = append(list, found[registry])
	}
	conf, err := c.conf()
	if err != nil {
		failed = append(failed, err)
	}
	list = append(list, conf.settings()...)
	return list, errors.Join(append(failed, ctx.Err())...)
}

func (h *hostsFile) setting(registry string) Setting {
	s := Setting{Registry: registry, File: h.file, Server: h.server.at.String()}
	insecure := func(e hostEntry) {
		if e.at.scheme == "http" || e.skipVerify {
			at := e.at.String()
			if at == "" {
				at = "https://" + registry
			}
			s.Insecure = append(s.Insecure, at)
		}
	}
	for _, e := range h.hosts {
		if e.at.host != usual(registry).host && e.at.host != h.server.at.host {
			s.Mirrors = append(s.Mirrors, e.at.String())
		}
		insecure(e)
	}
	insecure(h.server)
	return s
}

// String is the place as a URL; "" is the empty place.
func (p place) String() string {
	if p.host == "" {
		return ""
	}
	scheme := p.scheme
	if scheme == "" {
		scheme = "https"
	}
	return scheme + "://" + p.host + strings.TrimSuffix(p.path, "/v2")
}
