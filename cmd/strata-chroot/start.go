//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"strata/internal/rootfs"
)

// order is what the process that becomes the container's is told.
type order struct {
	Process  *specs.Process
	Mounts   []specs.Mount // to be mounted; empty where nothing can be
	Tree     string
	Join     int // a process whose mount namespace and root to take; 0 for none
	Terminal bool
	Dies     bool // with its parent
}

func (c *command) start() (int, error) {
	spec, err := readSpec(c.bundle)
	if err != nil {
		return 0, err
	}
	if err := refuse(spec); err != nil {
		return 0, err
	}
	if err := os.MkdirAll(c.root, 0o700); err != nil {
		return 0, err
	}
	if err := os.Mkdir(c.dir(), 0o700); err != nil {
		return 0, fmt.Errorf("container with id %s: %w", c.args[0], err)
	}
	s := &container{ID: c.args[0], Bundle: c.bundle}
	if s.Tree, err = filepath.EvalSymlinks(spec.Root.Path); err == nil {
		err = c.launch(s, spec)
	}
	if err != nil {
		return 0, errors.Join(err, c.clear(s))
	}
	if c.detach {
		return 0, nil
	}
	return c.attend(s)
}

// refuse says what a bundle asks for that cannot be had here, and would be missed.
func refuse(spec *specs.Spec) error {
	const why = "by chroot isolation, which is all that this place allows"
	switch {
	case spec.Root == nil || spec.Process == nil || len(spec.Process.Args) == 0:
		return errors.New("bundle without root or command")
	case spec.Root.Readonly:
		return errors.New("a read-only root file system is not possible " + why)
	case os.Geteuid() != 0:
		return errors.New("chroot takes uid 0: run the surrounding container with --user 0, or allow user namespaces in it (--security-opt seccomp=unconfined)")
	}
	if spec.Linux == nil {
		return nil
	}
	for _, ns := range spec.Linux.Namespaces {
		if ns.Type == specs.NetworkNamespace {
			return errors.New("a network of its own is not possible " + why + ": --network host")
		}
	}
	return nil
}

// launch makes the tree ready and starts the process. What it has placed is in s also when it fails.
func (c *command) launch(s *container, spec *specs.Spec) error {
	if err := makeCwd(s.Tree, spec.Process); err != nil {
		return err
	}
	s.Mounts = mayMount()
	o := order{Process: spec.Process, Tree: s.Tree, Terminal: spec.Process.Terminal, Dies: !c.detach}
	if s.Mounts {
		o.Mounts = spec.Mounts
	} else if err := s.Placed.place(s, spec.Mounts); err != nil {
		return err
	}
	var err error
	if s.Pid, err = c.spawn(o); err != nil {
		return err
	}
	if _, s.Start, err = processStat(s.Pid); err != nil {
		return err
	}
	if err := c.save(s); err != nil {
		return err
	}
	return c.tellPid(s.Pid)
}

// tellPid writes the pid file, whole.
func (c *command) tellPid(pid int) error {
	if c.pidFile == "" {
		return nil
	}
	tmp := c.pidFile + ".new"
	if err := os.WriteFile(tmp, []byte(strconv.Itoa(pid)), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, c.pidFile)
}

// mayMount tries whether a process of ours gets a mount namespace.
func mayMount() bool {
	cmd := exec.Command("/proc/self/exe", "--version")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	return cmd.Run() == nil
}

func makeCwd(tree string, p *specs.Process) error {
	root, err := rootfs.OpenRoot(tree)
	if err != nil {
		return err
	}
	defer root.Close()
	_, err = root.MkdirAll(p.Cwd, 0o755, -1, -1)
	return err
}

// spawn starts the process and returns when it has executed what it is to run, or says why it could not.
func (c *command) spawn(o order) (pid int, err error) {
	told, orders, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	failed, failure, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{childName}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{told, failure}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if o.Dies {
		cmd.SysProcAttr.Pdeathsig = unix.SIGKILL
	}
	if len(o.Mounts) > 0 {
		cmd.SysProcAttr.Unshareflags = unix.CLONE_NEWNS
	}
	if o.Terminal {
		slave, err := c.terminal(o.Process)
		if err != nil {
			return 0, err
		}
		defer slave.Close()
		cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	}
	err = cmd.Start()
	told.Close()
	failure.Close()
	if err != nil {
		return 0, err
	}
	err = json.NewEncoder(orders).Encode(o)
	orders.Close()
	said, rerr := io.ReadAll(io.LimitReader(failed, 4<<10))
	failed.Close()
	if len(said) > 0 {
		err = errors.New(string(said))
	}
	if err = errors.Join(err, rerr); err != nil {
		_ = cmd.Wait() // it has ended, with the failure that it told
		return 0, err
	}
	return cmd.Process.Pid, nil
}

// orphaned is the signal that the kernel sends when whoever started us has ended.
const orphaned = unix.SIGPWR

// attend stays with a container in the foreground to its end.
func (c *command) attend(s *container) (int, error) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, orphaned)
	// Whoever started us and is killed takes the container along.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(orphaned), 0, 0, 0); err != nil {
		return 0, err
	}
	go func() {
		for sig := range signals {
			if sig == orphaned {
				sig = unix.SIGKILL
			}
			_ = unix.Kill(s.Pid, sig.(unix.Signal)) // it has ended
		}
	}()
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(s.Pid, &status, 0, nil)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return 0, err
		}
	}
	if err := c.clear(s); err != nil {
		return 0, err
	}
	if status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return status.ExitStatus(), nil
}

// exec starts one more process in a container.
func (c *command) exec() error {
	s, err := c.load()
	if err != nil {
		return err
	}
	if s.Status != "running" {
		return fmt.Errorf("cannot exec in a stopped container")
	}
	raw, err := os.ReadFile(c.process)
	if err != nil {
		return err
	}
	p := &specs.Process{}
	if err := json.Unmarshal(raw, p); err != nil {
		return err
	}
	o := order{Process: p, Tree: s.Tree, Terminal: p.Terminal}
	if s.Mounts {
		o.Join = s.Pid
	}
	pid, err := c.spawn(o)
	if err != nil {
		return err
	}
	return c.tellPid(pid)
}

func readSpec(bundle string) (*specs.Spec, error) {
	raw, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err != nil {
		return nil, err
	}
	spec := &specs.Spec{}
	return spec, json.Unmarshal(raw, spec)
}

// terminal makes a pseudo terminal, sends its master to whoever asked and gives the slave.
func (c *command) terminal(p *specs.Process) (*os.File, error) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer master.Close()
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	if b := p.ConsoleSize; b != nil {
		_ = unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(b.Height), Col: uint16(b.Width)})
	}
	sock, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(sock)
	if err := unix.Connect(sock, &unix.SockaddrUnix{Name: c.console}); err != nil {
		return nil, fmt.Errorf("console socket: %w", err)
	}
	if err := unix.Sendmsg(sock, []byte("/dev/ptmx"), unix.UnixRights(int(master.Fd())), nil, 0); err != nil {
		return nil, fmt.Errorf("console socket: %w", err)
	}
	return os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
}
