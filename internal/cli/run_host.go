package cli

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"strata/internal/container"
	"strata/internal/engine"
	"strata/internal/errdef"
	"strata/internal/runtime"
)

// hostFlags are those flags of run and create that say what of the machine a container reaches.
type hostFlags struct {
	groups, devices, deviceRules, capAdd, capDrop, security, ulimits, sysctls, annotations, secrets []string
	labelFiles, logOpts, addHosts                                                                   []string
	ipc, pid, uts, cgroupns, userns, cgroupParent, logDriver, runtime, stopSignal                   string
	shm                                                                                             sizeFlag
	oomScore, stopTimeout                                                                           int
	privileged                                                                                      bool
}

func (f *hostFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringArrayVar(&f.groups, "group-add", nil, "add the user to another group")
	fl.StringArrayVar(&f.devices, "device", nil, "give a device of the host: HOST[:CONTAINER][:PERMISSIONS], or a name of CDI: VENDOR/CLASS=NAME")
	fl.StringArrayVar(&f.deviceRules, "device-cgroup-rule", nil, "allow the use of devices: 'c 13:* rwm'")
	fl.StringArrayVar(&f.capAdd, "cap-add", nil, "add a capability, or ALL")
	fl.StringArrayVar(&f.capDrop, "cap-drop", nil, "drop a capability, or ALL")
	fl.BoolVar(&f.privileged, "privileged", false, "give all capabilities and devices, and take all confinement away")
	fl.StringArrayVar(&f.security, "security-opt", nil, "seccomp=FILE|unconfined|builtin, no-new-privileges, apparmor=PROFILE, mask=PATH, unmask=PATH|ALL, systempaths=unconfined, writable-cgroups")
	fl.StringArrayVar(&f.ulimits, "ulimit", nil, "limit of its processes: NAME=SOFT[:HARD]")
	fl.StringArrayVar(&f.sysctls, "sysctl", nil, "set a kernel parameter of its namespaces: NAME=VALUE")
	fl.StringArrayVar(&f.annotations, "annotation", nil, "tell the runtime NAME=VALUE")
	fl.StringArrayVar(&f.secrets, "secret", nil, "show a secret below /run/secrets and nowhere else: id=NAME[,src=FILE|,env=VARIABLE]")
	fl.StringArrayVar(&f.addHosts, "add-host", nil, "line of its /etc/hosts: HOST:IP or HOST=IP; host-gateway is this machine")
	fl.StringArrayVar(&f.labelFiles, "label-file", nil, "read labels from a file")
	fl.Var(&f.shm, "shm-size", "size of /dev/shm; 64m unless given")
	fl.StringVar(&f.ipc, "ipc", "", "IPC namespace: private, shareable, none, host, or container:NAME")
	fl.StringVar(&f.pid, "pid", "", "PID namespace: host, or container:NAME")
	fl.StringVar(&f.uts, "uts", "", "UTS namespace: host")
	fl.StringVar(&f.cgroupns, "cgroupns", "", "cgroup namespace: private or host")
	fl.StringVar(&f.userns, "userns", "", "user namespace of root's container: auto[:size=N], private, container:NAME, or host")
	fl.StringVar(&f.cgroupParent, "cgroup-parent", "", "control group in which the container's is made")
	fl.IntVar(&f.oomScore, "oom-score-adj", 0, "how readily it is killed when memory is short: -1000 to 1000")
	fl.StringVar(&f.logDriver, "log-driver", "", "how its output is kept: json-file, local or none")
	fl.StringArrayVar(&f.logOpts, "log-opt", nil, "max-size=SIZE, max-file=N, compress=true, mode=non-blocking, max-buffer-size=SIZE, labels=NAMES, env=NAMES")
	fl.StringVar(&f.runtime, "runtime", "", "OCI runtime: a name of strata.toml, a program's name, or a path")
	fl.StringVar(&f.stopSignal, "stop-signal", "", "signal by which it is asked to stop")
	fl.IntVar(&f.stopTimeout, "stop-timeout", 0, "seconds until it is killed when it does not stop; -1 waits for ever")
}

