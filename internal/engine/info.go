package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"strata/internal/config"
	"strata/internal/container"
	"strata/internal/doctor"
	"strata/internal/errdef"
	"strata/internal/runtime"
	"strata/internal/userns"
)

// Info is what `info` tells: of the store, of the machine, of how both are set up.
type Info struct {
	// Running, Paused and Stopped count containers.
	Running, Paused, Stopped int
	Images                   int
	Machine                  doctor.Facts
	// Runtimes of this machine; the one that is taken stands first.
	Runtimes []runtime.Runtime
	// Rootless says that a user's own store is looked at, in a user namespace; Userxattr how overlays are mounted there.
	Rootless, Userxattr bool
	Settings            []config.Setting
	// Warnings are what will not work here.
	Warnings []string
}

// Info looks at the store and the machine.
func (e *Engine) Info(ctx context.Context) (Info, error) {
	look := doctor.Options{Root: e.opts.Root, Run: e.opts.Run, Runtime: e.opts.Runtime}
	info := Info{Machine: doctor.Look(look), Rootless: userns.Active(), Userxattr: userns.Userxattr(), Settings: e.settings(ctx)}
	for _, check := range doctor.Quick(ctx, look) {
		if check.Status != doctor.OK {
			info.Warnings = append(info.Warnings, check.Name+": "+check.Detail)
		}
	}
	if err := e.infoRuntimes(&info); err != nil {
		return info, err
	}
	images, err := e.images.List(ctx)
	if err != nil {
		info.Warnings = append(info.Warnings, err.Error()) // the images that can be read are counted
	}
	info.Images = len(images)
	s, err := e.Containers()
	if err != nil {
		return info, err
	}
	all, err := s.List(ctx)
	for _, rec := range all {
		switch rec.State.Status {
		case container.Running:
			info.Running++
		case container.Paused:
			info.Paused++
		default:
			info.Stopped++
		}
	}
	return info, err
}

func (e *Engine) infoRuntimes(info *Info) error {
	taken, err := e.findRuntime()
	if errors.Is(err, errdef.ErrUnavailable) {
		info.Warnings = append(info.Warnings, err.Error())
		return nil
	}
	if err != nil {
		return err
	}
	info.Runtimes = []runtime.Runtime{*taken}
	for _, r := range runtime.Installed() {
		if r.Path != taken.Path && r.Name() != taken.Name() {
			info.Runtimes = append(info.Runtimes, r)
		}
	}
	return nil
}

// settings tells what was set, and where.
func (e *Engine) settings(ctx context.Context) []config.Setting {
	owner := os.Geteuid()
	if userns.Active() {
		owner = int(userns.Idmap().UIDs[0].Outside)
	}
	all := []config.Setting{
		{Name: "root", Value: e.opts.Root, Origin: origin(e.opts.Root, "STRATA_ROOT", ownRoot())},
		{Name: "run-dir", Value: e.opts.Run, Origin: origin(e.opts.Run, "STRATA_RUN", "/run/strata", filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "strata"),
			filepath.Join("/tmp", "strata-"+strconv.Itoa(owner)))},
	}
	for _, name := range []string{"http-proxy", "https-proxy", "no-proxy"} {
		variable := strings.ReplaceAll(name, "-", "_")
		for _, variable := range []string{strings.ToUpper(variable), variable} {
			if value := os.Getenv(variable); value != "" {
				all = append(all, config.Setting{Name: name, Value: withoutPassword(value), Origin: variable})
				break
			}
		}
	}
	return slices.Concat(all, e.fileSettings(), e.registrySettings(ctx))
}

// fromEnvironment gives settings the values that the environment sets instead.
func fromEnvironment(all []config.Setting) []config.Setting {
	variables := map[string]string{"store.durable": durableVariable, "store.build-cache-max": "STRATA_BUILD_CACHE_MAX", "store.blob-cache-max": blobCapVariable}
	for i, s := range all {
		if value := os.Getenv(variables[s.Name]); value != "" {
			all[i].Value, all[i].Origin = value, variables[s.Name]
		}
	}
	return all
}

// fileSettings tells what strata.toml and docker's config.json set. A file that cannot be read is told of too.
func (e *Engine) fileSettings() []config.Setting {
	var all []config.Setting
	c, err := e.Config()
	if err == nil {
		all = fromEnvironment(c.Settings())
	} else {
		all = []config.Setting{{Name: "configuration", Value: "cannot be read: " + err.Error(), Origin: "strata.toml"}}
	}
	d, err := config.LoadDocker()
	if err != nil {
		return append(all, config.Setting{Name: "docker's configuration", Value: "cannot be read: " + err.Error(), Origin: config.DockerFile()})
	}
	for _, s := range d.Settings() {
		all = append(all, config.Setting{Name: s.Name, Value: withoutPassword(s.Value), Origin: s.Origin})
	}
	return all
}

// registrySettings tells which file sets mirrors and the like for a registry. A file that cannot be read is told of too.
func (e *Engine) registrySettings(ctx context.Context) []config.Setting {
	var all []config.Setting
	set, err := e.registries().Config(ctx)
	for _, s := range set {
		var says []string
		if s.Registry == "" {
			all = append(all, config.Setting{Name: "unqualified-search-registries", Value: "not used: a name without a registry is one of docker.io", Origin: s.File})
			continue
		}
		if s.Blocked {
			says = append(says, "blocked")
		}
		if len(s.Mirrors) > 0 {
			says = append(says, "mirrors "+strings.Join(s.Mirrors, " "))
		}
		if s.Server != "" {
			says = append(says, "server "+s.Server)
		}
		if len(s.Insecure) > 0 {
			says = append(says, "insecure "+strings.Join(s.Insecure, " "))
		}
		all = append(all, config.Setting{Name: "registry " + s.Registry, Value: strings.Join(says, ", "), Origin: s.File})
	}
	if err != nil {
		all = append(all, config.Setting{Name: "registries", Value: "not all can be read: " + err.Error(), Origin: "hosts.toml"})
	}
	return append(all, e.accountSettings()...)
}

// accountSettings tells where credentials are kept, and nothing of them.
func (e *Engine) accountSettings() []config.Setting {
	var all []config.Setting
	accounts, err := e.registries().Accounts()
	for _, a := range accounts {
		name := a.Registry
		if name == "" {
			name = "of other registries"
		}
		all = append(all, config.Setting{Name: "credentials " + name, Value: a.How, Origin: a.File})
	}
	if err != nil {
		all = append(all, config.Setting{Name: "credentials", Value: "not all can be read: " + err.Error(), Origin: "config.json"})
	}
	return all
}

// origin is where a directory was set. In the user's namespace the variables are always there, so they prove nothing.
func origin(value, variable string, defaults ...string) string {
	for _, d := range defaults {
		if value == d {
			return "default"
		}
	}
	if abs, err := filepath.Abs(os.Getenv(variable)); err == nil && abs == value {
		return variable
	}
	return "default"
}

// withoutPassword hides the user and the password that a proxy's address may have.
func withoutPassword(address string) string {
	scheme, rest, found := strings.Cut(address, "://")
	if !found {
		scheme, rest = "", address
	} else {
		scheme += "://"
	}
	at := strings.LastIndexByte(rest, '@')
	if at < 0 {
		return address
	}
	return scheme + "xxxxx:xxxxx" + rest[at:]
}
