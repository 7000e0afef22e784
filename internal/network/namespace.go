package network

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// within runs fn on an OS thread of its own after enter has brought that into another network namespace. The thread ends
// with fn: nothing else ever runs on one that has been elsewhere. Sockets that fn opens stay in the namespace they were made in.
func within(enter, fn func() error) error {
	done := make(chan error, 1)
	go onOwnThread(done, enter, fn)
	return <-done
}

func onOwnThread(done chan<- error, enter, fn func() error) {
	runtime.LockOSThread()
	if unix.Gettid() == os.Getpid() { // the first thread never ends: it is left to others
		moved := make(chan error, 1)
		go onOwnThread(moved, enter, fn)
		err := <-moved
		runtime.UnlockOSThread()
		done <- err
		return
	}
	err := enter()
	if err == nil {
		err = fn()
	}
	done <- err
}

// in runs fn in the network namespace that ns is an open file of.
func in(ns *os.File, fn func() error) error {
	return within(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("entering a network namespace: %w", classify(err))
		}
		return nil
	}, fn)
}

// current opens the network namespace of the calling thread.
func current() (*os.File, error) { return os.Open("/proc/thread-self/ns/net") }

// Sandbox is a network namespace for containers. It lives as long as it is open somewhere or a process is in it; with it go
// all devices in it, and the ends of their cables.
type Sandbox struct{ ns *os.File }

// NewSandbox makes a network namespace with nothing but the loopback, up.
func NewSandbox() (*Sandbox, error) {
	sb := &Sandbox{}
	err := within(func() error { return unshare(unix.CLONE_NEWNET) }, func() (err error) {
		if err := furnish(); err != nil {
			return err
		}
		sb.ns, err = current()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	return sb, nil
}

// SandboxOf makes a sandbox of ns, a fresh network namespace of a user namespace. ns is the sandbox's to close.
func SandboxOf(ns *os.File) (*Sandbox, error) {
	if err := in(ns, furnish); err != nil {
		ns.Close()
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	return &Sandbox{ns}, nil
}

// furnish gives the calling thread's namespace what it has from the start.
func furnish() error {
	if err := loopbackUp(); err != nil {
		return err
	}
	for _, set := range sandboxSettings() {
		if err := os.WriteFile("/proc/sys/net/"+set.name, []byte(set.value), 0); err != nil && !set.optional {
			return err
		}
	}
	return nil
}

type sandboxSetting struct {
	name, value string
	optional    bool
}

// sandboxSettings are those of docker: in a network of one's own low ports and echo requests are for everybody.
func sandboxSettings() []sandboxSetting {
	return []sandboxSetting{
		{"ipv4/ip_unprivileged_port_start", "0", false},
		// In a user namespace only ids that it has can be named.
		{"ipv4/ping_group_range", "0 2147483647", true},
		// What is in no network with IPv6 has none, not even an address that it gave itself. There may be no IPv6 at all.
		{"ipv6/conf/default/disable_ipv6", "1", true},
	}
}

func unshare(flags int) error { return classify(unix.Unshare(flags)) }

// OpenSandbox opens the network namespace that a process is in, by its file (/proc/PID/ns/net).
func OpenSandbox(path string) (*Sandbox, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", classify(err))
	}
	return SandboxAt(f), nil
}

// SandboxAt is the network namespace that ns is an open file of; ns is the sandbox's to close.
func SandboxAt(ns *os.File) *Sandbox { return &Sandbox{ns} }

// Path names the namespace for this process's children and for others of the same user, as long as the sandbox is open.
func (sb *Sandbox) Path() string {
	if sb == nil {
		return ""
	}
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), sb.ns.Fd())
}

// Do runs fn in the namespace, on a thread of its own.
func (sb *Sandbox) Do(fn func() error) error { return in(sb.ns, fn) }

// Close lets the namespace go. A nil Sandbox is none.
func (sb *Sandbox) Close() {
	if sb != nil {
		sb.ns.Close()
	}
}

// loopbackUp brings up the loopback of the calling thread's namespace.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("loopback: %w", classify(err))
	}
	return nil
}
