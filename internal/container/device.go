package container

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// Device shows a device of the host, or all below a directory, in the container.
type Device struct {
	Path        string // on the host
	Container   string // absolute
	Permissions string // of the letters r, w and m
}

// ParseDevice reads "HOST[:CONTAINER][:PERMISSIONS]".
func ParseDevice(s string) (Device, error) {
	parts := strings.Split(s, ":")
	d := Device{Path: parts[0], Container: parts[0], Permissions: "rwm"}
	switch {
	case len(parts) == 3:
		d.Container, d.Permissions = parts[1], parts[2]
	case len(parts) == 2 && validPermissions(parts[1]):
		d.Permissions = parts[1]
	case len(parts) == 2:
		d.Container = parts[1]
	}
	if len(parts) > 3 || !path.IsAbs(d.Path) || !path.IsAbs(d.Container) || !validPermissions(d.Permissions) {
		return d, fmt.Errorf("device %q: want HOST[:CONTAINER][:PERMISSIONS], absolute paths and permissions of r, w and m: %w", s, errdef.ErrInvalid)
	}
	return d, nil
}

func validPermissions(s string) bool {
	return s != "" && len(s) <= 3 && strings.Trim(s, "rwm") == "" && strings.Count(s, "r") <= 1 && strings.Count(s, "w") <= 1 && strings.Count(s, "m") <= 1
}

// parseDeviceRule reads "c 1:3 rwm", with * for any number.
func parseDeviceRule(s string) (specs.LinuxDeviceCgroup, error) {
	bad := fmt.Errorf("invalid device cgroup format %q: want TYPE MAJOR:MINOR PERMISSIONS, as in 'c 13:* rwm': %w", s, errdef.ErrInvalid)
	f := strings.Fields(s)
	if len(f) != 3 || !slices.Contains([]string{"a", "b", "c"}, f[0]) || !validPermissions(f[2]) {
		return specs.LinuxDeviceCgroup{}, bad
	}
	rule := specs.LinuxDeviceCgroup{Allow: true, Type: f[0], Access: f[2]}
	major, minor, ok := strings.Cut(f[1], ":")
	for _, n := range []struct {
		text string
		into **int64
	}{{major, &rule.Major}, {minor, &rule.Minor}} {
		if n.text == "*" {
			continue
		}
		v, err := strconv.ParseUint(n.text, 10, 32)
		if err != nil || !ok {
			return rule, bad
		}
		number := int64(v)
		*n.into = &number
	}
	return rule, nil
}

// devices gives the container its devices: nodes of its own and the right to use them; where no node can be made, the
// host's shown.
func (s *Store) devices(spec *specs.Spec, rec Record) error {
	a := rec.Host.Access
	list := a.Devices
	if rec.Host.Privileged {
		list = append(hostDevices(), list...)
	}
	for _, d := range list {
		if err := s.device(spec, d, rec.Host.Privileged); err != nil {
			return err
		}
	}
	if err := s.described(spec, a.CDI); err != nil {
		return err
	}
	for _, text := range a.DeviceRules {
		rule, err := parseDeviceRule(text)
		if err != nil {
			return err
		}
		if err := s.allow(spec, rule, text); err != nil {
			return err
		}
	}
	return nil
}

// described gives the container the devices of the names of the Container Device Interface.
func (s *Store) described(spec *specs.Spec, names []string) error {
	if len(names) == 0 {
		return nil
	}
	known, err := s.opt.Devices()
	if err != nil {
		return err
	}
	var all []string
	for _, name := range names {
		found, err := known.Find(name)
		if err != nil {
			return err
		}
		all = append(all, found...)
	}
	return known.Inject(spec, all, s.opt.Userns)
}

// allow adds a rule of use. A plain user's containers have no such rules: what their user may use they may.
func (s *Store) allow(spec *specs.Spec, rule specs.LinuxDeviceCgroup, text string) error {
	if s.opt.Userns {
		return fmt.Errorf("device rule %q: a plain user's control groups rule no devices: %w", text, errdef.ErrUnsupported)
	}
	spec.Linux.Resources.Devices = append(spec.Linux.Resources.Devices, rule)
	return nil
}

// device adds one device, or those below a directory.
func (s *Store) device(spec *specs.Spec, d Device, lenient bool) error {
	nodes, err := deviceNodes(d)
	if err != nil && !lenient {
		return err
	}
	for _, n := range nodes {
		if s.opt.Userns {
			spec.Mounts = append(spec.Mounts, specs.Mount{Destination: n.Path, Type: "bind", Source: n.host, Options: []string{"bind", "rprivate", "nosuid", "noexec"}})
			continue
		}
		spec.Linux.Devices = append(spec.Linux.Devices, n.LinuxDevice)
		if !lenient {
			rule := specs.LinuxDeviceCgroup{Allow: true, Type: n.Type, Major: &n.Major, Minor: &n.Minor, Access: d.Permissions}
			spec.Linux.Resources.Devices = append(spec.Linux.Resources.Devices, rule)
		}
	}
	return nil
}

// node is a device node and where the host has it.
type node struct {
	specs.LinuxDevice
	host string
}

// deviceNodes are the nodes at a path of the host.
func deviceNodes(d Device) ([]node, error) {
	if n, err := deviceNode(d.Path, d.Container); err == nil {
		return []node{n}, nil
	}
	info, err := os.Stat(d.Path)
	if err != nil {
		return nil, fmt.Errorf("error gathering device information while adding custom device %q: %w: %w", d.Path, err, errdef.ErrInvalid)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("device %q: it is no device: %w", d.Path, errdef.ErrInvalid)
	}
	var all []node
	err = filepath.WalkDir(d.Path, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil //nolint:nilerr // what cannot be looked at is no device for the container
		}
		if n, err := deviceNode(p, path.Join(d.Container, strings.TrimPrefix(p, d.Path))); err == nil {
			all = append(all, n)
		}
		return nil
	})
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("device %q: there is no device below that directory: %w", d.Path, errdef.ErrInvalid)
	}
	return all, err
}

// deviceNode is the node at a path, which may be a link to it.
func deviceNode(host, inside string) (node, error) {
	var st unix.Stat_t
	if err := unix.Stat(host, &st); err != nil {
		return node{}, err
	}
	kind := ""
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		kind = "c"
	case unix.S_IFBLK:
		kind = "b"
	default:
		return node{}, errdef.ErrInvalid
	}
	mode := fs.FileMode(st.Mode &^ unix.S_IFMT)
	return node{host: host, LinuxDevice: specs.LinuxDevice{
		Path: path.Clean(inside), Type: kind, Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)), FileMode: &mode, UID: &st.Uid, GID: &st.Gid,
	}}, nil
}

// hostDevices are the devices of a privileged container: all, but what is of the container's own /dev.
func hostDevices() []Device {
	entries, err := os.ReadDir("/dev")
	if err != nil {
		return nil
	}
	var all []Device
	for _, e := range entries {
		p := "/dev/" + e.Name()
		own := []string{"pts", "shm", "fd", "mqueue", "console", "null", "zero", "full", "random", "urandom", "tty", "ptmx", ".lxc", ".lxd-mounts", ".udev"}
		if slices.Contains(own, e.Name()) || e.Type()&fs.ModeSymlink != 0 {
			continue
		}
		all = append(all, Device{Path: p, Container: p, Permissions: "rwm"})
	}
	return all
}
