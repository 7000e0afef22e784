package userns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// settings are the kernel's switches that take user namespaces from plain users, with the value that does and the
// command that gives them back.
var settings = []struct{ file, forbids, fix string }{
	{"user/max_user_namespaces", "0", "sudo sysctl -w user.max_user_namespaces=15000"},
	{"kernel/unprivileged_userns_clone", "0", "sudo sysctl -w kernel.unprivileged_userns_clone=1"},
	{"kernel/apparmor_restrict_unprivileged_userns", "1", "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"},
}

// Forbidden looks in the proc file system mounted at proc for a setting that forbids plain users user namespaces. It
// gives the setting as "name = value" and the command that lifts it, or two empty strings.
func Forbidden(proc string) (setting, fix string) {
	for _, s := range settings {
		data, err := os.ReadFile(filepath.Join(proc, "sys", s.file))
		if err == nil && strings.TrimSpace(string(data)) == s.forbids {
			return strings.ReplaceAll(s.file, "/", ".") + " = " + s.forbids, s.fix
		}
	}
	return "", ""
}

// refused explains an error of making a user namespace: which setting forbids it, and what to type.
func refused(err error) error {
	if setting, fix := Forbidden("/proc"); setting != "" {
		err = fmt.Errorf("user namespaces are forbidden to plain users here (%s): %w: %w", setting, errdef.ErrDenied, err)
		return errdef.WithHint(err, fix+"   (or run strata by sudo)")
	}
	for _, no := range []error{unix.EPERM, unix.EACCES, unix.ENOSPC, unix.EUSERS, unix.EINVAL, unix.ENOSYS} {
		if errors.Is(err, no) {
			err = fmt.Errorf("the kernel, or the container around, refuses a user namespace: %w: %w", errdef.ErrDenied, err)
			return errdef.WithHint(err, "run strata as root: sudo strata …")
		}
	}
	return err
}
