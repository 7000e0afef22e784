package doctor

import (
	"context"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"strata/internal/beside"
	"strata/internal/errdef"
	"strata/internal/network"
	"strata/internal/userns"
)

// outside is the user that strata was started by.
func outside() int {
	if userns.Active() {
		return int(userns.Idmap().UIDs[0].Outside)
	}
	return os.Geteuid()
}

// appArmor: Ubuntu's setting takes from a plain user's namespace what it is made for.
func appArmor(_ context.Context, o Options) Check {
	const name = "apparmor"
	restricted := o.read("proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1"
	switch {
	case restricted && plain() && !userns.Active():
		return fail(name, "restricts user namespaces of plain users", "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0   (or an AppArmor profile for strata with the rule userns)")
	case restricted:
		return ok(name, "restricts user namespaces of plain users, which is no hindrance here")
	}
	return ok(name, "leaves user namespaces alone")
}

// runtimeDir: what lives as long as a login. A session made by su or sudo lacks it, or has another user's.
func runtimeDir(_ context.Context, o Options) Check {
	const name = "XDG_RUNTIME_DIR"
	dir := os.Getenv(name)
	uid := outside()
	fix := "export XDG_RUNTIME_DIR=/run/user/" + strconv.Itoa(uid) + "   (or log in through systemd: machinectl shell " + userName(uid) + "@)"
	switch {
	case uid == 0:
		return ok(name, "not needed by root")
	case o.Run != "" || os.Getenv("STRATA_RUN") != "" && !userns.Active():
		return ok(name, "not used: the run directory is named")
	case dir == "":
		return warn(name, "not set: running state is kept below /tmp", fix)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return warn(name, dir+": "+err.Error()+": running state is kept below /tmp", fix)
	}
	if int(st.Uid) != os.Geteuid() || unix.Access(dir, unix.W_OK) != nil {
		return warn(name, dir+" is not yours: running state is kept below /tmp", fix)
	}
	return ok(name, dir)
}

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return strconv.Itoa(uid)
}

// linger: systemd empties a user's run directory at the last logout, and may end what he left running.
func linger(_ context.Context, o Options) Check {
	const name = "linger"
	uid := outside()
	if uid == 0 {
		return ok(name, "not needed by root")
	}
	if _, err := os.Stat(o.path("run/systemd/system")); err != nil {
		return ok(name, "no systemd that would end a user's processes")
	}
	who := userName(uid)
	if _, err := os.Stat(o.path("var/lib/systemd/linger", who)); err != nil {
		return warn(name, "off: containers end with your last login", "loginctl enable-linger "+who)
	}
	return ok(name, "on: containers outlive a login")
}

// networks tells whether containers get networks of their own, and with what a plain user's reach the world.
func networks(_ context.Context, o Options) Check {
	const name = "networks"
	s := network.Open(network.Options{
		Dir: filepath.Join(o.Root, "networks"), Run: o.Run, Userns: userns.Active(), Helper: beside.Find("strata-net"),
	})
	err := s.Available()
	switch {
	case err == nil && userns.Active():
		return wayOut(name, s)
	case err == nil:
		return ok(name, "containers have networks of their own")
	case userns.Active():
		fix := errdef.Hint(err)
		if fix == "" {
			fix = "strata run --network host …"
		}
		return warn(name, "containers share this machine's network: "+err.Error(), fix)
	}
	return warn(name, "containers share this machine's network: "+err.Error(), "run strata as root, or start the surrounding container with --cap-add NET_ADMIN,SYS_ADMIN")
}

// wayOut tells which program leads out of a plain user's networks.
func wayOut(name string, s *network.Store) Check {
	way, err := s.WayOut()
	if err != nil {
		return warn(name, err.Error(), errdef.Hint(err))
	}
	return ok(name, "containers have networks of their own; "+way.Name+" leads out of them")
}
