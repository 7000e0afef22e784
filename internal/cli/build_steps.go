package cli

import (
	"encoding/csv"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"

	"strata/internal/build"
	"strata/internal/container"
	"strata/internal/engine"
	"strata/internal/errdef"
)

// stepFlags are those of build about RUN steps.
type stepFlags struct {
	hosts, ulimits, resources, allow []string
	shm                              sizeFlag
	cgroupParent                     string
}

func (f *stepFlags) add(fl *pflag.FlagSet) {
	fl.StringArrayVar(&f.hosts, "add-host", nil, "line of /etc/hosts in RUN steps: HOST:IP or HOST=IP; host-gateway is this machine")
	fl.Var(&f.shm, "shm-size", "size of /dev/shm in RUN steps")
	fl.StringArrayVar(&f.ulimits, "ulimit", nil, "limit of processes in RUN steps: NAME=SOFT[:HARD]")
	fl.StringVar(&f.cgroupParent, "cgroup-parent", "", "control group under which those of RUN steps are made")
	fl.StringArrayVar(&f.resources, "resource", nil, "limits of each RUN step: memory=512m,cpus=1.5,pids=100")
	fl.StringArrayVar(&f.allow, "allow", nil, "what RUN steps may ask for: security.insecure, network.host, device[=NAME]")
}

func (f *stepFlags) read(o *engine.BuildOptions) (err error) {
	steps := &o.Steps
	steps.ShmSize, steps.CgroupParent = int64(f.shm), f.cgroupParent
	if steps.ShmSize < 0 {
		return usagef("--shm-size: want a size above 0")
	}
	for _, spec := range f.hosts {
		host, err := addedHost(spec)
		if err != nil {
			return usageError{err}
		}
		steps.Hosts = append(steps.Hosts, host)
	}
	for _, spec := range f.ulimits {
		limit, err := ulimit(spec)
		if err != nil {
			return usageError{err}
		}
		steps.Ulimits = append(steps.Ulimits, limit)
	}
	for _, what := range f.allow {
		name, device, _ := strings.Cut(what, "=")
		switch {
		case what == "security.insecure":
			steps.AllowInsecure = true
		case what == "network.host":
			steps.AllowHost = true
		case what == "device":
			steps.AllowDevices = append(steps.AllowDevices, "*")
		case name == "device" && device != "":
			steps.AllowDevices = append(steps.AllowDevices, device)
		default:
			return usageError{errdef.WithHint(fmt.Errorf("--allow: unknown entitlement %s", what), "want security.insecure, network.host or device[=NAME]")}
		}
	}
	o.StepLimits, err = stepLimits(f.resources)
	return err
}

// hostGateway is this machine in --add-host. Steps that have a network have its.
const hostGateway = "host-gateway"

// addedHost reads HOST:IP or HOST=IP; an IPv6 address may stand in brackets.
func addedHost(spec string) (build.Host, error) {
	i := strings.IndexAny(spec, ":=")
	if i <= 0 || strings.ContainsAny(spec[:i], " \t\n") {
		return build.Host{}, fmt.Errorf("bad format for add-host: %q: want HOST:IP", spec)
	}
	name, ip := spec[:i], spec[i+1:]
	if ip == hostGateway {
		return build.Host{Name: name, IP: "127.0.0.1"}, nil
	}
	bare := strings.TrimSuffix(strings.TrimPrefix(ip, "["), "]")
	addr, err := netip.ParseAddr(bare)
	if err != nil || addr.Zone() != "" {
		return build.Host{}, fmt.Errorf("invalid IP address in add-host: %q", ip)
	}
	return build.Host{Name: name, IP: bare}, nil
}

// ulimit reads NAME=SOFT[:HARD]; -1 is no limit.
func ulimit(spec string) (specs.POSIXRlimit, error) {
	name, value, ok := strings.Cut(spec, "=")
	if !ok {
		return specs.POSIXRlimit{}, fmt.Errorf("invalid ulimit argument: %s: want NAME=SOFT[:HARD]", spec)
	}
	const known = " core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack "
	if !strings.Contains(known, " "+name+" ") || name == "" {
		return specs.POSIXRlimit{}, fmt.Errorf("invalid ulimit type: %s: want one of%s", name, strings.TrimSuffix(known, " "))
	}
	soft, hard, two := strings.Cut(value, ":")
	limit := specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(name)}
	var err error
	if limit.Soft, err = limitValue(soft); err != nil {
		return limit, err
	}
	limit.Hard = limit.Soft
	if two {
		if limit.Hard, err = limitValue(hard); err != nil {
			return limit, err
		}
	}
	if limit.Soft > limit.Hard {
		return limit, fmt.Errorf("ulimit soft limit must be less than or equal to hard limit: %s > %s", soft, hard)
	}
	return limit, nil
}

func limitValue(text string) (uint64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < -1 {
		return 0, fmt.Errorf("ulimit %q: want a number, or -1 for no limit", text)
	}
	if n == -1 {
		return math.MaxUint64, nil
	}
	return uint64(n), nil
}

// stepLimits reads --resource.
func stepLimits(all []string) (r container.Resources, err error) {
	for _, spec := range all {
		fields, err := csv.NewReader(strings.NewReader(spec)).Read()
		if err != nil {
			return r, usagef("--resource %q: %v", spec, err)
		}
		for _, field := range fields {
			name, value, ok := strings.Cut(field, "=")
			if !ok {
				return r, usagef("--resource %q: want NAME=VALUE", field)
			}
			if err := stepLimit(&r, name, value); err != nil {
				return r, usageError{fmt.Errorf("--resource %s: %w", field, err)}
			}
		}
	}
	return r, nil
}

func stepLimit(r *container.Resources, name, value string) error {
	number := func(to *int64) (err error) {
		*to, err = strconv.ParseInt(value, 10, 64)
		return err
	}
	switch name {
	case "memory":
		return (*sizeFlag)(&r.Memory).Set(value)
	case "memory-swap":
		return (*sizeFlag)(&r.MemorySwap).Set(value)
	case "memory-reservation":
		return (*sizeFlag)(&r.MemoryReservation).Set(value)
	case "cpus":
		return (*cpusFlag)(&r.NanoCPUs).Set(value)
	case "cpu-shares":
		return number(&r.CPUShares)
	case "cpu-period":
		return number(&r.CPUPeriod)
	case "cpu-quota":
		return number(&r.CPUQuota)
	case "cpuset-cpus":
		r.CpusetCpus = value
	case "cpuset-mems":
		r.CpusetMems = value
	case "pids":
		r.PidsLimit = new(int64)
		return number(r.PidsLimit)
	default:
		return errdef.WithHint(fmt.Errorf("no such limit: %w", errdef.ErrInvalid),
			"want memory, memory-swap, memory-reservation, cpus, cpu-shares, cpu-period, cpu-quota, cpuset-cpus, cpuset-mems or pids")
	}
	return nil
}
