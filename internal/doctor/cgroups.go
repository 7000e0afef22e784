package doctor

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"strata/internal/userns"
)

// cgroups: version 2 (delegated, for a plain user) or version 1 (for root) enforces limits; without, containers run
// unlimited.
func cgroups(_ context.Context, o Options) Check {
	const name = "cgroups"
	top := o.path("sys/fs/cgroup")
	version := cgroupVersion(o)
	if version == 2 {
		return unified(name, o, top)
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

func unified(name string, o Options, top string) Check {
	own := top
	for line := range strings.Lines(o.read("proc/self/cgroup")) {
		if path, found := strings.CutPrefix(strings.TrimSpace(line), "0::"); found {
			own = filepath.Join(top, filepath.Clean("/"+path))
		}
	}
	have := strings.Fields(o.read("sys/fs/cgroup/cgroup.controllers"))
	if plain() {
		if data, err := os.ReadFile(filepath.Join(own, "cgroup.controllers")); err == nil {
			have = strings.Fields(string(data))
		}
		if unix.Access(filepath.Join(own, "cgroup.procs"), unix.W_OK) != nil || unix.Access(own, unix.W_OK) != nil {
			return warn(name, "version 2, not delegated to you: no limits can be set on containers",
				"systemd-run --user --scope -p Delegate=yes strata …   (or log in through systemd)")
		}
	}
	var lacking []string
	for _, controller := range []string{"memory", "cpu", "pids"} {
		if !slices.Contains(have, controller) {
			lacking = append(lacking, controller)
		}
	}
	if len(lacking) > 0 {
		return warn(name, "version 2 without "+strings.Join(lacking, ", ")+": these limits cannot be set",
			"sudo systemctl edit user@.service   and add: [Service] Delegate=cpu memory pids")
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
