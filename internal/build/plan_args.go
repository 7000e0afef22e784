package build

import (
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"strata/internal/dockerfile"
	"strata/internal/oci"
)

// defaultPath is what PATH is in an image that does not set it.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// platformArgs are the arguments that every Dockerfile may use in FROM, and elsewhere after it has declared them.
// See the Dockerfile reference, "Automatic platform ARGs in the global scope".
func platformArgs(build, target oci.Platform, stage string) [][2]string {
	if stage == "" {
		stage = "default"
	}
	return [][2]string{
		{"BUILDPLATFORM", platforms.Format(build)},
		{"BUILDOS", build.OS},
		{"BUILDOSVERSION", build.OSVersion},
		{"BUILDARCH", build.Architecture},
		{"BUILDVARIANT", build.Variant},
		{"TARGETPLATFORM", platforms.FormatAll(target)},
		{"TARGETOS", target.OS},
		{"TARGETOSVERSION", target.OSVersion},
		{"TARGETARCH", target.Architecture},
		{"TARGETVARIANT", target.Variant},
		{"TARGETSTAGE", stage},
	}
}

// setGlobal works out the global scope: platform arguments, then the ARGs before the first FROM.
func (p *planner) setGlobal(args []instructions.ArgCommand, lastStage string) error {
	name := p.opts.Target
	if name == "" {
		name = lastStage
	}
	p.global = dockerfile.NewEnv(nil)
	for _, kv := range platformArgs(platforms.Normalize(oci.Host()), p.target, name) {
		v := kv[1]
		if given, ok := p.args[kv[0]]; ok {
			v = given
		}
		p.global.Set(kv[0], v)
	}
	defaults := p.global.Clone()
	for _, a := range args {
		for _, kv := range a.Args {
			p.declared[kv.Key] = true
			v := kv.Value
			if given, ok := p.args[kv.Key]; ok {
				v = &given
			} else if v != nil {
				x, err := p.file.Expand(dockerfile.Word, *v, p.global)
				if err != nil {
					first, last := dockerfile.Span(a.Location())
					return p.file.At(first, last, err)
				}
				v = &x.Text
			}
			if v != nil {
				p.global.Set(kv.Key, *v)
			}
			p.setDefault(defaults, kv)
		}
	}
	p.defaults = defaults
	return nil
}

// setDefault keeps the scope as it would be without build arguments: for the warning about a FROM that needs one.
func (p *planner) setDefault(defaults *dockerfile.Env, kv instructions.KeyValuePairOptional) {
	if kv.Value == nil {
		return
	}
	if x, err := p.file.Expand(dockerfile.Word, *kv.Value, defaults); err == nil {
		defaults.Set(kv.Key, x.Text)
	}
}

// proxyNames are the arguments that reach RUN without being declared, in any case.
func proxyNames() []string {
	return []string{"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"}
}

// proxyEnv gives each proxy argument in both cases, because programs differ in which they read.
func proxyEnv(args map[string]string) []string {
	var env []string
	for _, name := range proxyNames() {
		lower := strings.ToLower(name)
		for _, spelling := range []string{name, lower} {
			if v := args[spelling]; v != "" {
				env = append(env, name+"="+v, lower+"="+v)
				break
			}
		}
	}
	return env
}

// predefinedArg tells the arguments that have a meaning without being declared.
func predefinedArg(name string) bool {
	if strings.HasPrefix(name, "BUILDKIT_") || name == "SOURCE_DATE_EPOCH" {
		return true
	}
	if slices.Contains(proxyNames(), strings.ToUpper(name)) {
		return true
	}
	for _, kv := range platformArgs(oci.Platform{}, oci.Platform{}, "") {
		if kv[0] == name {
			return true
		}
	}
	return false
}
