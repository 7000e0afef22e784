package isolate

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// mark in the environment tells a test program that it is inside.
const mark = "STRATA_TEST_ISOLATED"

// Main runs a test program's tests, run, in a network namespace that has nothing but the loopback, and returns its exit code. It does so
// by starting the program again, which takes root; other users' tests run where they are. To be called by TestMain.
func Main(run func() int) int {
	// A worker of go test -fuzz is started by tests that are inside, and speaks to them by descriptors that it has inherited.
	if os.Getuid() != 0 || slices.Contains(os.Args, "-test.fuzzworker") {
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
		"addr add 198.51.100.1/24 dev out", "addr add " + nameServer + "/24 dev out", "link set out up", "route add default via 198.51.100.254",
	} {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", line, err, out)
		}
	}
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := serveNames(); err != nil {
		return fmt.Errorf("name server: %w", err)
	}
	return openTun()
}

// nameServer is the address of the name server inside.
const nameServer = "198.51.100.53"

// serveNames has the machine's name server be one that knows no name, and says so at once. It lives as long as this process.
func serveNames() error {
	conn, err := net.ListenPacket("udp", nameServer+":53")
	if err != nil {
		return err
	}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if answer := unknownName(buf[:n]); answer != nil {
				_, _ = conn.WriteTo(answer, from) // who asked asks again
			}
		}
	}()
	const conf, line = "/etc/resolv.conf", "nameserver " + nameServer + "\n"
	if had, err := os.ReadFile(conf); err != nil || string(had) == line {
		return nil // everybody takes what there is without one; or this is a test that isolates itself once more
	}
	dir, err := os.MkdirTemp("", "resolv-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) // the mount keeps the file
	own := filepath.Join(dir, "resolv.conf")
	if err := os.WriteFile(own, []byte(line), 0o644); err != nil {
		return err
	}
	return unix.Mount(own, conf, "", unix.MS_BIND, "")
}

// unknownName turns a question into the answer that there is no such name (RFC 1035, 4.1.1); nil for what is no question.
func unknownName(message []byte) []byte {
	const header, response, available, noName = 12, 0x80, 0x80, 3
	if len(message) < header || message[2]&response != 0 {
		return nil
	}
	message[2] |= response
	message[3] = available | noName
	clear(message[6:header]) // no records but the question
	return message
}

// openTun puts a device that all may open over /dev/net/tun, which machines give to all or to root alone.
func openTun() error {
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
