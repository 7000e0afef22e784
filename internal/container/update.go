package container

import (
	"cmp"
	"context"
	"fmt"

	"strata/internal/cgroup"
	"strata/internal/errdef"
)

// Change is what an update changes: the limits that Resources sets, and the policy unless that is nil.
type Change struct {
	Resources Resources
	Restart   *RestartPolicy
}

// Update changes those limits of a container that u sets; the others stay. A running container is held to them at once,
// another one from its next start; one that is being started notices when it runs ([supervision.started]).
func (s *Store) Update(ctx context.Context, rec Record, u Change) error {
	err := s.update(ctx, rec, u)
	if err != nil {
		return fmt.Errorf("cannot update container %s: %w", rec.ID, err)
	}
	s.Emit(rec, "update")
	return nil
}

func (s *Store) update(ctx context.Context, rec Record, u Change) error {
	return s.records.Locked(ctx, rec.ID, func() error {
		cur, err := s.there(rec.ID)
		if err != nil {
			return err
		}
		if u.Restart != nil {
			if cur.Host.AutoRemove && !u.Restart.none() {
				return fmt.Errorf("restart policy cannot be updated because AutoRemove is enabled for the container: %w", errdef.ErrConflict)
			}
			cur.Host.Restart = *u.Restart
		}
		if u.Resources.equal(Resources{}) {
			return s.put(cur)
		}
		r, err := cur.Host.Resources.with(u.Resources)
		if err != nil {
			return err
		}
		if cur.Host.Resources, err = s.complete(r); err != nil {
			return err
		}
		if cur.State.Alive() {
			if err := s.apply(ctx, cur); err != nil && !gone(cur.State) {
				return err
			}
		}
		return s.put(cur)
	})
}

// apply holds a running container to the limits of its record.
func (s *Store) apply(ctx context.Context, rec Record) error {
	if _, err := cgroup.Machine().Of(rec.State.Pid, rec.ID); err != nil {
		return fmt.Errorf("%w: %w", err, errdef.ErrUnsupported)
	}
	limits, err := s.limits(rec.Host.Resources)
	if err != nil {
		return err
	}
	return s.runtime(rec).Update(ctx, rec.ID, limits)
}

// with gives r with what u sets, by docker's rules.
func (r Resources) with(u Resources) (Resources, error) {
	conflict := func(what string) (Resources, error) {
		return r, fmt.Errorf("conflicting options: %s: %w", what, errdef.ErrConflict)
	}
	switch {
	case u.NanoCPUs > 0 && (r.CPUPeriod > 0 || r.CPUQuota > 0):
		return conflict("--cpus cannot be updated as a CPU period or quota has already been set")
	case (u.CPUPeriod > 0 || u.CPUQuota > 0) && r.NanoCPUs > 0:
		return conflict("a CPU period or quota cannot be updated as --cpus has already been set")
	case u.MemorySwap == 0 && r.MemorySwap > 0 && u.Memory > r.MemorySwap:
		return conflict("the memory limit should be smaller than the already set memory-swap limit, update the memory-swap limit at the same time")
	}
	r.Memory = cmp.Or(u.Memory, r.Memory)
	r.MemorySwap = cmp.Or(u.MemorySwap, r.MemorySwap)
	r.MemoryReservation = cmp.Or(u.MemoryReservation, r.MemoryReservation)
	r.NanoCPUs = cmp.Or(u.NanoCPUs, r.NanoCPUs)
	r.CPUShares = cmp.Or(u.CPUShares, r.CPUShares)
	r.CPUPeriod = cmp.Or(u.CPUPeriod, r.CPUPeriod)
	r.CPUQuota = cmp.Or(u.CPUQuota, r.CPUQuota)
	r.CpusetCpus = cmp.Or(u.CpusetCpus, r.CpusetCpus)
	r.CpusetMems = cmp.Or(u.CpusetMems, r.CpusetMems)
	r.PidsLimit = cmp.Or(u.PidsLimit, r.PidsLimit)
	r.BlkioWeight = cmp.Or(u.BlkioWeight, r.BlkioWeight)
	r.CPURealtimePeriod = cmp.Or(u.CPURealtimePeriod, r.CPURealtimePeriod)
	r.CPURealtimeRuntime = cmp.Or(u.CPURealtimeRuntime, r.CPURealtimeRuntime)
	return r, nil
}
