package remote

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"strata/internal/config"
	"strata/internal/errdef"
	"strata/internal/reference"
	"strata/internal/userns"
)

// maxConfFiles bounds the files of a registries.conf.d.
const maxConfFiles = 1000

// registriesConf is what podman's registries.conf and the files beside it say: containers-registries.conf(5), version 2.
type registriesConf struct {
	entries []confEntry // the longest prefix first
	// search is the file that lists registries for names without one; strata knows docker.io's only.
	search string
}

// confEntry is what is said of the repositories whose name begins with a prefix.
type confEntry struct {
	prefix   string // host[/path], or *.domain
	location string // what stands in the prefix's place; "" leaves it
	insecure bool
	blocked  bool
	mirrors  []confMirror
	file     string
}

type confMirror struct {
	location string
	insecure bool
	can      capability
}

// confDocument is the form of the file. What it says beside this (aliases, short-name-mode) is about names that people
// type, which have docker's meaning here.
type confDocument struct {
	Search   []string       `toml:"unqualified-search-registries"`
	Registry []confTable    `toml:"registry"`
	Old      map[string]any `toml:"registries"` // version 1
}

type confTable struct {
	Prefix     string `toml:"prefix"`
	Location   string `toml:"location"`
	Insecure   bool   `toml:"insecure"`
	Blocked    bool   `toml:"blocked"`
	DigestOnly bool   `toml:"mirror-by-digest-only"`
	Mirror     []struct {
		Location string `toml:"location"`
		Insecure bool   `toml:"insecure"`
		PullFrom string `toml:"pull-from-mirror"`
	} `toml:"mirror"`
}

// defaultConfFiles are the files of this user and this machine, those that count most last.
func defaultConfFiles() []string {
	if file := os.Getenv("CONTAINERS_REGISTRIES_CONF"); file != "" {
		return []string{file}
	}
	const system = "/etc/containers/registries.conf"
	main, dirs := system, []string{system + ".d"}
	if userns.Active() || os.Geteuid() != 0 {
		if config := userConfigDir(); config != "" {
			own := filepath.Join(config, "containers/registries.conf")
			if _, err := os.Stat(own); err == nil {
				main = own
			}
			dirs = append(dirs, own+".d")
		}
	}
	files := []string{main}
	for _, dir := range dirs {
		more, err := filepath.Glob(filepath.Join(dir, "*.conf"))
		if err == nil {
			files = append(files, more[:min(len(more), maxConfFiles)]...)
		}
	}
	return files
}

// readConf reads the files that there are. A later file's word on a prefix replaces an earlier one's.
func readConf(files []string) (*registriesConf, error) {
	byPrefix := map[string]confEntry{}
	all := &registriesConf{}
	var failed []error
	for _, file := range files {
		data, err := readFile(file, maxHostFile)
		if absent(err) {
			continue
		}
		var doc confDocument
		if err == nil {
			doc, err = parseConf(file, data)
		}
		var entries []confEntry
		if err == nil {
			entries, err = doc.entries(file)
		}
		if err != nil {
			failed = append(failed, err)
			continue
		}
		if len(doc.Search) > 0 {
			all.search = file
		}
		for _, e := range entries {
			byPrefix[e.prefix] = e
		}
	}
	for _, prefix := range sortedKeys(byPrefix) {
		all.entries = append(all.entries, byPrefix[prefix])
	}
	slices.SortStableFunc(all.entries, func(a, b confEntry) int { return len(b.prefix) - len(a.prefix) })
	return all, errors.Join(failed...)
}

func parseConf(file string, data []byte) (confDocument, error) {
	var doc confDocument
	if err := config.Foreign(file, data, &doc); err != nil {
		return doc, err
	}
	if len(doc.Old) > 0 {
		return doc, fmt.Errorf("%s: [registries.…] is version 1 of the format: write [[registry]] tables: %w", file, errdef.ErrUnsupported)
	}
	return doc, nil
}

func (d confDocument) entries(file string) ([]confEntry, error) {
	var all []confEntry
	for n, t := range d.Registry {
		e, err := t.entry(file)
		if err != nil {
			return nil, fmt.Errorf("%s: [[registry]] %d: %w: %w", file, n+1, errdef.ErrInvalid, err)
		}
		all = append(all, e)
	}
	return all, nil
}

func (t confTable) entry(file string) (confEntry, error) {
	e := confEntry{insecure: t.Insecure, blocked: t.Blocked, file: file}
	var err error
	if e.prefix, err = confPlace("prefix", t.Prefix); err != nil {
		return e, err
	}
	if e.location, err = confPlace("location", t.Location); err != nil {
		return e, err
	}
	switch {
	case e.prefix == "":
		e.prefix = e.location
	case strings.HasPrefix(e.prefix, "*.") && (e.location != "" || strings.Contains(e.prefix, "/")):
		return e, fmt.Errorf("prefix %q: with a * there is neither a path nor a location", e.prefix)
	}
	if e.prefix == "" {
		return e, errors.New("neither prefix nor location")
	}
	for _, m := range t.Mirror {
		at, err := confPlace("mirror location", m.Location)
		if err == nil && (at == "" || strings.HasPrefix(at, "*")) {
			err = errors.New("a mirror without a location")
		}
		if err != nil {
			return e, err
		}
		mirror := confMirror{location: at, insecure: m.Insecure, can: canPull | canResolve | canRefer}
		switch m.PullFrom {
		case "", "all":
		case "digest-only":
			mirror.can = canPull
		case "tag-only":
			mirror.can = canResolve
		default:
			return e, fmt.Errorf("pull-from-mirror %.40q: want all, digest-only or tag-only", m.PullFrom)
		}
		if t.DigestOnly {
			mirror.can &= canPull
		}
		e.mirrors = append(e.mirrors, mirror)
	}
	return e, nil
}

