package userns

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// RunDir gives the directory for what lives no longer than the machine is up, made and checked: run if not empty, else
// $STRATA_RUN, else /run/strata for root, else $XDG_RUNTIME_DIR/strata, else /tmp/strata-UID. It belongs to this user and
// nobody else can enter it.
func RunDir(run string) (string, error) {
	if run == "" {
		run = os.Getenv("STRATA_RUN")
	}
	if run == "" {
		run = defaultRunDir()
	}
	run, err := filepath.Abs(run)
	if err != nil {
		return "", fmt.Errorf("run directory %q: %w", run, err)
	}
	if err := os.MkdirAll(run, 0o700); err != nil {
		return "", fmt.Errorf("run directory %q: %w", run, err)
	}
	if err := ownPrivate(run); err != nil {
		return "", err
	}
	return run, nil
}

func defaultRunDir() string {
	uid := os.Geteuid()
	if uid == 0 && !Active() {
		return "/run/strata"
	}
	// After su or sudo the variable may still name another user's directory.
	if xdg := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(xdg) {
		var st unix.Stat_t
		if unix.Stat(xdg, &st) == nil && int(st.Uid) == uid && unix.Access(xdg, unix.W_OK) == nil {
			return filepath.Join(xdg, "strata")
		}
	}
	return filepath.Join("/tmp", "strata-"+strconv.Itoa(uid))
}

// ownPrivate refuses a directory that somebody else made or may write to: in /tmp anyone can be there first.
func ownPrivate(dir string) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("run directory %q: %w", dir, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() {
		err := fmt.Errorf("run directory %q is not a directory of uid %d: %w", dir, os.Geteuid(), errdef.ErrDenied)
		return errdef.WithHint(err, "export STRATA_RUN=<a directory of your own>")
	}
	if st.Mode&0o022 != 0 {
		err := fmt.Errorf("run directory %q can be written by others: %w", dir, errdef.ErrDenied)
		return errdef.WithHint(err, "chmod 700 "+dir)
	}
	return nil
}
