package cli

import (
	"context"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"strata/internal/cli/render"
	"strata/internal/doctor"
	ociruntime "strata/internal/runtime"
)

// Version of the program.
const Version = "0.1.0-dev"

// dockerAPI is the version of docker's interface whose commands and flags are the ones here: 28's. Scripts ask for it to learn
// what they may type.
const dockerAPI = "1.48"

// version opens no store and starts no program, unless a format asks for the runtime's version.
func (a *app) version() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "version [OPTIONS]",
		Short: "Show the version",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := newVersion()
			if format == "" {
				return render.VersionText(a.out, v)
			}
			if strings.Contains(format, "Components") || strings.Contains(format, "json") {
				v.Server.Components = append(v.Server.Components, a.runtimeComponent(cmd.Context())...)
			}
			return render.Document(a.out, format, v)
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "print with a template, or json")
	return cmd
}

func newVersion() render.Version {
	c := render.ClientVersion{
		Platform: render.Platform{Name: "Strata"}, Version: Version, APIVersion: dockerAPI, DefaultAPIVersion: dockerAPI, Context: contextName,
		GitCommit: buildSetting("vcs.revision"), BuildTime: buildSetting("vcs.time"), GoVersion: runtime.Version(), Os: runtime.GOOS, Arch: runtime.GOARCH,
	}
	c.GitCommit = c.GitCommit[:min(7, len(c.GitCommit))]
	s := render.ServerVersion{
		Platform: render.Platform{Name: "Strata (no daemon: the same program)"},
		Version:  c.Version, APIVersion: dockerAPI, MinAPIVersion: dockerAPI, BuildTime: c.BuildTime, GitCommit: c.GitCommit, GoVersion: c.GoVersion, Os: c.Os, Arch: c.Arch, KernelVersion: kernelVersion(),
	}
	details := map[string]string{"Os": s.Os, "Arch": s.Arch, "GoVersion": s.GoVersion, "KernelVersion": s.KernelVersion}
	if s.GitCommit != "" {
		details["GitCommit"] = s.GitCommit
	}
	s.Components = []render.Component{{Name: "Engine", Version: s.Version, Details: details}}
	return render.Version{Client: c, Server: s}
}

// buildSetting is what the build recorded of the commit that the program was built from, "" where it did not.
func buildSetting(key string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

func kernelVersion() string {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return ""
	}
	return unix.ByteSliceToString(uts.Release[:])
}

// runtimeComponent asks the OCI runtime for its version; none where there is no runtime.
func (a *app) runtimeComponent(ctx context.Context) []render.Component {
	r, err := ociruntime.Find(a.opts.Runtime)
	if err != nil {
		return nil
	}
	version, err := doctor.RuntimeVersion(ctx, r.Path)
	if err != nil {
		return nil
	}
	name, number, ok := strings.Cut(version, " version ")
	if !ok {
		name, number = r.Name(), version
	}
	return []render.Component{{Name: name, Version: number, Details: map[string]string{"Path": r.Path}}}
}
