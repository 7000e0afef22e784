package container

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"strata/internal/errdef"
)

func TestResourceRules(t *testing.T) {
	const m = 1 << 20
	for _, c := range []struct {
		r    Resources
		want string // "" is accepted
	}{
		{Resources{}, ""},
		{Resources{Memory: 6 * m}, ""},
		{Resources{Memory: 6*m - 1}, "minimum memory limit"},
		{Resources{Memory: 8 * m, MemorySwap: 8 * m}, ""},
		{Resources{Memory: 8 * m, MemorySwap: -1}, ""},
		{Resources{Memory: 8 * m, MemorySwap: 7 * m}, "memory-swap limit"},
		{Resources{MemorySwap: 8 * m}, "always set the memory limit"},
		{Resources{MemorySwap: -2}, "unlimited swap"},
		{Resources{Memory: -1}, "minimum memory limit"},
		{Resources{Memory: 8 * m, MemoryReservation: 9 * m}, "reservation"},
		{Resources{MemoryReservation: 1}, "reservation"},
		{Resources{NanoCPUs: 1e7}, ""},
		{Resources{NanoCPUs: 1e15}, "range of CPUs"},
		{Resources{NanoCPUs: 1e7, CPUPeriod: 1000}, "conflicting"},
		{Resources{NanoCPUs: 1e7, CPUQuota: 1000}, "conflicting"},
		{Resources{CPUPeriod: 999}, "CPU period"},
		{Resources{CPUPeriod: 1000001}, "CPU period"},
		{Resources{CPUQuota: 999}, "CPU quota"},
		{Resources{CPUQuota: -1, CPUPeriod: 5000}, ""},
		{Resources{CpusetCpus: "0"}, ""},
		{Resources{CpusetCpus: "0-8191"}, "not available"},
		{Resources{CpusetCpus: "1-0"}, "want a list"},
		{Resources{CpusetCpus: "0,"}, "want a list"},
		{Resources{CpusetMems: "0"}, ""},
		{Resources{CpusetMems: "99"}, "not available"},
		{Resources{BlkioWeight: 9}, "block I/O"},
		{Resources{BlkioWeight: 1000}, ""},
	} {
		err := c.r.check()
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%+v: %v", c.r, err)
		case c.want != "" && (!errors.Is(err, errdef.ErrInvalid) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%+v: %v, want %q", c.r, err, c.want)
		}
	}
}

func TestResourceUpdate(t *testing.T) {
	const m = 1 << 20
	limit := int64(9)
	old := Resources{Memory: 8 * m, MemorySwap: 16 * m, NanoCPUs: 5e8, PidsLimit: &limit, CpusetCpus: "0"}
	got, err := old.with(Resources{Memory: 12 * m, CPUShares: 7})
	want := Resources{Memory: 12 * m, MemorySwap: 16 * m, NanoCPUs: 5e8, PidsLimit: &limit, CpusetCpus: "0", CPUShares: 7}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	for _, u := range []Resources{{Memory: 17 * m}, {CPUQuota: 5000}, {CPUPeriod: 5000}} {
		if _, err := old.with(u); !errors.Is(err, errdef.ErrConflict) {
			t.Errorf("%+v: %v", u, err)
		}
	}
	if _, err := (Resources{CPUQuota: 5000}).with(Resources{NanoCPUs: 1e9}); !errors.Is(err, errdef.ErrConflict) {
		t.Error(err)
	}
	if _, err := old.with(Resources{Memory: 17 * m, MemorySwap: -1}); err != nil {
		t.Error(err)
	}
}

func TestResourceSpec(t *testing.T) {
	const m = 1 << 20
	unlimited, none := int64(-1), int64(0)
	p := func(n int64) *int64 { return &n }
	u := func(n uint64) *uint64 { return &n }
	r := Resources{Memory: 8 * m, MemorySwap: 16 * m, NanoCPUs: 15e8, CPUShares: 1, CpusetCpus: "0", PidsLimit: &none, BlkioWeight: 10}
	if diff := cmp.Diff(&specs.LinuxMemory{Limit: p(8 * m), Swap: p(16 * m)}, r.memory(true)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(&specs.LinuxMemory{Limit: p(8 * m)}, r.memory(false)); diff != "" {
		t.Error("where swap cannot be limited:", diff)
	}
	if diff := cmp.Diff(&specs.LinuxCPU{Shares: u(2), Quota: p(150_000), Period: u(100_000), Cpus: "0"}, r.cpu()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(&specs.LinuxPids{Limit: &unlimited}, r.pids()); diff != "" {
		t.Error(diff)
	}
	var empty Resources
	if empty.memory(true) != nil || empty.cpu() != nil || empty.pids() != nil {
		t.Error("limits that nobody set")
	}
	if l, err := (&Store{}).limits(empty); l != nil || err != nil {
		t.Error("limits that nobody set:", l, err)
	}
	if !r.equal(r) || r.equal(empty) || (Resources{PidsLimit: &none}).equal(empty) || (Resources{PidsLimit: &none}).equal(Resources{PidsLimit: &unlimited}) {
		t.Error("equal")
	}
}

func FuzzParseSet(f *testing.F) {
	for _, s := range []string{"0-2,4", "", "7", "9-1", "0-99999", "a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if set, err := parseSet(s); err == nil && len(set) == 0 {
			t.Error("an empty set")
		}
	})
}
