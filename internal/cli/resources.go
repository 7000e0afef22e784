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
	fl.Uint16Var(&f.blkioWeight, "blkio-weight", 0, "block I/O weight, from 10 to 1000")
}

func (f *resourceFlags) resources(cmd *cobra.Command) container.Resources {
	r := container.Resources{
		Memory: int64(f.memory), MemorySwap: int64(f.swap), MemoryReservation: int64(f.reservation), NanoCPUs: int64(f.cpus),
		CPUShares: f.shares, CPUPeriod: f.period, CPUQuota: f.quota, CpusetCpus: f.cpusetCpus, CpusetMems: f.cpusetMems,
		BlkioWeight: f.blkioWeight,
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
