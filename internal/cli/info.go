package cli

import (
	"fmt"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"strata/internal/cli/render"
	"strata/internal/engine"
	"strata/internal/network"
)

func (a *app) info() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "info [OPTIONS]",
		Short: "Show what is in the store, what the machine is, and how both are set up",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				info, err := e.Info(cmd.Context())
				if err != nil {
					return err
				}
				for i, s := range info.Settings {
					if flag := cmd.Flag(s.Name); flag != nil && flag.Changed {
						info.Settings[i].Origin = "--" + s.Name
					}
				}
				doc := infoDocument(info)
				if format == "" {
					return render.InfoText(a.out, a.err, doc)
				}
				return render.Document(a.out, format, doc)
			})
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "print with a template, or json")
	return cmd
}

func infoDocument(i engine.Info) render.Info {
	m := i.Machine
	doc := render.Info{
		Containers: i.Running + i.Paused + i.Stopped, ContainersRunning: i.Running, ContainersPaused: i.Paused, ContainersStopped: i.Stopped,
		Images: i.Images, ServerVersion: Version, Driver: "overlay",
		DriverStatus:  [][2]string{{"Backing Filesystem", m.Filesystem}, {"userxattr", fmt.Sprint(i.Userxattr)}},
		LoggingDriver: "json-file", CgroupDriver: "cgroupfs", CgroupVersion: fmt.Sprint(m.Cgroups),
		Plugins:       render.InfoPlugins{Volume: []string{"local"}, Network: []string{network.DriverBridge, network.DriverHost, network.DriverNull}, Log: []string{"json-file", "local", "none"}},
		KernelVersion: m.Kernel, OperatingSystem: m.System, OSType: runtime.GOOS, Architecture: m.Architecture, NCPU: m.CPUs, MemTotal: m.Memory, Name: m.Name,
		Labels: []string{}, Runtimes: map[string]render.InfoRuntime{}, Swarm: render.InfoSwarm{LocalNodeState: "inactive"},
		LiveRestoreEnabled: true, // no container depends on a process that could be restarted
		InitBinary:         "strata-init", SecurityOptions: []string{}, Warnings: i.Warnings,
		ClientInfo: render.InfoClient{Version: Version, GoVersion: runtime.Version(), Os: runtime.GOOS, Arch: runtime.GOARCH},
	}
	limits := m.Cgroups != 0 && !i.Rootless
	doc.MemoryLimit, doc.SwapLimit, doc.PidsLimit = limits, limits, limits
	doc.CPUCfsPeriod, doc.CPUCfsQuota, doc.CPUShares, doc.CPUSet = limits, limits, limits, limits
	doc.IPv4Forwarding, doc.SystemTime = m.Forwarding, render.Time(time.Now())
	doc.IndexServerAddress = "https://index.docker.io/v1/"
	doc.RegistryConfig = render.InfoRegistries{
		InsecureRegistryCIDRs: []string{"::1/128", "127.0.0.0/8"}, Mirrors: []string{},
		IndexConfigs: map[string]render.InfoIndex{"docker.io": {Name: "docker.io", Mirrors: []string{}, Secure: true, Official: true}},
	}
	if m.Cgroups == 0 || i.Rootless { // a plain user's containers are in no control group of their own
		doc.CgroupDriver = "none"
	}
	if m.Cgroups == 0 {
		doc.CgroupVersion = ""
	}
	for n, r := range i.Runtimes {
		if n == 0 {
			doc.DefaultRuntime = r.Name()
		}
		doc.Runtimes[r.Name()] = render.InfoRuntime{Path: r.Path}
	}
	if m.Seccomp {
		doc.SecurityOptions = append(doc.SecurityOptions, "name=seccomp,profile=builtin")
	}
	if i.Rootless {
		doc.SecurityOptions = append(doc.SecurityOptions, "name=rootless")
	}
	if m.Cgroups == 2 {
		doc.SecurityOptions = append(doc.SecurityOptions, "name=cgroupns")
	}
	for _, s := range i.Settings {
		doc.Settings = append(doc.Settings, render.InfoSetting(s))
		switch s.Name {
		case "root":
			doc.DockerRootDir = s.Value
		case "http-proxy":
			doc.HTTPProxy = s.Value
		case "https-proxy":
			doc.HTTPSProxy = s.Value
		case "no-proxy":
			doc.NoProxy = s.Value
		}
	}
	return doc
}
