package container

import (
	"fmt"
	"os"
	"reflect"
	goruntime "runtime"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"strata/internal/cgroup"
	"strata/internal/errdef"
)

// Resources are the limits of a container's processes, in docker's words and units. A zero value sets no limit.
type Resources struct {
	Memory int64 `json:",omitempty"` // bytes
	// MemorySwap is memory and swap together, in bytes; -1 is unlimited swap. With Memory alone it becomes twice that.
	MemorySwap        int64  `json:",omitempty"`
	MemoryReservation int64  `json:",omitempty"` // bytes that are kept back when memory is scarce
	NanoCPUs          int64  `json:",omitempty"` // billionths of a processor
	CPUShares         int64  `json:",omitempty"` // weight against others; 1024 is everybody's
	CPUPeriod         int64  `json:",omitempty"` // microseconds
	CPUQuota          int64  `json:",omitempty"` // microseconds of each period; -1 is unlimited
	CpusetCpus        string `json:",omitempty"` // "0-2,4"
	CpusetMems        string `json:",omitempty"`
	// PidsLimit is the number of processes and threads; zero and negative values lift the limit, nil says nothing.
	PidsLimit   *int64 `json:",omitempty"`
	BlkioWeight uint16 `json:",omitempty"` // 10 to 1000
	// Block I/O of single devices: weights, bytes and operations a second.
	BlkioWeightDevice []DeviceLimit `json:",omitempty"`
	DeviceReadBps     []DeviceLimit `json:",omitempty"`
	DeviceWriteBps    []DeviceLimit `json:",omitempty"`
	DeviceReadIOps    []DeviceLimit `json:",omitempty"`
	DeviceWriteIOps   []DeviceLimit `json:",omitempty"`
	// Of version 1 of control groups only: how readily its memory is swapped, 0 to 100, nil says nothing; whether it stands still
	// instead of being killed when its memory is used up; microseconds of real-time scheduling in each period.
	MemorySwappiness   *int64 `json:",omitempty"`
	OOMKillDisable     bool   `json:",omitempty"`
	CPURealtimePeriod  int64  `json:",omitempty"`
	CPURealtimeRuntime int64  `json:",omitempty"`
}

const (
	leastMemory   = 6 << 20 // docker's: less does not even start a container
	defaultPeriod = 100_000
	mostShares    = 262_144
)

// check holds docker's rules of what is a sensible limit.
func (r Resources) check() error {
	why := r.memoryFault()
	if why == "" {
		why = r.cpuFault()
	}
	if why == "" && r.BlkioWeight != 0 && (r.BlkioWeight < 10 || r.BlkioWeight > 1000) {
		why = "range of the block I/O weight is from 10 to 1000"
	}
	if n := r.MemorySwappiness; why == "" && n != nil && (*n < 0 || *n > 100) {
		why = fmt.Sprintf("invalid value: %d, valid memory swappiness range is 0-100", *n)
	}
	if why != "" {
		return fmt.Errorf("%s: %w", why, errdef.ErrInvalid)
	}
	if err := checkSet("CPUs", r.CpusetCpus, "/sys/devices/system/cpu/online"); err != nil {
		return err
	}
	return checkSet("memory nodes", r.CpusetMems, "/sys/devices/system/node/online")
}

// memoryFault says what is wrong with the limits of memory.
func (r Resources) memoryFault() string {
	switch {
	case r.Memory != 0 && r.Memory < leastMemory:
		return "minimum memory limit allowed is 6MB"
	case r.MemorySwap < -1:
		return fmt.Sprintf("memory and swap %d: want a size, or -1 for unlimited swap", r.MemorySwap)
	case r.Memory == 0 && r.MemorySwap > 0:
		return "you should always set the memory limit when using the memory-swap limit"
	case r.MemorySwap > 0 && r.MemorySwap < r.Memory:
		return "minimum memory-swap limit should be larger than the memory limit: it is memory and swap together"
	case r.MemoryReservation != 0 && r.MemoryReservation < leastMemory:
		return "minimum memory reservation allowed is 6MB"
	case r.Memory > 0 && r.Memory < r.MemoryReservation:
		return "minimum memory limit can not be less than the memory reservation limit"
	}
	return ""
}

