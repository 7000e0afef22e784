package render

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Info is docker's info document: its keys, those that are true of strata.
type Info struct {
	ID                string // "": no daemon keeps one
	Containers        int
	ContainersRunning int
	ContainersPaused  int
	ContainersStopped int
	Images            int
	Driver            string
	DriverStatus      [][2]string
	Plugins           InfoPlugins
	LoggingDriver     string
	CgroupDriver      string
	CgroupVersion     string `json:",omitempty"`
	KernelVersion     string
	OperatingSystem   string
	OSType            string
	Architecture      string
	NCPU              int
	MemTotal          int64
	DockerRootDir     string
	HTTPProxy         string `json:"HttpProxy"`
	HTTPSProxy        string `json:"HttpsProxy"`
	NoProxy           string
	Name              string
	Labels            []string
	ExperimentalBuild bool
	ServerVersion     string
	Runtimes          map[string]InfoRuntime
	DefaultRuntime    string
	// Swarm is inactive, which scripts ask for.
	Swarm              InfoSwarm
	LiveRestoreEnabled bool
	InitBinary         string
	SecurityOptions    []string
	Warnings           []string

	MemoryLimit        bool
	SwapLimit          bool
	CPUCfsPeriod       bool `json:"CpuCfsPeriod"`
	CPUCfsQuota        bool `json:"CpuCfsQuota"`
	CPUShares          bool
	CPUSet             bool
	PidsLimit          bool
	IPv4Forwarding     bool
	Debug              bool
	SystemTime         string
	OSVersion          string
	Isolation          string // Windows'
	IndexServerAddress string
	RegistryConfig     InfoRegistries

	// Settings are strata's own: what was set, and where.
	Settings   []InfoSetting
	ClientInfo InfoClient

	ServerErrors []string // docker's, of a daemon that it cannot reach
}

// InfoPlugins are the drivers there are.
type InfoPlugins struct{ Volume, Network, Log []string }

// InfoRegistries are docker's settings of registries. Strata's are in files of their own, which Settings name.
type InfoRegistries struct {
	IndexConfigs          map[string]InfoIndex
	InsecureRegistryCIDRs []string
	Mirrors               []string
}

// InfoIndex is how one registry is used.
type InfoIndex struct {
	Name             string
	Mirrors          []string
	Secure, Official bool
}

// InfoRuntime is an OCI runtime.
type InfoRuntime struct {
	Path string `json:"path"`
}

// InfoSwarm says that there is none.
type InfoSwarm struct{ LocalNodeState string }

// InfoSetting is one setting with where it was made.
type InfoSetting struct{ Name, Value, Origin string }

// InfoClient is the command line's part.
type InfoClient struct{ Version, GoVersion, Os, Arch string }

// InfoText prints the document in docker's layout, its warnings to warnings.
func InfoText(w, warnings io.Writer, i Info) error {
	var b bytes.Buffer
	line := func(indent int, name string, value any) {
		fmt.Fprintf(&b, "%s%s: %s\n", strings.Repeat(" ", indent), name, cleanCell(fmt.Sprint(value)))
	}
	list := func(indent int, name string, values []string) { line(indent, name, strings.Join(values, " ")) }
	b.WriteString("Client:\n")
	line(1, "Version", "   "+i.ClientInfo.Version)
	b.WriteString("\nServer:\n")
	line(1, "Containers", i.Containers)
	line(2, "Running", i.ContainersRunning)
	line(2, "Paused", i.ContainersPaused)
	line(2, "Stopped", i.ContainersStopped)
	line(1, "Images", i.Images)
	line(1, "Server Version", i.ServerVersion)
	line(1, "Storage Driver", i.Driver)
	for _, pair := range i.DriverStatus {
		line(2, pair[0], pair[1])
	}
	line(1, "Logging Driver", i.LoggingDriver)
	line(1, "Cgroup Driver", i.CgroupDriver)
	if i.CgroupVersion != "" {
		line(1, "Cgroup Version", i.CgroupVersion)
	}
	b.WriteString(" Plugins:\n")
	list(2, "Volume", i.Plugins.Volume)
	list(2, "Network", i.Plugins.Network)
	list(2, "Log", i.Plugins.Log)
	line(1, "Swarm", i.Swarm.LocalNodeState)
	if len(i.Runtimes) > 0 {
		list(1, "Runtimes", slices.Sorted(maps.Keys(i.Runtimes)))
		line(1, "Default Runtime", i.DefaultRuntime)
	}
	line(1, "Init Binary", i.InitBinary)
	b.WriteString(" Security Options:\n" + securityText(i.SecurityOptions))
	line(1, "Kernel Version", i.KernelVersion)
	line(1, "Operating System", i.OperatingSystem)
	line(1, "OSType", i.OSType)
	line(1, "Architecture", i.Architecture)
	line(1, "CPUs", i.NCPU)
	line(1, "Total Memory", BinarySize(i.MemTotal))
	line(1, "Name", i.Name)
	line(1, "Docker Root Dir", i.DockerRootDir)
	for _, proxy := range [][2]string{{"HTTP Proxy", i.HTTPProxy}, {"HTTPS Proxy", i.HTTPSProxy}, {"No Proxy", i.NoProxy}} {
		if proxy[1] != "" {
			line(1, proxy[0], proxy[1])
		}
	}
	line(1, "Experimental", i.ExperimentalBuild)
	line(1, "Live Restore Enabled", i.LiveRestoreEnabled)
	b.WriteString(" Settings:\n")
	for _, s := range i.Settings {
		line(2, s.Name, fmt.Sprintf("%s (%s)", s.Value, s.Origin))
	}
	b.WriteByte('\n')
	if err := write(w, &b); err != nil {
		return err
	}
	for _, warning := range i.Warnings {
		fmt.Fprintln(warnings, "WARNING:", cleanCell(warning))
	}
	return nil
}

// securityText writes "name=seccomp,profile=builtin" as docker does: the name, below it the profile.
func securityText(options []string) string {
	var b strings.Builder
	for _, option := range options {
		for part := range strings.SplitSeq(option, ",") {
			switch key, value, _ := strings.Cut(part, "="); key {
			case "name":
				fmt.Fprintf(&b, "  %s\n", value)
			case "profile":
				fmt.Fprintf(&b, "   Profile: %s\n", value)
			}
		}
	}
	return b.String()
}
