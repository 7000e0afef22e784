package runtime

import (
	"fmt"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/cdi"
	"tags.cncf.io/container-device-interface/pkg/parser"
	cdispec "tags.cncf.io/container-device-interface/specs-go"

	"strata/internal/errdef"
)

// Devices are the devices that a machine's administrator described for containers (Container Device Interface, CDI: files
// .json and .yaml in /etc/cdi and /var/run/cdi). A description says which device nodes, mounts, variables and hooks a
// device needs inside a container.
type Devices struct {
	cache *cdi.Cache
	dirs  []string
}

// IsDeviceName reports whether s names a device in full, "vendor/class=device", and is no path.
func IsDeviceName(s string) bool { return parser.IsQualifiedName(s) }

// OpenDevices reads the descriptions in dirs, later directories winning over earlier ones; no dirs are the standard's own.
func OpenDevices(dirs []string) *Devices {
	if len(dirs) == 0 {
		dirs = cdi.DefaultSpecDirs
	}
	// The error is always nil, says its documentation; a file that cannot be read is told of when a device is not found.
	cache, _ := cdi.NewCache(cdi.WithSpecDirs(dirs...), cdi.WithAutoRefresh(false))
	return &Devices{cache, dirs}
}

// Find gives the full names of the devices that name stands for: vendor/class=device is one, vendor/class=* all of a class,
// vendor/class the first of it. errdef.ErrNotFound when there is none.
func (d *Devices) Find(name string) ([]string, error) {
	known := d.cache.ListDevices() // sorted
	class, device, qualified := strings.Cut(name, "=")
	if qualified && device != "*" {
		if slices.Contains(known, name) {
			return []string{name}, nil
		}
		return nil, d.unknown(name, known)
	}
	var all []string
	for _, k := range known {
		if strings.HasPrefix(k, class+"=") {
			all = append(all, k)
		}
	}
	if len(all) == 0 {
		return nil, d.unknown(name, known)
	}
	if !qualified {
		all = all[:1]
	}
	return all, nil
}

// unknown says what there is instead, and which descriptions could not be read.
func (d *Devices) unknown(name string, known []string) error {
	err := fmt.Errorf("device %q is not described in %s: %w", name, strings.Join(d.dirs, " or "), errdef.ErrNotFound)
	broken := d.cache.GetErrors()
	files := make([]string, 0, len(broken))
	for file := range broken {
		files = append(files, file)
	}
	slices.Sort(files)
	switch {
	case len(files) > 0:
		return errdef.WithHint(err, fmt.Sprintf("%s cannot be read: %v", files[0], broken[files[0]][0]))
	case len(known) > 0:
		return errdef.WithHint(err, "known are "+strings.Join(known, ", "))
	}
	return errdef.WithHint(err, "the device's vendor has a program that writes its description, as: nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml")
}

// Inject gives the container of spec the devices names, full names that Find gave. rootless says that device nodes cannot
// be made: then those of the machine are shown.
func (d *Devices) Inject(spec *specs.Spec, names []string, rootless bool) error {
	if len(names) == 0 {
		return nil
	}
	if _, err := d.cache.InjectDevices(spec, names...); err != nil {
		return fmt.Errorf("devices %s: %w", strings.Join(names, ", "), err)
	}
	for i, m := range spec.Mounts {
		if m.Type == "" { // as descriptions mostly leave it
			spec.Mounts[i].Type = "bind"
		}
	}
	if rootless {
		for _, name := range names {
			device := d.cache.GetDevice(name)
			showNodes(spec, device.GetSpec().ContainerEdits.DeviceNodes)
			showNodes(spec, device.ContainerEdits.DeviceNodes)
		}
	}
	return nil
}

// showNodes mounts the machine's device nodes that have another path in the container. The runtime itself does so with those
// that have the same one.
func showNodes(spec *specs.Spec, nodes []*cdispec.DeviceNode) {
	for _, n := range nodes {
		if n.HostPath == "" || n.HostPath == n.Path {
			continue
		}
		spec.Linux.Devices = slices.DeleteFunc(spec.Linux.Devices, func(d specs.LinuxDevice) bool { return d.Path == n.Path })
		spec.Mounts = append(spec.Mounts, specs.Mount{Destination: n.Path, Type: "bind", Source: n.HostPath, Options: []string{"bind", "rprivate"}})
	}
}