// read takes the flags over into the options.
func (f *hostFlags) read(cmd *cobra.Command, o *engine.CreateOptions) error {
	c, h, a := &o.Config, &o.Host, &o.Host.Access
	c.StopSignal = f.stopSignal
	if cmd.Flags().Changed("stop-timeout") {
		c.StopTimeout = &f.stopTimeout
	}
	h.CapAdd, h.CapDrop, h.Privileged, h.ShmSize = f.capAdd, f.capDrop, f.privileged, int64(f.shm)
	*a = container.Access{
		GroupAdd: f.groups, DeviceRules: f.deviceRules, SecurityOpt: f.security, OOMScoreAdj: f.oomScore,
		IPC: f.ipc, PID: f.pid, UTS: f.uts, Cgroupns: f.cgroupns, Userns: f.userns, CgroupParent: f.cgroupParent,
	}
	if h.ShmSize < 0 {
		return usagef("--shm-size: want a size")
	}
	if f.uts == "host" && (cmd.Flags().Changed("hostname") || cmd.Flags().Changed("domainname")) {
		return usagef("conflicting options: hostname and the UTS mode")
	}
	var err error
	if a.Sysctls, err = pairs("sysctl", f.sysctls); err != nil {
		return err
	}
	if a.Annotations, err = pairs("annotation", f.annotations); err != nil {
		return err
	}
	o.Runtime, o.LogDriver = f.runtime, f.logDriver
	if o.LogOpts, err = pairs("log-opt", f.logOpts); err != nil {
		return err
	}
	return f.parse(o)
}

// parse reads the flags that have a language of their own.
func (f *hostFlags) parse(o *engine.CreateOptions) (err error) {
	a := &o.Host.Access
	for _, s := range f.addHosts {
		h, err := addedHost(s)
		if err != nil {
			return usageError{err}
		}
		if strings.HasSuffix(s, hostGateway) { // known when it starts
			h.IP = hostGateway
		}
		o.Host.ExtraHosts = append(o.Host.ExtraHosts, h.Name+":"+h.IP)
	}
	for _, s := range f.devices {
		if runtime.IsDeviceName(s) {
			a.CDI = append(a.CDI, s)
			continue
		}
		d, err := container.ParseDevice(s)
		if err != nil {
			return usageError{err}
		}
		a.Devices = append(a.Devices, d)
	}
	for _, s := range f.ulimits {
		u, err := container.ParseUlimit(s)
		if err != nil {
			return usageError{err}
		}
		a.Ulimits = append(a.Ulimits, u)
	}
	for _, s := range f.secrets {
		secret, err := container.ParseSecret(s, os.LookupEnv)
		if err != nil {
			return err
		}
		a.Secrets = append(a.Secrets, secret)
	}
	if a.Security, err = container.ParseSecurity(f.security, os.ReadFile); err != nil {
		return usageError{err}
	}
	return nil
}

// labels reads --label-file, then --label over it.
func (f *hostFlags) labels(labels []string) (map[string]string, error) {
	var lines []string
	for _, name := range f.labelFiles {
		raw, err := os.ReadFile(name)
		if err != nil {
			return nil, usagef("--label-file: %w", err)
		}
		for line := range strings.Lines(string(bytes.TrimPrefix(raw, []byte("\ufeff")))) {
			if line = strings.TrimLeft(strings.TrimRight(line, "\r\n"), " \t"); line != "" && line[0] != '#' {
				lines = append(lines, line)
			}
		}
	}
	return keyValues("label", append(lines, labels...))
}

// pairs reads flags that must be NAME=VALUE.
func pairs(flag string, values []string) (map[string]string, error) {
	for _, v := range values {
		if !strings.Contains(v, "=") {
			return nil, usageError{fmt.Errorf("--%s %q: want NAME=VALUE: %w", flag, v, errdef.ErrInvalid)}
		}
	}
	return keyValues(flag, values)
}
