package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"strata/internal/errdef"
)

// IsCDI reports whether a --device names a device of the Container Device Interface, "vendor.com/class=name", and no path.
func IsCDI(name string) bool {
	kind, device, ok := strings.Cut(name, "=")
	vendor, class, two := strings.Cut(kind, "/")
	return ok && two && device != "" && vendor != "" && class != "" && !strings.Contains(class, "/") && !strings.ContainsAny(name, ": \t")
}

// cdiSpec is a file of the interface: https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md.
type cdiSpec struct {
	Kind           string    `json:"kind"`
	Devices        []cdiUnit `json:"devices"`
	ContainerEdits cdiEdits  `json:"containerEdits"`
}

type cdiUnit struct {
	Name           string   `json:"name"`
	ContainerEdits cdiEdits `json:"containerEdits"`
}

// cdiEdits are what a device adds to a container.
type cdiEdits struct {
	Env         []string `json:"env"`
	DeviceNodes []struct {
		Path        string `json:"path"`
		HostPath    string `json:"hostPath"`
		Permissions string `json:"permissions"`
	} `json:"deviceNodes"`
	Mounts []struct {
		HostPath      string   `json:"hostPath"`
		ContainerPath string   `json:"containerPath"`
		Options       []string `json:"options"`
		Type          string   `json:"type"`
	} `json:"mounts"`
	Hooks []struct {
		HookName string   `json:"hookName"`
		Path     string   `json:"path"`
		Args     []string `json:"args"`
		Env      []string `json:"env"`
		Timeout  *int     `json:"timeout"`
	} `json:"hooks"`
	AdditionalGids []uint32 `json:"additionalGids"`
}

// cdiDirs is where such files are, the one that wins last.
func cdiDirs() []string { return []string{"/etc/cdi", "/var/run/cdi"} }

// injectCDI adds what the named devices ask for.
func (s *Store) injectCDI(spec *specs.Spec, names []string) error {
	if len(names) == 0 {
		return nil
	}
	known, skipped, err := readCDI(cdiDirs())
	if err != nil {
		return err
	}
	return s.inject(spec, names, known, skipped)
}

// inject is injectCDI with what the files say.
func (s *Store) inject(spec *specs.Spec, names []string, known map[string]cdiSpec, skipped []string) error {
	whole := map[string]bool{} // kinds whose common edits are in
	for _, name := range names {
		kind, device, _ := strings.Cut(name, "=")
		found, ok := known[kind]
		at := slices.IndexFunc(found.Devices, func(u cdiUnit) bool { return u.Name == device })
		if !ok || at < 0 {
			return unknownCDI(name, known, skipped)
		}
		edits := []cdiEdits{found.Devices[at].ContainerEdits}
		if !whole[kind] {
			whole[kind] = true
			edits = append(edits, found.ContainerEdits)
		}
		for _, e := range edits {
			if err := s.edit(spec, e); err != nil {
				return fmt.Errorf("device %q: %w", name, err)
			}
		}
	}
	return nil
}

// readCDI reads the files in dirs. Those in YAML are skipped, and named.
func readCDI(dirs []string) (known map[string]cdiSpec, skipped []string, err error) {
	known = map[string]cdiSpec{}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, fmt.Errorf("devices: %w", err)
		}
		for _, e := range entries {
			name := filepath.Join(dir, e.Name())
			if ext := filepath.Ext(name); ext == ".yaml" || ext == ".yml" {
				skipped = append(skipped, name)
			} else if ext == ".json" {
				raw, err := os.ReadFile(name)
				var one cdiSpec
				if err == nil {
					err = json.Unmarshal(raw, &one)
				}
				if err != nil {
					return nil, nil, fmt.Errorf("devices: %s: %w: %w", name, err, errdef.ErrInvalid)
				}
				known[one.Kind] = one
			}
		}
	}
	return known, skipped, nil
}

func unknownCDI(name string, known map[string]cdiSpec, skipped []string) error {
	err := fmt.Errorf("CDI device injection failed: unresolvable CDI devices %s: %w", name, errdef.ErrNotFound)
	var all []string
	for kind, s := range known {
		for _, d := range s.Devices {
			all = append(all, kind+"="+d.Name)
		}
	}
	slices.Sort(all)
	switch {
	case len(skipped) > 0:
		return errdef.WithHint(err, "files in YAML are not read here ("+strings.Join(skipped, ", ")+"): write the same as JSON, as in nvidia-ctk cdi generate --format=json --output=/etc/cdi/nvidia.json")
	case len(all) == 0:
		return errdef.WithHint(err, "no device is described in "+strings.Join(cdiDirs(), " or "))
	}
	return errdef.WithHint(err, "the devices that there are: "+strings.Join(all, " "))
}

// edit applies what one device asks for.
func (s *Store) edit(spec *specs.Spec, e cdiEdits) error {
	spec.Process.Env = append(spec.Process.Env, e.Env...)
	spec.Process.User.AdditionalGids = append(spec.Process.User.AdditionalGids, e.AdditionalGids...)
	for _, n := range e.DeviceNodes {
		d := Device{Path: first(n.HostPath, n.Path), Container: n.Path, Permissions: first(n.Permissions, "rwm")}
		if !validPermissions(d.Permissions) {
			return fmt.Errorf("permissions %q: %w", d.Permissions, errdef.ErrInvalid)
		}
		if err := s.device(spec, d, false); err != nil {
			return err
		}
	}
	for _, m := range e.Mounts {
		spec.Mounts = append(spec.Mounts, specs.Mount{Destination: m.ContainerPath, Source: m.HostPath, Type: first(m.Type, "bind"), Options: append([]string{"rbind"}, m.Options...)})
	}
	for _, h := range e.Hooks {
		if err := addHook(spec, h.HookName, specs.Hook{Path: h.Path, Args: h.Args, Env: h.Env, Timeout: h.Timeout}); err != nil {
			return err
		}
	}
	return nil
}

func addHook(spec *specs.Spec, name string, h specs.Hook) error {
	if spec.Hooks == nil {
		spec.Hooks = &specs.Hooks{}
	}
	into := map[string]*[]specs.Hook{
		"createRuntime": &spec.Hooks.CreateRuntime, "createContainer": &spec.Hooks.CreateContainer, "startContainer": &spec.Hooks.StartContainer,
		"poststart": &spec.Hooks.Poststart, "poststop": &spec.Hooks.Poststop, "prestart": &spec.Hooks.Prestart, //nolint:staticcheck // files still name it
	}[name]
	if into == nil {
		return fmt.Errorf("hook %q: there is no such moment: %w", name, errdef.ErrInvalid)
	}
	*into = append(*into, h)
	return nil
}
