package doctor

import (
	"cmp"
	"context"
	"strings"

	"strata/internal/cgroup"
	"strata/internal/errdef"
	"strata/internal/userns"
)

// cgroups: version 2 (delegated, for a plain user) or version 1 (for root) enforces limits; without, containers run
// unlimited.
func cgroups(_ context.Context, o Options) Check {
	const name = "cgroups"
	version := cgroupVersion(o)
	if version == 2 {
		return unified(name, o)
	}
	const toV2 = "boot with systemd.unified_cgroup_hierarchy=1 for version 2"
	switch {
	case version == 0:
		return warn(name, "none: no limits can be set on containers", "mount -t cgroup2 cgroup2 /sys/fs/cgroup")
	case plain():
		return warn(name, "version 1, which plain users cannot use: no limits can be set on containers", toV2)
	}
	return ok(name, "version 1: "+strings.Join(oldControllers(o), " "))
}

// unified asks for each limit what a new container would be told.
func unified(name string, o Options) Check {
	tree := cgroup.Tree{Proc: o.path("proc"), Sys: o.path("sys/fs/cgroup")}
	if err := tree.Check(cgroup.Freeze, plain()); err != nil {
		return warn(name, "version 2: no limits can be set on containers: "+strings.TrimPrefix(err.Error(), string(cgroup.Freeze)+": "), errdef.Hint(err))
	}
	var have, lacking []string
	var fix string
	for _, c := range []struct {
		controller string
		limit      cgroup.Limit
		essential  bool
	}{
		{"memory", cgroup.Memory, true}, {"cpu", cgroup.CPU, true}, {"pids", cgroup.Pids, true}, {"cpuset", cgroup.CPUSet, false}, {"io", cgroup.BlockWeight, false},
	} {
		err := tree.Check(c.limit, plain())
		switch {
		case err == nil:
			have = append(have, c.controller)
		case c.essential:
			lacking, fix = append(lacking, c.controller), cmp.Or(fix, errdef.Hint(err), "boot without cgroup_disable=")
		}
	}
	if len(lacking) > 0 {
		return warn(name, "version 2 without "+strings.Join(lacking, ", ")+": these limits cannot be set", fix)
	}
	return ok(name, "version 2: "+strings.Join(have, " "))
}

func runDirectory(_ context.Context, o Options) Check {
	const name = "run directory"
	dir, err := userns.RunDir(o.Run)
	if err != nil {
		return fail(name, err.Error(), "export STRATA_RUN=<a directory of your own>")
	}
	return ok(name, dir)
}
