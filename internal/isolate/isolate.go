package isolate

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// mark in the environment tells a test program that it is inside.
const mark = "STRATA_TEST_ISOLATED"

// Main runs a test program's tests, run, in a network namespace that has nothing but the loopback, and returns its exit code. It does so
// by starting the program again, which takes root; other users' tests run where they are. To be called by TestMain.
func Main(run func() int) int {
	if os.Getuid() != 0 {
		return run()
	}
	if Inside() {
		if err := prepare(); err != nil {
			return failed(err)
		}
		return run()
	}
	self, err := os.Executable()
	if err != nil {
		return failed(err)
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), mark+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		return failed(err)
	}
	return 0
}

func failed(err error) int {
	fmt.Fprintln(os.Stderr, "isolating the tests:", err)
	return 1
}

// Inside reports whether the tests run in a network of their own.
func Inside() bool { return os.Getenv(mark) != "" }

// prepare sets up the namespaces: the loopback is brought up, and everybody may make network devices in namespaces of their own.
func prepare() error {
	for _, line := range []string{
		"link set lo up", "link add out type veth peer name far", "link set far up",
		// A way out that leads nowhere: what copies this machine's settings finds some.
		"addr add 198.51.100.1/24 dev out", "link set out up", "route add default via 198.51.100.254",
	} {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", line, err, out)
		}
	}
	return openTun()
}

// openTun puts a device that all may open over /dev/net/tun, which machines give to all or to root alone.
func openTun() error {
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return nil // a machine without them
	}
	dir, err := os.MkdirTemp("", "tun-")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("tmpfs: %w", err)
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }() // a mount that stays goes with the namespace
	tun := filepath.Join(dir, "tun")
	if err := unix.Mknod(tun, unix.S_IFCHR|0o666, int(unix.Mkdev(10, 200))); err != nil {
		return fmt.Errorf("tun: %w", err)
	}
	if err := os.Chmod(tun, 0o666); err != nil {
		return err
	}
	return unix.Mount(tun, "/dev/net/tun", "", unix.MS_BIND, "")
}
