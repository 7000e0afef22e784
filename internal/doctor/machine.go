package doctor

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"strata/internal/userns"
)

func kernel(_ context.Context, o Options) Check {
	const name = "kernel"
	release := o.read("proc/sys/kernel/osrelease")
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return warn(name, fmt.Sprintf("release %q cannot be read", release), "uname -r   (5.11 or later is needed)")
	}
	if major < 5 || major == 5 && minor < 11 {
		return fail(name, "Linux "+release+" is older than 5.11", "upgrade the distribution's kernel")
	}
	return ok(name, "Linux "+release)
}

// plain reports whether strata is, or would be, run by a user who is not root.
func plain() bool { return os.Geteuid() != 0 || userns.Active() }

func namespaces(_ context.Context, o Options) Check {
	const name = "user namespaces"
	setting, fix := userns.Forbidden(o.path("proc"))
	switch {
	case userns.Active():
		return ok(name, "in use")
	case setting != "" && plain():
		return fail(name, "forbidden to plain users: "+setting, fix+"   (or run strata by sudo)")
	case setting != "":
		return ok(name, "forbidden to plain users ("+setting+"); root needs none")
	}
	if _, err := os.Stat(o.path("proc/self/ns/user")); err != nil {
		return fail(name, "this kernel has none", "a kernel with CONFIG_USER_NS=y")
	}
	return ok(name, "allowed")
}

func ids(_ context.Context, o Options) Check {
	const name = "user ids"
	if !plain() {
		return ok(name, "all, as root")
	}
	uid := outside()
	fix := userns.GrantLine()
	uids, gids := userns.Granted(uid, o.path("etc/subuid"), o.path("etc/subgid"))
	if len(uids) == 0 || len(gids) == 0 {
		return warn(name, "only your own: images with files of other users, USER and apt will not work", fix)
	}
	for _, program := range []string{"newuidmap", "newgidmap"} {
		if _, err := exec.LookPath(program); err != nil {
			return warn(name, program+" is not installed, so the ranges granted to you are of no use", "sudo apt-get install uidmap   (Fedora: sudo dnf install shadow-utils)")
		}
	}
	if userns.Single() {
		return warn(name, "ranges are granted, but the namespace in use was made without them", "kill the process "+userns.PauseName+": the next command makes a new one")
	}
	var n uint64
	for _, r := range uids {
		n += uint64(r.Count)
	}
	return ok(name, fmt.Sprintf("your own and %d more", n))
}

func seccomp(_ context.Context, o Options) Check {
	const name = "seccomp"
	actions := o.read("proc/sys/kernel/seccomp/actions_avail")
	if actions == "" {
		return warn(name, "this kernel has no seccomp filters: containers run without that protection", "a kernel with CONFIG_SECCOMP_FILTER=y")
	}
	if !strings.Contains(actions, "errno") {
		return warn(name, "filters cannot refuse calls (actions: "+actions+")", "a kernel with CONFIG_SECCOMP_FILTER=y")
	}
	return ok(name, "filters")
}

func nested(_ context.Context, o Options) Check {
	const name = "surroundings"
	if mark := surroundings(o.System); mark != "" {
		return warn(name, "inside a container ("+mark+"): mounts and namespaces may be refused there", "start the outer container with --privileged, if something is refused")
	}
	return ok(name, "no container around")
}

// InContainer reports whether this process is in a container, of whatever engine.
func InContainer(system string) bool { return surroundings(system) != "" }

// surroundings names what tells of a container around, "" for nothing: docker's and podman's marks, Kubernetes' environment,
// and the variable that systemd's rules for containers ask engines to set.
func surroundings(system string) string {
	for _, mark := range []string{"/.dockerenv", "/run/.containerenv"} {
		if _, err := os.Stat(filepath.Join(system, mark)); err == nil {
			return mark
		}
	}
	for _, name := range []string{"KUBERNETES_SERVICE_HOST", "container"} {
		if os.Getenv(name) != "" {
			return "$" + name
		}
	}
	if filesystem(filepath.Join("/", system)) == "overlayfs" {
		return "its root is an overlay"
	}
	return ""
}

// clock: certificates, cache and tags all believe the clock. It cannot be earlier than the program.
func clock(_ context.Context, _ Options) Check {
	const name = "clock"
	now := time.Now()
	exe, err := os.Executable()
	if err != nil {
		return ok(name, now.Format(time.RFC3339))
	}
	if st, err := os.Stat(exe); err == nil && now.Before(st.ModTime().Add(-24*time.Hour)) {
		return warn(name, now.Format(time.RFC3339)+" is before strata itself was made", "sudo timedatectl set-ntp true")
	}
	if now.Year() < 2025 {
		return warn(name, now.Format(time.RFC3339)+" is in the past", "sudo timedatectl set-ntp true")
	}
	return ok(name, now.Format(time.RFC3339))
}
