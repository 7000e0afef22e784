package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// A plain user's bridges stand in a network namespace of his store's own, the *ground*: it is mounted at <run>/ground, in the mount
// namespace that all of the user's commands share. A helper program, pasta, leads out of it. It makes connections in the user's name, so
// it takes no rights; ports of the machine are published by the relay, which dials into the ground.

func (s *Store) groundFile() string { return filepath.Join(s.opt.Run, "ground") }

// ground opens the namespace in which the bridges stand, made if there is none.
func (s *Store) ground() (f *os.File, err error) {
	err = outside(func() (err error) {
		f, err = s.findGround()
		return err
	})
	return f, err
}

// outside runs fn on a thread that is in no private mount namespace, even if the caller's is: what fn mounts all see, and what it
// starts holds no mount of anybody's.
func outside(fn func() error) error {
	done := make(chan error, 1)
	go func() { done <- fn() }()
	return <-done
}

func (s *Store) findGround() (*os.File, error) {
	if f, err := s.openGround(); err == nil {
		return f, nil
	}
	unlock, err := s.lock(context.Background(), "ground")
	if err != nil {
		return nil, err
	}
	defer unlock()
	if f, err := s.openGround(); err == nil {
		return f, nil
	}
	if err := os.WriteFile(s.groundFile(), nil, 0o600); err != nil {
		return nil, err
	}
	err = within(func() error { return unshare(unix.CLONE_NEWNET) }, func() error {
		if err := loopbackUp(); err != nil {
			return err
		}
		return classify(unix.Mount("/proc/thread-self/ns/net", s.groundFile(), "", unix.MS_BIND, ""))
	})
	if err != nil {
		return nil, fmt.Errorf("a network namespace for networks: %w", err)
	}
	return s.openGround()
}

// openGround opens the namespace if it is there: the file alone, which a restart of the machine leaves, is none.
func (s *Store) openGround() (*os.File, error) {
	f, err := os.Open(s.groundFile())
	if err != nil {
		return nil, err
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil || st.Type != unix.NSFS_MAGIC {
		f.Close()
		return nil, fmt.Errorf("%s is no namespace: %w", f.Name(), errdef.ErrNotFound)
	}
	return f, nil
}

// groundAvailable says why a plain user's containers cannot have networks, if so.
func (s *Store) groundAvailable() error {
	const instead = "--network host or --network none work without"
	if _, err := exec.LookPath("pasta"); err != nil {
		return errdef.WithHint(fmt.Errorf("pasta is not installed: %w", errdef.ErrUnavailable), "sudo apt-get install passt   (Fedora: sudo dnf install passt); "+instead)
	}
	if err := unix.Access("/dev/net/tun", unix.R_OK|unix.W_OK); err != nil {
		return errdef.WithHint(fmt.Errorf("/dev/net/tun: %w", classify(err)), "sudo chmod 666 /dev/net/tun; "+instead)
	}
	return nil
}

// egress makes sure that something leads out of the ground. A machine without a way out itself has networks all the same.
func (s *Store) egress(ctx context.Context) error {
	if s.egressAlive() {
		return nil
	}
	unlock, err := s.lock(ctx, "egress")
	if err != nil {
		return err
	}
	defer unlock()
	if s.egressAlive() {
		return nil
	}
	ground, err := s.ground()
	if err != nil {
		return err
	}
	ground.Close()
	var out string
	err = outside(func() (err error) {
		out, err = s.startPasta(ctx)
		return err
	})
	if err != nil && wayOut() {
		return errdef.WithHint(fmt.Errorf("pasta: %w: %s: %w", err, out, errdef.ErrUnavailable), "run with --network host, or --network none")
	}
	return nil
}

// startPasta starts pasta, which goes to the background when it has set up the ground.
func (s *Store) startPasta(ctx context.Context) (said string, err error) {
	path, err := exec.LookPath("pasta")
	if err != nil {
		return "", err
	}
	if err := os.Remove(s.egressFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	args := []string{"--config-net", "--quiet", "--pid", s.egressFile(), "--no-map-gw",
		"--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none", "--netns", s.groundFile()}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// Some of its versions refuse to start where this signal is ignored, as supervisors do. A signal that is caught is a child's
	// to ignore or not.
	if signal.Ignored(unix.SIGPIPE) {
		signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)
		defer signal.Ignore(unix.SIGPIPE)
	}
	out, err := cmd.CombinedOutput()
	return lastLine(string(out)), err
}

// lastLine is the last line that is no complaint about a missing system log.
func lastLine(s string) string {
	var last string
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "Failed to send") {
			last = line
		}
	}
	return last[:min(len(last), 200)]
}

func (s *Store) egressFile() string { return filepath.Join(s.opt.Run, "egress.pid") }

// egressAlive reports whether the helper runs. A pid counts only if it is that of a process which has the ground's name among its
// arguments.
func (s *Store) egressAlive() bool {
	_, err := s.egressPid()
	return err == nil
}

func (s *Store) egressPid() (int, error) {
	raw, err := os.ReadFile(s.egressFile())
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		return 0, err
	}
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return 0, err
	}
	if !strings.Contains(string(args), "\x00"+s.groundFile()+"\x00") {
		return 0, fmt.Errorf("process %d: %w", pid, errdef.ErrNotFound)
	}
	return pid, nil
}

// wayOut reports whether this machine has a default route.
func wayOut() bool {
	raw, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) > 7 && f[1] == "00000000" && f[7] == "00000000" {
			return true
		}
	}
	return false
}

// leaveGround ends the helper and lets the namespace go, with all bridges in it.
func (s *Store) leaveGround() error {
	if pid, err := s.egressPid(); err == nil {
		if err := unix.Kill(pid, unix.SIGTERM); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("pasta: %w", err)
		}
	}
	err := unix.Unmount(s.groundFile(), unix.MNT_DETACH)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s: %w", s.groundFile(), err)
	}
	return nil
}
