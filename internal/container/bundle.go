package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"strata/internal/errdef"
	"strata/internal/mount"
	"strata/internal/rootfs"
	"strata/internal/runtime"
)

// initPath is where the helper for --init is seen in the container, as docker has it.
const initPath = "/sbin/docker-init"

// prepare mounts the container's tree and writes its bundle; it runs inside mount.Private. It notes in rec the mount
// points that it had to make.
func (s *Store) prepare(ctx context.Context, rec *Record, n nets) (bundle string, err error) {
	bundle, target := s.bundleDir(rec.ID), s.treeDir(rec.ID)
	if err := os.MkdirAll(target, 0o700); err != nil {
		return "", err
	}
	m := rootfs.Mount{Target: target, Writable: s.Dir(rec.ID), Volatile: rec.Host.AutoRemove}
	var spec *specs.Spec
	err = s.mountWith(*rec, m, n.users, func(root *rootfs.Root) (err error) {
		if err := runtime.Ordinary(root); err != nil {
			return err
		}
		if spec, err = s.spec(ctx, *rec, n, root, target); err != nil {
			return err
		}
		if err := makeStubs(rec, root, spec.Mounts); err != nil {
			return err
		}
		return makeCwd(root, spec)
	})
	if err == nil && n.users != nil {
		err = s.letIn(rec.ID, target)
	}
	if err != nil {
		return "", err
	}
	return bundle, runtime.WriteBundle(bundle, spec)
}

// mountWith mounts the container's tree and has prepare look at it and put what lacks into it. For a container in a user namespace it is mounted twice:
// only where owners are what they are on the disk can ours be written.
func (s *Store) mountWith(rec Record, m rootfs.Mount, users *mount.Users, prepare func(root *rootfs.Root) error) error {
	first := m
	first.Volatile = m.Volatile || users != nil // what is written is in the page cache all the same when it is mounted again
	if err := s.opt.Rootfs.Mount(rec.Layers, first); err != nil {
		return err
	}
	root, err := rootfs.OpenRoot(m.Target)
	if err == nil {
		err = errors.Join(prepare(root), root.Close())
	}
	if err != nil {
		return errors.Join(err, s.opt.Rootfs.Unmount(first))
	}
	if users == nil {
		return nil
	}
	if err := s.opt.Rootfs.Unmount(first); err != nil {
		return err
	}
	m.Users = users
	if err := s.opt.Rootfs.Mount(rec.Layers, m); err != nil {
		return errdef.WithHint(fmt.Errorf("a user namespace needs mounts with mapped owners (Linux 6.15, and a file system that has them): %w", err), "--userns host")
	}
	return nil
}

// treeDir is where the container's tree is mounted, in its supervisor's mount namespace.
func (s *Store) treeDir(id string) string { return filepath.Join(s.RunDir(id), "rootfs") }

func (s *Store) bundleDir(id string) string { return filepath.Join(s.RunDir(id), "bundle") }

func (s *Store) spec(ctx context.Context, rec Record, n nets, root *rootfs.Root, target string) (*specs.Spec, error) {
	c, h := rec.Config, rec.Host
	user, err := runtime.LookupUser(root, c.User, h.Access.GroupAdd)
	if err != nil {
		return nil, err
	}
	if err := h.Access.IDs.has(user); err != nil {
		return nil, err
	}
	mounts, err := s.mounts(ctx, rec, n, root)
	if err != nil {
		return nil, err
	}
	if err := s.enforceable(h.Resources); err != nil {
		return nil, err
	}
	resources, err := s.limits(h.Resources)
	if err != nil {
		return nil, err
	}
	args := slices.Concat(c.Entrypoint, c.Cmd)
	if h.Init {
		args = append([]string{initPath, "--"}, args...)
	}
	spec, err := runtime.Spec(runtime.Params{
		Process: runtime.Process{
			Args: args, Env: environment(c, user.Home), Cwd: path.Clean(c.WorkingDir),
			UID: user.UID, GID: user.GID, Groups: user.Groups,
			Terminal: c.Tty, Width: uint(h.ConsoleWidth), Height: uint(h.ConsoleHeight), Caps: capabilities(h, n.host),
			NoNewPrivileges: h.Access.Security.NoNewPrivileges, Rlimits: rlimits(h.Access.Ulimits), OOMScoreAdj: set(h.Access.OOMScoreAdj),
		},
		RootPath: target, ReadOnly: h.ReadonlyRootfs, Hostname: c.Hostname, Domainname: c.Domainname, Mounts: mounts,
		HostNetwork: n.host, NetworkPath: n.sandbox.Path(), UserPath: usersPath(n.users), Seccomp: !h.Privileged, Privileged: h.Privileged,
		Rootless: s.opt.Userns, SingleID: s.opt.SingleID, ShmSize: h.ShmSize,
		Resources: resources, CgroupPath: cgroupPath(rec.ID), Annotations: h.Access.Annotations,
	})
	if err != nil {
		return nil, err
	}
	// The umask of whoever started us is none of the container's.
	umask := uint32(0o022)
	spec.Process.User.Umask = &umask
	if err := s.extend(spec, rec); err != nil {
		return nil, err
	}
	if h.Access.IDs != nil {
		openPing(spec, rec)
	}
	spec.Mounts = lastWins(spec.Mounts)
	return spec, nil
}

