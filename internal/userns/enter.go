package userns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"strata/internal/beside"
	"strata/internal/errdef"
)

// EnterOptions says which namespace to enter.
type EnterOptions struct {
	Root   string            // the store's root directory: each store has a namespace of its own
	Run    string            // the run directory; "" is [RunDir]'s choice
	Notice func(line string) // is told, once when the namespace is made, what it will not be able to do; may be nil
}

// Enter re-executes this program, with its arguments, inside the user's namespace, which it makes if there is none. It
// never returns on success. Inside, STRATA_ROOT and STRATA_RUN name the directories of o, since defaults that depend on
// the uid would come out differently there; the working directory and the standard streams stay.
//
// An error is classed ErrDenied where the machine forbids user namespaces and carries the line that allows them.
func Enter(ctx context.Context, o EnterOptions) error {
	run, err := RunDir(o.Run)
	if err != nil {
		return err
	}
	root, err := filepath.Abs(o.Root)
	if err != nil {
		return fmt.Errorf("store %q: %w", o.Root, err)
	}
	if o.Notice == nil {
		o.Notice = func(string) {}
	}
	h, pidfd, err := find(ctx, recordPath(run, root), o.Notice)
	if err != nil {
		return err
	}
	defer unix.Close(pidfd) // reached on failure only
	cwd, err := os.Getwd()
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // one that was removed has no name, and may serve all the same
		return fmt.Errorf("working directory: %w", err)
	}
	env := environ("STRATA_ROOT="+root, "STRATA_RUN="+run, "PWD="+cwd, marker+"="+strconv.FormatUint(h.Inode, 10))
	if helper := helper(); helper != "" {
		return join(helper, pidfd, cwd, env)
	}
	return joinByNsenter(h, cwd, env)
}

// find gives the live pause process recorded at path, made if there is none. Of several commands that come at once, one
// makes it and the others find it.
func find(ctx context.Context, path string, notice func(string)) (holder, int, error) {
	if h, pidfd, err := live(path); err == nil {
		return h, pidfd, nil
	}
	lock, err := os.OpenFile(strings.TrimSuffix(path, ".json")+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return holder{}, -1, fmt.Errorf("lock of the user namespace: %w", err)
	}
	defer lock.Close()
	if err := flock(lock); err != nil {
		return holder{}, -1, err
	}
	if h, pidfd, err := live(path); err == nil {
		return h, pidfd, nil
	}
	if err := start(ctx, path, notice); err != nil {
		return holder{}, -1, err
	}
	return live(path)
}

func live(path string) (holder, int, error) {
	h, err := readHolder(path)
	if err != nil {
		return h, -1, err
	}
	pidfd, err := h.open()
	return h, pidfd, err
}

func flock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err != unix.EINTR {
			return os.NewSyscallError("flock", err)
		}
	}
}

// helper is the path of strata-enter, "" if it is not there.
func helper() string { return beside.Find("strata-enter") }

// environ is this process's environment with the given variables in the place of their old values.
func environ(set ...string) []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.ContainsFunc(set, func(s string) bool { return strings.HasPrefix(s, name+"=") })
	})
	return append(env, set...)
}

// join executes strata-enter, which joins the namespaces of the process behind pidfd and executes this program again. cwd is "" where
// the working directory was removed.
func join(helper string, pidfd int, cwd string, env []string) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := unix.Open(".", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("working directory %q: %w", cwd, err)
	}
	defer unix.Close(dir)
	if _, err := unix.FcntlInt(uintptr(pidfd), unix.F_SETFD, 0); err != nil {
		return err
	}
	args := append([]string{helper, strconv.Itoa(pidfd), strconv.Itoa(dir), cwd, exe}, os.Args...)
	return fmt.Errorf("execute %q: %w", helper, unix.Exec(helper, args, env))
}

// joinByNsenter does what join does by util-linux's nsenter, for installations without a C compiler.
func joinByNsenter(h holder, cwd string, env []string) error {
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		err = fmt.Errorf("neither strata-enter (beside the program) nor nsenter (in $PATH) is there: %w", errdef.ErrUnavailable)
		return errdef.WithHint(err, "make bin/strata-enter   (needs a C compiler), or install the package util-linux")
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	args := []string{nsenter, "--preserve-credentials", "--wd"}
	if cwd != "" {
		args[2] += "=" + cwd
	}
	for _, kind := range []string{"user", "mnt"} {
		fd, err := unix.Open(nsPath(h.PID, kind), unix.O_RDONLY, 0) // stays open through exec
		if err != nil {
			return fmt.Errorf("namespace of process %d: %w", h.PID, err)
		}
		flag := map[string]string{"user": "--user=", "mnt": "--mount="}[kind]
		args = append(args, fmt.Sprintf("%s/proc/self/fd/%d", flag, fd))
	}
	// The namespaces that were opened are the recorded process's if it still lives.
	if now, err := describe(h.PID); err != nil || now != h {
		return fmt.Errorf("pause process %d is gone: %w", h.PID, unix.ESRCH)
	}
	args = append(append(args, "--", exe), os.Args[1:]...)
	// nsenter opens the directory outside, where its name cannot be asked for from inside: $PWD tells it.
	return fmt.Errorf("execute %q: %w", nsenter, unix.Exec(nsenter, args, env))
}