// cpuFault says what is wrong with the limits of processor time.
func (r Resources) cpuFault() string {
	cpus := goruntime.NumCPU()
	switch {
	case r.NanoCPUs > 0 && r.CPUPeriod > 0:
		return "conflicting options: --cpus and a CPU period cannot both be set"
	case r.NanoCPUs > 0 && r.CPUQuota > 0:
		return "conflicting options: --cpus and a CPU quota cannot both be set"
	case r.NanoCPUs < 0 || r.NanoCPUs > int64(cpus)*1e9:
		return fmt.Sprintf("range of CPUs is from 0.01 to %d.00, as there are only %d CPUs available", cpus, cpus)
	case r.CPUPeriod != 0 && (r.CPUPeriod < 1000 || r.CPUPeriod > 1_000_000):
		return "the CPU period can not be less than 1ms (1000) or larger than 1s (1000000)"
	case r.CPUQuota > 0 && r.CPUQuota < 1000:
		return "the CPU quota can not be less than 1ms (1000)"
	case r.CPURealtimePeriod < 0 || r.CPURealtimeRuntime < 0:
		return "the real-time period and runtime are numbers of microseconds"
	case r.CPURealtimePeriod != 0 && r.CPURealtimeRuntime > r.CPURealtimePeriod:
		return "cpu real-time runtime cannot be higher than cpu real-time period"
	}
	return ""
}

// checkSet refuses a list of processors or nodes that is none, or names some that are not there.
func checkSet(noun, list, online string) error {
	if list == "" {
		return nil
	}
	want, err := parseSet(list)
	if err != nil {
		return fmt.Errorf("%s %q: want a list such as 0-2,4: %w", noun, list, errdef.ErrInvalid)
	}
	there := "0" // a kernel without NUMA tells of no nodes, and has one
	if raw, err := os.ReadFile(online); err == nil {
		there = strings.TrimSpace(string(raw))
	}
	have, err := parseSet(there)
	if err != nil {
		return fmt.Errorf("%s: %q: %w", noun, there, err)
	}
	for n := range want {
		if !have[n] {
			return fmt.Errorf("requested %s are not available: requested %s, available: %s: %w", noun, list, there, errdef.ErrInvalid)
		}
	}
	return nil
}

// parseSet reads the kernel's lists of numbers: "0-2,4".
func parseSet(list string) (map[int]bool, error) {
	const most = 8192 // what the largest kernels can be built for
	set := map[int]bool{}
	for part := range strings.SplitSeq(list, ",") {
		low, high, ranged := strings.Cut(part, "-")
		if !ranged {
			high = low
		}
		first, err := strconv.ParseUint(low, 10, 16)
		if err != nil {
			return nil, err
		}
		last, err := strconv.ParseUint(high, 10, 16)
		if err != nil {
			return nil, err
		}
		if first > last || last >= most {
			return nil, fmt.Errorf("range %q: %w", part, errdef.ErrInvalid)
		}
		for n := first; n <= last; n++ {
			set[int(n)] = true
		}
	}
	return set, nil
}

// equal compares what the limits say.
func (r Resources) equal(o Resources) bool { return reflect.DeepEqual(r, o) }

// needs lists what the machine must be able to enforce. That swap is limited to docker's default is none of the user's
// wishes: where it cannot be, the memory limit holds alone.
func (r Resources) needs() []cgroup.Limit {
	var needs []cgroup.Limit
	add := func(needed bool, l cgroup.Limit) {
		if needed {
			needs = append(needs, l)
		}
	}
	add(r.Memory > 0 || r.MemoryReservation > 0, cgroup.Memory)
	add(r.MemorySwap > 0 && r.MemorySwap != 2*r.Memory, cgroup.Swap)
	add(r.NanoCPUs > 0 || r.CPUShares != 0 || r.CPUPeriod > 0 || r.CPUQuota > 0, cgroup.CPU)
	add(r.CpusetCpus != "" || r.CpusetMems != "", cgroup.CPUSet)
	add(r.PidsLimit != nil && *r.PidsLimit > 0, cgroup.Pids)
	add(r.BlkioWeight > 0, cgroup.BlockWeight)
	add(len(r.BlkioWeightDevice) > 0, cgroup.DeviceWeight)
	add(len(r.DeviceReadBps)+len(r.DeviceWriteBps)+len(r.DeviceReadIOps)+len(r.DeviceWriteIOps) > 0, cgroup.DeviceRate)
	add(r.MemorySwappiness != nil, cgroup.Swappiness)
	add(r.OOMKillDisable, cgroup.OOMDisable)
	add(r.CPURealtimePeriod > 0 || r.CPURealtimeRuntime > 0, cgroup.RealTime)
	return needs
}