// cgroupPath is where a container's control group is made. In the one hierarchy of version 2 that is a place of our own,
// which no session manager takes for its own; with version 1 it is the runtime's choice, below the caller's groups.
func cgroupPath(id string) string {
	if runtime.UnifiedCgroups() {
		return "/strata/" + id
	}
	return ""
}

// environment is docker's: PATH, HOSTNAME, TERM and HOME where the container's own environment does not set them.
func environment(c Config, home string) []string {
	base := []string{"PATH=" + runtime.DefaultPath, "HOSTNAME=" + c.Hostname}
	if c.Tty {
		base = append(base, "TERM=xterm")
	}
	named := func(e string) string { n, _, _ := strings.Cut(e, "="); return n }
	own := map[string]bool{}
	for _, e := range c.Env {
		own[named(e)] = true
	}
	env := slices.DeleteFunc(base, func(e string) bool { return own[named(e)] })
	for _, e := range c.Env {
		if strings.Contains(e, "=") { // a name alone means "not set"
			env = append(env, e)
		}
	}
	return mergeEnv(env, []string{"HOME=" + first(home, "/")})
}

func capabilities(h HostConfig, hostNetwork bool) []string {
	caps := runtime.ContainerCaps(!hostNetwork)
	if h.Privileged || hasCap(h.CapAdd, "ALL") {
		caps = runtime.AllCaps()
	}
	if hasCap(h.CapDrop, "ALL") {
		caps = nil
	}
	for _, c := range h.CapAdd {
		if c = capName(c); c != "CAP_ALL" && !slices.Contains(caps, c) {
			caps = append(slices.Clone(caps), c)
		}
	}
	return slices.DeleteFunc(slices.Clone(caps), func(c string) bool { return hasCap(h.CapDrop, c) })
}

func capName(c string) string {
	c = strings.ToUpper(c)
	if !strings.HasPrefix(c, "CAP_") {
		c = "CAP_" + c
	}
	return c
}

func hasCap(list []string, c string) bool {
	return slices.ContainsFunc(list, func(o string) bool { return capName(o) == capName(c) })
}

// mounts lists what is mounted into the container beside the runtime's defaults, outer paths first.
func (s *Store) mounts(ctx context.Context, rec Record, n nets, root *rootfs.Root) ([]specs.Mount, error) {
	mounts, err := s.etcFiles(rec, n)
	if err != nil {
		return nil, err
	}
	for i := range mounts {
		if n.users == nil {
			break
		}
		if err := mapOwners(&mounts[i], n.users); err != nil {
			return nil, err
		}
	}
	if rec.Host.Init {
		program, err := s.initProgram()
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, specs.Mount{Destination: initPath, Type: "bind", Source: program, Options: []string{"bind", "rprivate", "ro"}})
	}
	users, err := s.volumeMounts(ctx, rec, n, root)
	if err != nil {
		return nil, err
	}
	for i, m := range rec.Host.Images {
		source, err := s.showImage(rec, m, i, n.users)
		if err != nil {
			return nil, fmt.Errorf("image %s at %s: %w", m.Image, m.Destination, err)
		}
		users = append(users, specs.Mount{Destination: m.Destination, Type: "bind", Source: source, Options: bindOptions(Bind{ReadOnly: true})})
	}
	for _, b := range rec.Host.Binds {
		m, err := bindMount(b)
		if err == nil {
			err = sameKind(root, b)
		}
		if err == nil && b.Idmap && n.users != nil {
			err = mapOwners(&m, n.users)
		}
		if err != nil {
			return nil, err
		}
		users = append(users, m)
	}
	users = append(users, tmpfsMounts(rec)...)
	hidden, err := s.secrets(rec)
	if err != nil {
		return nil, err
	}
	users = append(users, hidden...)
	slices.SortStableFunc(users, func(a, b specs.Mount) int {
		return strings.Count(a.Destination, "/") - strings.Count(b.Destination, "/")
	})
	return append(mounts, users...), nil
}

