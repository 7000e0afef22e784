package build

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/opencontainers/runtime-spec/specs-go"

	"strata/internal/errdef"
	"strata/internal/graph"
)

// StepOptions are what RUN steps get beside what the Dockerfile says, and what they may ask for.
type StepOptions struct {
	// Hosts are further lines of /etc/hosts.
	Hosts []Host
	// ShmSize is the size of /dev/shm in bytes; 0 is docker's 64 MiB.
	ShmSize int64
	// Ulimits of the processes.
	Ulimits []specs.POSIXRlimit
	// CgroupParent is the control group under which each step's is made; "" leaves that to the runtime.
	CgroupParent string
	// Resources are limits of each step; nil sets none.
	Resources *specs.LinuxResources
	// AllowInsecure and AllowHost let steps ask for --security=insecure and, in a build whose own network is another one, for
	// --network=host.
	AllowInsecure, AllowHost bool
	// AllowDevices are the devices that steps may ask for, each by its name or by its class; "*" is every one.
	AllowDevices []string
}

// Host is a name in /etc/hosts.
type Host struct{ Name, IP string }

// lines are what of the options counts for a step's key, as with BuildKit: what a process can see, not how much it gets.
func (o *StepOptions) lines() []graph.Line {
	var lines []graph.Line
	for _, h := range o.Hosts {
		lines = append(lines, graph.Line{Name: "host " + h.Name, Value: h.IP})
	}
	for _, l := range o.Ulimits {
		lines = append(lines, graph.Line{Name: "limit " + l.Type, Value: fmt.Sprintf("%d:%d", l.Soft, l.Hard)})
	}
	if o.ShmSize != 0 {
		lines = append(lines, graph.Line{Name: "the size of /dev/shm", Value: fmt.Sprint(o.ShmSize)})
	}
	return lines
}

func (o *StepOptions) hosts() string {
	var b strings.Builder
	for _, h := range o.Hosts {
		b.WriteString(h.IP + "\t" + h.Name + "\n")
	}
	return b.String()
}

// cgroup is the control group of the container id.
func (o *StepOptions) cgroup(id string) string {
	if o.CgroupParent == "" {
		return ""
	}
	return path.Join("/", o.CgroupParent, id)
}

// checkRunFlags refuses what the build does not allow, with BuildKit's words.
func (p *planner) checkRunFlags(c *instructions.RunCommand) error {
	if instructions.GetSecurity(c) == instructions.SecurityInsecure && !p.opts.Steps.AllowInsecure {
		return notAllowed("security.insecure")
	}
	if instructions.GetNetwork(c) == instructions.NetworkHost && p.opts.Network != instructions.NetworkHost && !p.opts.Steps.AllowHost {
		return notAllowed("network.host")
	}
	for _, d := range instructions.GetDevices(c) {
		if d.Name == "" {
			return fmt.Errorf("RUN --device: no device is named: %w", errdef.ErrInvalid)
		}
		if !p.opts.Steps.allowsDevice(d.Name) {
			return notAllowed("device=" + d.Name)
		}
	}
	return nil
}

func (o *StepOptions) allowsDevice(name string) bool {
	class, _, _ := strings.Cut(name, "=")
	return slices.ContainsFunc(o.AllowDevices, func(a string) bool { return a == "*" || a == name || a == class })
}

func notAllowed(what string) error {
	return errdef.WithHint(fmt.Errorf("%s is not allowed", what), "strata build --allow "+what)
}