// enforceable refuses limits that this machine could not hold a container to.
func (s *Store) enforceable(r Resources) error {
	for _, l := range r.needs() {
		if err := cgroup.Machine().Check(l, s.opt.Userns); err != nil {
			return err
		}
	}
	return nil
}

// complete checks the limits that a user gave and adds docker's default for swap.
func (s *Store) complete(r Resources) (Resources, error) {
	if err := r.check(); err != nil {
		return r, err
	}
	if err := s.enforceable(r); err != nil {
		return r, err
	}
	swap := func() error { return cgroup.Machine().Check(cgroup.Swap, s.opt.Userns) }
	switch {
	case r.Memory > 0 && r.MemorySwap == 0:
		if r.MemorySwap = 2 * r.Memory; swap() != nil {
			r.MemorySwap = -1
		}
	case r.MemorySwap > 0:
		return r, swap()
	}
	return r, nil
}

// limits gives the limits in the runtime's words, nil when there are none.
func (s *Store) limits(r Resources) (*specs.LinuxResources, error) {
	if r.equal(Resources{}) {
		return nil, nil
	}
	swap := cgroup.Machine().Check(cgroup.Swap, s.opt.Userns) == nil
	io, err := r.blockIO()
	return &specs.LinuxResources{Memory: r.memory(swap), CPU: r.cpu(), Pids: r.pids(), BlockIO: io}, err
}

func (r Resources) memory(swap bool) *specs.LinuxMemory {
	var m specs.LinuxMemory
	m.Limit, m.Reservation = set(r.Memory), set(r.MemoryReservation)
	if swap && r.Memory > 0 {
		m.Swap = set(r.MemorySwap)
	}
	if r.MemorySwappiness != nil {
		n := uint64(*r.MemorySwappiness)
		m.Swappiness = &n
	}
	if r.OOMKillDisable {
		m.DisableOOMKiller = &r.OOMKillDisable
	}
	if m == (specs.LinuxMemory{}) {
		return nil
	}
	return &m
}

func (r Resources) cpu() *specs.LinuxCPU {
	c := specs.LinuxCPU{Cpus: r.CpusetCpus, Mems: r.CpusetMems, Quota: set(r.CPUQuota)}
	if r.CPUShares != 0 {
		shares := uint64(min(max(r.CPUShares, 2), mostShares))
		c.Shares = &shares
	}
	period := uint64(r.CPUPeriod)
	if r.NanoCPUs > 0 {
		period = defaultPeriod
		c.Quota = set(r.NanoCPUs * defaultPeriod / 1e9)
	}
	if period > 0 {
		c.Period = &period
	}
	if r.CPURealtimePeriod > 0 {
		rt := uint64(r.CPURealtimePeriod)
		c.RealtimePeriod = &rt
	}
	c.RealtimeRuntime = set(r.CPURealtimeRuntime)
	if c == (specs.LinuxCPU{}) {
		return nil
	}
	return &c
}

func (r Resources) pids() *specs.LinuxPids {
	if r.PidsLimit == nil {
		return nil
	}
	limit := *r.PidsLimit
	if limit <= 0 {
		limit = -1
	}
	return &specs.LinuxPids{Limit: &limit}
}

// set is the value for the runtime: nil for what was not set.
func set[T int | int64](n T) *T {
	if n == 0 {
		return nil
	}
	return &n
}
