package cli

import (
	"cmp"
	"strings"

	"strata/internal/config"
	"strata/internal/container"
)

// dockerConfig is docker's config.json, read at the first call.
func (a *app) dockerConfig() (config.Docker, error) {
	if a.docker == nil {
		d, err := config.LoadDocker()
		if err != nil {
			return d, err
		}
		a.docker = &d
	}
	return *a.docker, nil
}

// format is what a listing is printed with: what the flag says, else what docker's config.json does, unless only keys are
// wanted.
func (a *app) format(flag string, quiet bool, pick func(config.Docker) string) (string, error) {
	if flag != "" || quiet {
		return flag, nil
	}
	d, err := a.dockerConfig()
	return pick(d), err
}

// detachKeys are the keys that leave an attachment: the flag's, else strata.toml's, else those of docker's config.json.
func (a *app) detachKeys(flag string) (string, error) {
	if flag != "" {
		_, err := container.ParseDetachKeys(flag)
		if err != nil {
			err = usageError{err}
		}
		return flag, err
	}
	c, err := config.Load()
	if err != nil {
		return "", err
	}
	d, err := a.dockerConfig()
	if err != nil {
		return "", err
	}
	keys := cmp.Or(c.DetachKeys, d.DetachKeys)
	_, err = container.ParseDetachKeys(keys)
	if c.DetachKeys != "" {
		err = c.Fault("detach-keys", err)
	}
	return keys, err
}

// withProxies adds the proxies of docker's config.json to an environment, where it does not set them.
func (a *app) withProxies(env []string) ([]string, error) {
	d, err := a.dockerConfig()
	if err != nil {
		return nil, err
	}
	set := map[string]bool{}
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		set[name] = true
	}
	for _, e := range d.Environment() {
		if name, _, _ := strings.Cut(e, "="); !set[name] {
			env = append(env, e)
		}
	}
	return env, nil
}