// volumeMounts shows the container's volumes.
func (s *Store) volumeMounts(ctx context.Context, rec Record, n nets, root *rootfs.Root) (mounts []specs.Mount, err error) {
	for i, v := range rec.Volumes {
		m := specs.Mount{Destination: v.Destination, Type: "bind", Options: bindOptions(Bind{ReadOnly: v.ReadOnly})}
		if m.Source, err = s.showVolume(ctx, rec, root, v, i); err == nil && n.users != nil {
			err = mapOwners(&m, n.users)
		}
		if err != nil {
			return nil, fmt.Errorf("volume %s at %s: %w", v.Name, v.Destination, err)
		}
		mounts = append(mounts, m)
	}
	return mounts, nil
}

func tmpfsMounts(rec Record) (mounts []specs.Mount) {
	for _, dest := range slices.Sorted(maps.Keys(rec.Host.Tmpfs)) {
		options := []string{"noexec", "nosuid", "nodev"}
		if o := rec.Host.Tmpfs[dest]; o != "" {
			options = append(options, strings.Split(o, ",")...)
		}
		// Without a mode the runtime takes that of the mount point, which it may just have made.
		if !slices.ContainsFunc(options, func(o string) bool { return strings.HasPrefix(o, "mode=") }) {
			options = append(options, "mode=1777")
		}
		mounts = append(mounts, specs.Mount{Destination: path.Clean(dest), Type: "tmpfs", Source: "tmpfs", Options: options})
	}
	return mounts
}

func bindMount(b Bind) (specs.Mount, error) {
	_, err := os.Stat(b.Source)
	if errors.Is(err, fs.ErrNotExist) && b.CreateSource {
		err = makeShown(b.Source)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return specs.Mount{}, fmt.Errorf("bind source path does not exist: %s: %w", b.Source, errdef.ErrInvalid)
	}
	if err != nil {
		return specs.Mount{}, fmt.Errorf("bind source: %w", err)
	}
	return specs.Mount{Destination: b.Destination, Type: "bind", Source: b.Source, Options: bindOptions(b)}, nil
}

func bindOptions(b Bind) []string {
	options := []string{"rbind", first(b.Propagation, "rprivate")}
	if b.NonRecursive {
		options[0] = "bind"
	}
	if b.ReadOnly {
		options = append(options, "ro")
	}
	return options
}

// lastWins drops a mount that a later one at the same place would hide: what the user mounts replaces a default.
func lastWins(mounts []specs.Mount) []specs.Mount {
	last := map[string]int{}
	for i, m := range mounts {
		last[path.Clean(m.Destination)] = i
	}
	var kept []specs.Mount
	for i, m := range mounts {
		if last[path.Clean(m.Destination)] == i {
			kept = append(kept, m)
		}
	}
	return kept
}

// containerMark is the empty file by which programs tell that they run in a container: docker's.
const containerMark = "/.dockerenv"

// makeStubs makes the mount points that the image lacks, and the mark, so that they are known and a commit leaves them out. Those
// below another mount are in that one's file system and not in the container's layer.
func makeStubs(rec *Record, root *rootfs.Root, mounts []specs.Mount) error {
	var stubs []rootfs.Stub
	for i, m := range mounts {
		if below(m.Destination, mounts[:i]) {
			continue
		}
		dir := true
		if m.Type == "bind" {
			info, err := os.Stat(m.Source)
			if err != nil {
				return fmt.Errorf("mount at %s: %w", m.Destination, err)
			}
			dir = info.IsDir()
		}
		stubs = append(stubs, rootfs.Stub{Path: m.Destination, Dir: dir})
	}
	stubs = append(stubs, rootfs.Stub{Path: containerMark})
	made, err := root.Stubs(stubs)
	for _, p := range made {
		if !slices.Contains(rec.Stubs, p) {
			rec.Stubs = append(rec.Stubs, p)
		}
	}
	return err
}

func below(dest string, mounts []specs.Mount) bool {
	return slices.ContainsFunc(mounts, func(m specs.Mount) bool {
		return strings.HasPrefix(path.Clean(dest), path.Clean(m.Destination)+"/")
	})
}
