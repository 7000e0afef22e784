package network

import (
	"bufio"
	"bytes"
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

// What leads out of a plain user's networks is a program that makes connections in his name, so it takes no rights: strata-net, or where
// that is missing pasta, if it is installed and may have a TAP device (docs/adr/0005-way-out.md). One is enough for all networks of a
// store. It is known by a file with its pid, and is started by the first container that finds it missing. Pasta stays until the store's
// networks are cleared away, strata-net goes soon after the last container.

// WayOut is the program by which a plain user's containers get out.
type WayOut struct {
	Name string // strata-net or pasta
	Path string
}

// WayOut finds the program that leads, or would lead, out of a plain user's networks.
func (s *Store) WayOut() (WayOut, error) {
	if s.opt.Helper != "" {
		return WayOut{"strata-net", s.opt.Helper}, nil
	}
	const instead = "make bin/strata-net   (beside the program or in ../libexec/strata); --network host and --network none work without"
	path, err := exec.LookPath("pasta")
	if err != nil {
		return WayOut{}, errdef.WithHint(fmt.Errorf("strata-net is not beside the program, and pasta is not installed: %w", errdef.ErrUnavailable), instead)
	}
	if err := unix.Access("/dev/net/tun", unix.R_OK|unix.W_OK); err != nil {
		return WayOut{}, errdef.WithHint(fmt.Errorf("strata-net is not beside the program, and pasta may not use /dev/net/tun: %w", classify(err)), instead)
	}
	return WayOut{"pasta", path}, nil
}

// egress makes sure that something leads out of the ground. A machine without a way out itself has networks all the same. It is to be
// called when the caller's cable is laid: strata-net may be about to end, and looks for cables once more when its pid is gone.
func (s *Store) egress(ctx context.Context) error {
	if s.egressAlive() {
		return nil
	}
	unlock, err := s.lock(ctx, egressLock)
	if err != nil {
		return err
	}
	defer unlock()
	if s.egressAlive() {
		return nil
	}
	way, err := s.WayOut()
	if err != nil {
		return err
	}
	if err := os.Remove(s.egressFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	start := s.startPasta
	if way.Path == s.opt.Helper {
		start = s.startHelper
	}
	var said string
	err = outside(func() (err error) {
		said, err = start(ctx, way.Path)
		return err
	})
	if err != nil && wayOut() {
		return errdef.WithHint(fmt.Errorf("%s: %w: %s: %w", way.Name, err, said, errdef.ErrUnavailable), "run with --network host, or --network none")
	}
	return nil
}

// startPasta starts pasta, which goes to the background when it has set up the ground.
func (s *Store) startPasta(ctx context.Context, path string) (said string, err error) {
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

// startHelper starts strata-net and waits until it leads out.
func (s *Store) startHelper(_ context.Context, path string) (said string, err error) {
	cmd := exec.Command(path, s.egressFile(), s.lockFile(egressLock), s.groundFile())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Dir = "/"
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	defer out.Close()
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	if err := cmd.Start(); err != nil {
		return "", err
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err == nil && line == "ready\n" {
		go func() { _ = cmd.Wait() }() // it ends when nobody needs it
		return "", nil
	}
	err = cmd.Wait()
	if err == nil {
		err = errors.New("it ended")
	}
	return lastLine(complaint.String()), err
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

// egressLock is held by whoever starts the helper, and by strata-net while it ends.
const egressLock = "egress"

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