// confPlace checks host[:port][/path].
func confPlace(key, s string) (string, error) {
	s = strings.TrimRight(s, "/")
	if s == "" {
		return "", nil
	}
	host, path, _ := strings.Cut(s, "/")
	probe := strings.TrimPrefix(host, "*.")
	if strings.Contains(s, "://") || strings.ContainsAny(s, " \t@?#") || probe == "" {
		return "", fmt.Errorf("%s %.200q: want HOST[:PORT][/PATH]", key, s)
	}
	if path == "" {
		path = "x"
	}
	if !strings.ContainsAny(probe, ".:") && probe != "localhost" {
		probe += ".example" // a bare host name, which a reference would not take for one
	}
	if ref, err := reference.Parse(probe + "/" + path); err != nil || ref.Tag != "" {
		return "", fmt.Errorf("%s %.200q: want HOST[:PORT][/PATH]", key, s)
	}
	return s, nil
}

// find gives what is said of a repository, or of a registry; ok is false when nothing is.
func (c *registriesConf) find(ref reference.Ref) (confEntry, bool) {
	for _, e := range c.entries {
		if e.matches(ref) {
			return e, true
		}
	}
	return confEntry{}, false
}

func (e confEntry) matches(ref reference.Ref) bool {
	if domain, ok := strings.CutPrefix(e.prefix, "*"); ok {
		host, _, _ := strings.Cut(ref.Domain, ":")
		return strings.HasSuffix(ref.Domain, domain) || strings.HasSuffix(host, domain)
	}
	host, path, _ := strings.Cut(e.prefix, "/")
	return host == ref.Domain && (path == "" || ref.Path == path || strings.HasPrefix(ref.Path, path+"/"))
}

// alias says under what name an endpoint knows the repositories of a registry.
type alias struct{ from, to string }

// repo is a repository's name at the endpoint.
func (a *alias) repo(name string) string {
	if a == nil || name == "" {
		return name
	}
	rest := name
	if a.from != "" {
		if name != a.from && !strings.HasPrefix(name, a.from+"/") {
			return name
		}
		rest = strings.TrimPrefix(name[len(a.from):], "/")
	}
	return strings.Trim(a.to+"/"+rest, "/")
}

// scopes are those of a token for the repository at the endpoint.
func (a *alias) scopes(all []string) []string {
	if a == nil {
		return all
	}
	mapped := make([]string, len(all))
	for i, s := range all {
		kind, rest, ok := strings.Cut(s, ":")
		at := strings.LastIndexByte(rest, ':')
		if mapped[i] = s; ok && kind == "repository" && at > 0 {
			mapped[i] = kind + ":" + a.repo(rest[:at]) + rest[at:]
		}
	}
	return mapped
}

// site makes the endpoints that an entry gives for a registry.
func (e confEntry) site(c *Client, registry string) (*site, error) {
	s := &site{}
	for _, m := range e.mirrors {
		at, err := e.endpoint(c, registry, m.location, m.insecure, m.can)
		if err != nil {
			return nil, err
		}
		at.mirror = true
		s.mirrors = append(s.mirrors, at)
	}
	location := e.location
	if location == "" {
		location = e.prefix
	}
	var err error
	s.server, err = e.endpoint(c, registry, location, e.insecure, canAll)
	return s, err
}

func (e confEntry) endpoint(c *Client, registry, location string, insecure bool, can capability) (*endpoint, error) {
	_, from, _ := strings.Cut(e.prefix, "/")
	host, to, _ := strings.Cut(location, "/")
	if strings.HasPrefix(host, "*.") {
		host = registry
	}
	entry := hostEntry{at: usual(host), can: can, skipVerify: insecure}
	if insecure {
		entry.at.scheme = "" // whichever it speaks
	}
	made, err := c.newEndpoint(registry, entry)
	if err != nil {
		return nil, err
	}
	made.alias = &alias{from: from, to: to}
	made.keeper = host
	return made, nil
}

// settings are what the files say, for people.
func (c *registriesConf) settings() []Setting {
	var all []Setting
	for _, e := range c.entries {
		s := Setting{Registry: e.prefix, File: e.file, Blocked: e.blocked}
		if e.location != "" && e.location != e.prefix {
			s.Server = e.location
		}
		if e.insecure {
			s.Insecure = append(s.Insecure, e.prefix)
		}
		for _, m := range e.mirrors {
			s.Mirrors = append(s.Mirrors, m.location)
			if m.insecure {
				s.Insecure = append(s.Insecure, m.location)
			}
		}
		all = append(all, s)
	}
	if c.search != "" {
		all = append(all, Setting{File: c.search})
	}
	return all
}
