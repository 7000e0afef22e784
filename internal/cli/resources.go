package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"strata/internal/config"
	"strata/internal/container"
	"strata/internal/errdef"
)

// resourceFlags are the limits that run, create and update share.
type resourceFlags struct {
	memory, swap, reservation   sizeFlag
	cpus                        cpusFlag
	shares, period, quota, pids int64
	cpusetCpus, cpusetMems      string
	blkioWeight                 uint16
	rtPeriod, rtRuntime         int64
	devices                     deviceLimitFlags
}

// deviceLimitFlags are the limits that only run and create have.
type deviceLimitFlags struct {
	weights, readBps, writeBps, readIOps, writeIOps []string
	swappiness                                      int64
	oomKillDisable                                  bool
}

func (f *deviceLimitFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringArrayVar(&f.weights, "blkio-weight-device", nil, "block I/O weight for a device: DEVICE:WEIGHT")
	fl.StringArrayVar(&f.readBps, "device-read-bps", nil, "most bytes a second read from a device: DEVICE:RATE")
	fl.StringArrayVar(&f.writeBps, "device-write-bps", nil, "most bytes a second written to a device: DEVICE:RATE")
	fl.StringArrayVar(&f.readIOps, "device-read-iops", nil, "most reads a second from a device: DEVICE:RATE")
	fl.StringArrayVar(&f.writeIOps, "device-write-iops", nil, "most writes a second to a device: DEVICE:RATE")
	fl.Int64Var(&f.swappiness, "memory-swappiness", -1, "how readily its memory is swapped: 0 to 100 (control groups of version 1)")
	fl.BoolVar(&f.oomKillDisable, "oom-kill-disable", false, "let it stand still when its memory is used up, instead of killing it (control groups of version 1)")
}

// read adds them to the limits.
func (f *deviceLimitFlags) read(r *container.Resources) error {
	bytes := func(s string) (container.DeviceLimit, error) { return container.ParseDeviceRate(s, true) }
	times := func(s string) (container.DeviceLimit, error) { return container.ParseDeviceRate(s, false) }
	for _, flag := range []struct {
		given []string
		into  *[]container.DeviceLimit
		parse func(string) (container.DeviceLimit, error)
	}{
		{f.weights, &r.BlkioWeightDevice, container.ParseDeviceWeight}, {f.readBps, &r.DeviceReadBps, bytes}, {f.writeBps, &r.DeviceWriteBps, bytes},
		{f.readIOps, &r.DeviceReadIOps, times}, {f.writeIOps, &r.DeviceWriteIOps, times},
	} {
		for _, s := range flag.given {
			d, err := flag.parse(s)
			if err != nil {
				return usageError{err}
			}
			*flag.into = append(*flag.into, d)
		}
	}
	if f.swappiness != -1 {
		r.MemorySwappiness = &f.swappiness
	}
	r.OOMKillDisable = f.oomKillDisable
	return nil
}

func (f *resourceFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.VarP(&f.memory, "memory", "m", "memory limit: bytes, or with a suffix b, k, m, g")
	fl.Var(&f.swap, "memory-swap", "limit of memory and swap together; -1 for unlimited swap")
	fl.Var(&f.reservation, "memory-reservation", "memory that is kept back for it when memory is scarce")
	fl.Var(&f.cpus, "cpus", "number of CPUs, such as 1.5")
	fl.Int64VarP(&f.shares, "cpu-shares", "c", 0, "CPU weight against other containers; 1024 is everybody's")
	fl.Int64Var(&f.period, "cpu-period", 0, "length of a CPU scheduling period, in microseconds")
	fl.Int64Var(&f.quota, "cpu-quota", 0, "CPU time in each period, in microseconds")
	fl.StringVar(&f.cpusetCpus, "cpuset-cpus", "", "CPUs to run on: 0-3, 0,1")
	fl.StringVar(&f.cpusetMems, "cpuset-mems", "", "memory nodes to use: 0-3, 0,1")
	fl.Int64Var(&f.pids, "pids-limit", 0, "number of processes and threads; -1 for no limit")
	fl.Int64Var(&f.rtPeriod, "cpu-rt-period", 0, "length of a period of real-time scheduling, in microseconds (control groups of version 1)")
	fl.Int64Var(&f.rtRuntime, "cpu-rt-runtime", 0, "real-time scheduling in each period, in microseconds (control groups of version 1)")
	fl.Uint16Var(&f.blkioWeight, "blkio-weight", 0, "block I/O weight, from 10 to 1000")
}

func (f *resourceFlags) resources(cmd *cobra.Command) container.Resources {
	r := container.Resources{
		Memory: int64(f.memory), MemorySwap: int64(f.swap), MemoryReservation: int64(f.reservation), NanoCPUs: int64(f.cpus),
		CPUShares: f.shares, CPUPeriod: f.period, CPUQuota: f.quota, CpusetCpus: f.cpusetCpus, CpusetMems: f.cpusetMems,
		BlkioWeight: f.blkioWeight, CPURealtimePeriod: f.rtPeriod, CPURealtimeRuntime: f.rtRuntime,
	}
	if cmd.Flags().Changed("pids-limit") {
		r.PidsLimit = &f.pids
	}
	return r
}

// sizeFlag is a size in bytes as docker's users write it. -1 is let through for those flags that know it.
type sizeFlag int64

func (f *sizeFlag) String() string {
	if *f == 0 {
		return ""
	}
	return strconv.FormatInt(int64(*f), 10)
}

func (f *sizeFlag) Type() string { return "bytes" }

func (f *sizeFlag) Set(s string) error {
	if s == "-1" {
		*f = -1
		return nil
	}
	n, err := config.ParseSize(s)
	*f = sizeFlag(n)
	return err
}

// cpusFlag is a number of processors in billionths.
type cpusFlag int64

func (f *cpusFlag) String() string {
	if *f == 0 {
		return ""
	}
	return strconv.FormatFloat(float64(*f)/1e9, 'f', -1, 64)
}

func (f *cpusFlag) Type() string { return "decimal" }

func (f *cpusFlag) Set(s string) error {
	whole, fraction, _ := strings.Cut(s, ".")
	if len(fraction) > 9 {
		return fmt.Errorf("number of CPUs %q is too precise: %w", s, errdef.ErrInvalid)
	}
	digits := whole + fraction + strings.Repeat("0", 9-len(fraction))
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || whole+fraction == "" || strings.ContainsAny(s, "+-_") {
		return fmt.Errorf("number of CPUs %q: want a number such as 1.5: %w", s, errdef.ErrInvalid)
	}
	*f = cpusFlag(n)
	return nil
}
