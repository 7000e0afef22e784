package container

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"strata/internal/errdef"
	"strata/internal/runtime"
)

// ParseSecurity reads --security-opt. readFile gives the content of a seccomp profile's file.
func ParseSecurity(opts []string, readFile func(name string) ([]byte, error)) (Security, error) {
	var s Security
	for _, opt := range opts {
		if err := s.add(opt, readFile); err != nil {
			return s, fmt.Errorf("--security-opt %q: %w", opt, err)
		}
	}
	return s, nil
}

func (s *Security) add(opt string, readFile func(name string) ([]byte, error)) (err error) {
	key, value, has := strings.Cut(opt, "=")
	if !has {
		key, value, has = strings.Cut(opt, ":") // docker's older form
	}
	switch key {
	case "no-new-privileges":
		s.NoNewPrivileges, err = truth(value, has)
	case "writable-cgroups":
		s.WritableCgroups, err = truth(value, has)
	case "seccomp":
		s.Seccomp, err = seccompProfile(value, readFile)
	case "apparmor":
		s.AppArmor = value
	case "systempaths":
		if value != "unconfined" {
			return fmt.Errorf("want systempaths=unconfined: %w", errdef.ErrInvalid)
		}
		s.Unmask = append(s.Unmask, "ALL")
	case "mask":
		s.Mask = append(s.Mask, strings.Split(value, ":")...)
	case "unmask":
		s.Unmask = append(s.Unmask, strings.Split(value, ":")...)
	case "label":
		if value != "disable" {
			return fmt.Errorf("labels of SELinux are not set here: %w", errdef.ErrUnsupported)
		}
	default:
		return fmt.Errorf("there is no such option; there are seccomp, apparmor, no-new-privileges, mask, unmask, systempaths, writable-cgroups and label=disable: %w", errdef.ErrInvalid)
	}
	if err == nil {
		err = s.checkPaths()
	}
	return err
}

func truth(value string, has bool) (bool, error) {
	switch {
	case !has, value == "true":
		return true, nil
	case value == "false":
		return false, nil
	}
	return false, fmt.Errorf("%q: want true or false: %w", value, errdef.ErrInvalid)
}

func (s *Security) checkPaths() error {
	for _, p := range slices.Concat(s.Mask, s.Unmask) {
		if !path.IsAbs(p) && p != "ALL" {
			return fmt.Errorf("path %q is not absolute: %w", p, errdef.ErrInvalid)
		}
	}
	return nil
}

// seccompProfile gives what a record keeps of seccomp=VALUE: the profile itself, since its file may be another one tomorrow.
func seccompProfile(value string, readFile func(name string) ([]byte, error)) (string, error) {
	switch value {
	case "builtin":
		return "", nil
	case "unconfined":
		return value, nil
	case "":
		return "", fmt.Errorf("want unconfined, builtin or a file with a profile: %w", errdef.ErrInvalid)
	}
	raw, err := readFile(value)
	if err != nil {
		return "", fmt.Errorf("opening seccomp profile: %w", err)
	}
	if !json.Valid(raw) {
		return "", fmt.Errorf("seccomp profile %s is not JSON: %w", value, errdef.ErrInvalid)
	}
	if err := runtime.CheckSeccomp(string(raw)); err != nil {
		return "", fmt.Errorf("seccomp profile %s: %w", value, err)
	}
	return string(raw), nil
}

// Hidden are the paths that the container sees empty, and those that it cannot write to; nil where there is none because it is privileged.
func (a Access) Hidden(privileged bool) (masked, readonly []string) {
	if privileged {
		return a.Security.Mask, nil
	}
	visible := func(p string) bool {
		return slices.ContainsFunc(a.Security.Unmask, func(u string) bool { return u == "ALL" || path.Clean(u) == p })
	}
	masked = append(slices.DeleteFunc(slices.Clone(runtime.MaskedPaths()), visible), a.Security.Mask...)
	return masked, slices.DeleteFunc(runtime.ReadonlyPaths(), visible)
}

// confine applies what --security-opt says to the document.
func (a Access) confine(spec *specs.Spec, privileged bool) error {
	s := a.Security
	if s.AppArmor != "" && s.AppArmor != "unconfined" {
		if raw, err := os.ReadFile("/sys/module/apparmor/parameters/enabled"); err != nil || !strings.HasPrefix(string(raw), "Y") {
			return errdef.WithHint(fmt.Errorf("AppArmor profile %q: this machine has no AppArmor: %w", s.AppArmor, errdef.ErrUnsupported), "leave --security-opt apparmor out, or say apparmor=unconfined")
		}
		spec.Process.ApparmorProfile = s.AppArmor
	}
	switch {
	case s.Seccomp == "unconfined":
		spec.Linux.Seccomp = nil
	case s.Seccomp != "" && !privileged:
		var err error
		if spec.Linux.Seccomp, err = runtime.LoadSeccomp(s.Seccomp, spec.Process.Capabilities.Bounding); err != nil {
			return err
		}
	}
	spec.Linux.MaskedPaths, spec.Linux.ReadonlyPaths = a.Hidden(privileged)
	if s.WritableCgroups {
		for i, m := range spec.Mounts {
			if m.Type == "cgroup" {
				spec.Mounts[i].Options = append(slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return o == "ro" }), "rw")
			}
		}
	}
	return nil
}
