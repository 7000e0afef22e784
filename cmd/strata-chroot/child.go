//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"strata/internal/mount"
)

// becomeContainer is the process that becomes the container's first: orders come by descriptor 3, a failure goes to 4, which
// closes when the command is executed.
func becomeContainer() int {
	unix.CloseOnExec(3)
	unix.CloseOnExec(4)
	failure := os.NewFile(4, "failure")
	var o order
	err := json.NewDecoder(os.NewFile(3, "orders")).Decode(&o)
	if err == nil {
		err = o.become()
	}
	fmt.Fprint(failure, err)
	return 1
}

// become does not return unless it fails. All is done to the calling thread, which then executes the command: that one's
// rights are what counts.
func (o *order) become() error {
	if o.Terminal {
		if err := unix.IoctlSetInt(0, unix.TIOCSCTTY, 0); err != nil {
			return fmt.Errorf("terminal: %w", err)
		}
	}
	if adj := o.Process.OOMScoreAdj; adj != nil {
		_ = os.WriteFile("/proc/self/oom_score_adj", fmt.Append(nil, *adj), 0) // lowering it takes a capability
	}
	if err := o.enter(); err != nil {
		return err
	}
	if err := setLimits(o.Process.Rlimits); err != nil {
		return err
	}
	if err := unix.Chdir(o.Process.Cwd); err != nil {
		return fmt.Errorf("chdir to cwd (%q): %w", o.Process.Cwd, err)
	}
	program, err := find(o.Process)
	if err != nil {
		return err
	}
	if err := o.rights(); err != nil {
		return err
	}
	// Descriptors that whoever started us left open are none of the container's.
	if err := unix.CloseRange(3, ^uint(0)>>1&0x7fffffff, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close_range: %w", err)
	}
	if o.Dies { // a change of user has cleared it
		if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
			return err
		}
	}
	err = unix.Exec(program, o.Process.Args, o.Process.Env)
	return fmt.Errorf("exec %s: %w", program, err)
}

// enter changes the root.
func (o *order) enter() error {
	umask := 0o022
	if u := o.Process.User.Umask; u != nil {
		umask = int(*u)
	}
	defer unix.Umask(umask)
	if o.Join > 0 {
		return o.join()
	}
	if len(o.Mounts) > 0 {
		if err := mountAll(o.Tree, o.Mounts); err != nil {
			return err
		}
	}
	if err := unix.Chroot(o.Tree); err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	return unix.Chdir("/")
}

// join takes the mount namespace and the root of another of the container's processes.
func (o *order) join() error {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", o.Join))
	if err != nil {
		return err
	}
	defer ns.Close()
	root, err := unix.Open(fmt.Sprintf("/proc/%d/root", o.Join), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	if err := errors.Join(unix.Unshare(unix.CLONE_FS), unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS), unix.Fchdir(root)); err != nil {
		return fmt.Errorf("joining the container: %w", err)
	}
	return unix.Chroot(".")
}

// The kernel's numbers of the resources that can be limited.
var resources = map[string]int{
	"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_CPU": unix.RLIMIT_CPU, "RLIMIT_DATA": unix.RLIMIT_DATA,
	"RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS, "RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK,
	"RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE, "RLIMIT_NOFILE": unix.RLIMIT_NOFILE,
	"RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_RSS": unix.RLIMIT_RSS, "RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO,
	"RLIMIT_RTTIME": unix.RLIMIT_RTTIME, "RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING, "RLIMIT_STACK": unix.RLIMIT_STACK,
}

func setLimits(limits []specs.POSIXRlimit) error {
	for _, l := range limits {
		n, ok := resources[l.Type]
		if !ok {
			return fmt.Errorf("rlimit %s: unknown", l.Type)
		}
		if err := unix.Prlimit(0, n, &unix.Rlimit{Cur: l.Soft, Max: l.Hard}, nil); err != nil {
			return fmt.Errorf("rlimit %s: %w", l.Type, err)
		}
	}
	return nil
}

// harmless are the capabilities that a process may have that only chroot holds: none with which it could leave the tree or
// reach other processes.
var harmless = map[string]int{
	"CAP_CHOWN": unix.CAP_CHOWN, "CAP_DAC_OVERRIDE": unix.CAP_DAC_OVERRIDE, "CAP_FOWNER": unix.CAP_FOWNER, "CAP_FSETID": unix.CAP_FSETID,
	"CAP_SETGID": unix.CAP_SETGID, "CAP_SETUID": unix.CAP_SETUID, "CAP_SETPCAP": unix.CAP_SETPCAP,
	"CAP_NET_BIND_SERVICE": unix.CAP_NET_BIND_SERVICE, "CAP_SETFCAP": unix.CAP_SETFCAP, "CAP_AUDIT_WRITE": unix.CAP_AUDIT_WRITE,
}

