package engine

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"strata/internal/config"
	"strata/internal/container"
	"strata/internal/errdef"
	"strata/internal/runtime"
	"strata/internal/userns"
)

// complete fills in what the flags leave open with what strata.toml says of new containers.
func (e *Engine) complete(o *CreateOptions) error {
	c, err := e.Config()
	if err != nil {
		return err
	}
	if o.Host.Log, err = chosenLog(c, o); err != nil {
		return err
	}
	if o.Host.Runtime, err = chosenRuntime(c, o.Runtime); err != nil {
		return err
	}
	if err := addDNS(c, &o.Host); err != nil {
		return err
	}
	if err := addUlimits(c, &o.Host.Access); err != nil {
		return err
	}
	if o.Host.Access.Userns == "" && c.Security.Userns != "host" && !userns.Active() && !userns.MustEnter() {
		o.Host.Access.Userns = c.Security.Userns
	}
	return secure(c, &o.Host.Access)
}

// userIDs are this machine's ids for containers in user namespaces: what is granted to strata, to containers or to root,
// else strata.toml's range.
func (e *Engine) userIDs() (container.IDs, error) {
	for _, name := range []string{"strata", "containers", "root"} {
		uids, gids := userns.GrantedTo(name, "/etc/subuid", "/etc/subgid")
		if len(uids) > 0 && len(gids) > 0 {
			return container.IDs{UID: uids[0].Outside, GID: gids[0].Outside, Count: min(uids[0].Count, gids[0].Count)}, nil
		}
	}
	c, err := e.Config()
	if err != nil {
		return container.IDs{}, err
	}
	ids, err := parseRange(c.Security.UsernsRange)
	if err != nil {
		return ids, c.Fault("security.userns-range", err)
	}
	return ids, nil
}

// parseRange reads "FIRST:COUNT".
func parseRange(text string) (container.IDs, error) {
	first, count, _ := strings.Cut(text, ":")
	from, err := strconv.ParseUint(first, 10, 32)
	n, nerr := strconv.ParseUint(count, 10, 32)
	if err != nil || nerr != nil || from == 0 || n == 0 || from+n > math.MaxUint32 {
		return container.IDs{}, fmt.Errorf("%q: want FIRST:COUNT of ids that are not root's: %w", text, errdef.ErrInvalid)
	}
	return container.IDs{UID: uint32(from), GID: uint32(from), Count: uint32(n)}, nil
}

// chosenLog is the log of a new container. Bounds in strata.toml are json-file's.
func chosenLog(c *config.Config, o *CreateOptions) (container.LogConfig, error) {
	driver, given := o.LogDriver, o.LogDriver != ""
	if !given {
		driver = c.Log.Driver
	}
	opts := map[string]string{}
	if driver == "json-file" {
		opts["max-size"], opts["max-file"] = c.Log.MaxSize, strconv.Itoa(c.Log.MaxFile)
	}
	if _, err := container.ParseLog(driver, opts); err != nil && !given {
		return container.LogConfig{}, c.Fault("log", err)
	}
	maps.Copy(opts, o.LogOpts)
	log, err := container.ParseLog(driver, opts)
	log.Options = o.LogOpts
	return log, err
}

// chosenRuntime is the OCI runtime of a new container, the zero Runtime for the store's own.
func chosenRuntime(c *config.Config, name string) (container.Runtime, error) {
	origin := ""
	if name == "" {
		name, origin = c.Runtime, "runtime"
	}
	if name == "" {
		return container.Runtime{}, nil
	}
	program := name
	if path := c.Runtimes[name]; path != "" {
		program, origin = path, "runtimes."+name
	}
	r, err := runtime.Find(program)
	if err != nil {
		names := slices.Sorted(maps.Keys(c.Runtimes))
		for _, r := range runtime.Installed() {
			names = append(names, r.Name())
		}
		err = errdef.WithHint(fmt.Errorf("unknown or invalid runtime name: %s: %w", name, err), fmt.Sprintf("the runtimes that there are: %v", names))
		if origin != "" {
			err = c.Fault(origin, err)
		}
		return container.Runtime{}, err
	}
	return container.Runtime{Name: name, Path: r.Path}, nil
}

// addDNS says whom a container asks for names, where no flag does. One that shares another's network asks whom that one does.
func addDNS(c *config.Config, h *container.HostConfig) error {
	for _, server := range c.DNS.Servers {
		if _, err := netip.ParseAddr(server); err != nil {
			return c.Fault("dns.servers", fmt.Errorf("%s is not an ip address: %w", server, errdef.ErrInvalid))
		}
	}
	if strings.HasPrefix(h.Network, "container:") {
		return nil
	}
	for _, d := range []struct {
		own  *[]string
		file []string
	}{{&h.DNS, c.DNS.Servers}, {&h.DNSSearch, c.DNS.Search}, {&h.DNSOptions, c.DNS.Options}} {
		if len(*d.own) == 0 {
			*d.own = d.file
		}
	}
	return nil
}

// addUlimits adds the limits that no flag names.
func addUlimits(c *config.Config, a *container.Access) error {
	for _, name := range slices.Sorted(maps.Keys(c.Ulimits)) {
		u, err := container.ParseUlimit(name + "=" + c.Ulimits[name])
		if err != nil {
			return c.Fault("ulimits."+name, err)
		}
		if !slices.ContainsFunc(a.Ulimits, func(o container.Ulimit) bool { return o.Name == name }) {
			a.Ulimits = append(a.Ulimits, u)
		}
	}
	return nil
}

// secure applies the machine's rules where --security-opt says nothing of them.
func secure(c *config.Config, a *container.Access) error {
	var opts []string
	if c.Security.NoNewPrivileges && !mentions(a.SecurityOpt, "no-new-privileges") {
		opts = append(opts, "no-new-privileges")
	}
	if c.Security.Seccomp != "builtin" && !mentions(a.SecurityOpt, "seccomp") {
		opts = append(opts, "seccomp="+c.Security.Seccomp)
	}
	if len(opts) == 0 {
		return nil
	}
	s, err := container.ParseSecurity(slices.Concat(opts, a.SecurityOpt), os.ReadFile)
	if err != nil {
		return c.Fault("security", errors.Unwrap(err))
	}
	a.Security, a.SecurityOpt = s, slices.Concat(opts, a.SecurityOpt)
	return nil
}

// mentions reports whether one of the options is of that kind.
func mentions(opts []string, kind string) bool {
	return slices.ContainsFunc(opts, func(o string) bool {
		return o == kind || len(o) > len(kind) && o[:len(kind)] == kind && (o[len(kind)] == '=' || o[len(kind)] == ':')
	})
}