// rights gives the process its user, groups and capabilities.
func (o *order) rights() error {
	var keep uint64
	if caps := o.Process.Capabilities; caps != nil {
		for _, name := range caps.Bounding {
			if n, ok := harmless[name]; ok {
				keep |= 1 << n
			}
		}
	}
	for n := range 64 {
		if keep&(1<<n) != 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(n), 0, 0, 0); err == unix.EINVAL {
			break // the kernel knows no more
		} else if err != nil {
			return fmt.Errorf("dropping a capability: %w", err)
		}
	}
	user := o.Process.User
	groups := make([]int, len(user.AdditionalGids))
	for i, g := range user.AdditionalGids {
		groups[i] = int(g)
	}
	if err := unix.Setgroups(groups); err != nil && (len(groups) > 0 || err != unix.EPERM) {
		return fmt.Errorf("setgroups: %w", err)
	}
	if err := unix.Setresgid(int(user.GID), int(user.GID), int(user.GID)); err != nil {
		return fmt.Errorf("setgid %d: %w", user.GID, err)
	}
	if err := unix.Setresuid(int(user.UID), int(user.UID), int(user.UID)); err != nil {
		return fmt.Errorf("setuid %d: %w", user.UID, err)
	}
	if user.UID == 0 {
		if err := setCaps(keep); err != nil {
			return err
		}
	}
	if o.Process.NoNewPrivileges {
		return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	}
	return nil
}

// setCaps leaves the thread those of its capabilities that are in keep, none of them inheritable.
func setCaps(keep uint64) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("capget: %w", err)
	}
	for i := range data {
		have := data[i].Permitted & uint32(keep>>(32*i))
		data[i] = unix.CapUserData{Effective: have, Permitted: have}
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	return nil
}

// find looks the command up as a shell would, in the container's own $PATH.
func find(p *specs.Process) (string, error) {
	name := p.Args[0]
	if strings.Contains(name, "/") {
		return name, executable(name, name)
	}
	i := slices.IndexFunc(p.Env, func(e string) bool { return strings.HasPrefix(e, "PATH=") })
	if i < 0 {
		return "", fmt.Errorf("exec: %q: executable file not found in $PATH", name)
	}
	var denied error
	for _, dir := range filepath.SplitList(strings.TrimPrefix(p.Env[i], "PATH=")) {
		path := filepath.Join(dir, name)
		err := executable(path, name)
		if err == nil {
			return path, nil
		}
		if errors.Is(err, unix.EACCES) {
			denied = err
		}
	}
	if denied != nil {
		return "", denied
	}
	return "", fmt.Errorf("exec: %q: executable file not found in $PATH", name)
}

func executable(path, name string) error {
	st, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("exec: %q: %w", name, err)
	}
	if st.IsDir() || st.Mode()&0o111 == 0 {
		return fmt.Errorf("exec: %q: %w", name, unix.EACCES)
	}
	return nil
}

// mountAll mounts what the bundle names, in a mount namespace that this process has already. What belongs to the kernel is
// shown as the surroundings have it.
func mountAll(tree string, mounts []specs.Mount) error {
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount namespace: %w", err)
	}
	for _, m := range mounts {
		if err := mountOne(tree, m); err != nil {
			return fmt.Errorf("mounting %q at %q: %w", m.Source, m.Destination, err)
		}
	}
	return nil
}

func mountOne(tree string, m specs.Mount) error {
	at, err := openIn(tree, m.Destination)
	if errors.Is(err, unix.ENOENT) && strings.HasPrefix(m.Destination, "/dev/") {
		return nil // what the surroundings do not have
	}
	if err != nil {
		return err
	}
	defer at.Close()
	readonly := slices.Contains(m.Options, "ro")
	switch m.Type {
	case "bind":
		return mount.BindOn(m.Source, at, nil, readonly, true)
	case "proc":
		return mount.BindOn("/proc", at, nil, false, true)
	case "sysfs":
		return mount.BindOn("/sys", at, nil, true, true)
	case "tmpfs":
		if m.Destination == "/dev" {
			return mount.BindOn("/dev", at, nil, false, true)
		}
		return mountTmpfs(at, m)
	}
	return nil // devpts and mqueue come with /dev; there are no control groups
}

func mountTmpfs(at *os.File, m specs.Mount) error {
	var data []string
	var flags uintptr
	known := map[string]uintptr{"nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC, "ro": unix.MS_RDONLY}
	for _, o := range m.Options {
		switch f, ok := known[o]; {
		case ok:
			flags |= f
		case strings.HasPrefix(o, "mode="), strings.HasPrefix(o, "size="), strings.HasPrefix(o, "uid="), strings.HasPrefix(o, "gid="):
			data = append(data, o)
		}
	}
	return unix.Mount("tmpfs", fmt.Sprintf("/proc/self/fd/%d", at.Fd()), "tmpfs", flags, strings.Join(data, ","))
}

// openIn opens a place in the tree as a process chrooted there would find it.
func openIn(tree, path string) (*os.File, error) {
	dir, err := unix.Open(tree, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, path, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}
