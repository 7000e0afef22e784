package mount

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// errVanished is what Private returns when fn ended its goroutine instead of returning.
var errVanished = errors.New("mount: the function in the private namespace did not return")

// Private runs fn on an OS thread of its own, in a new mount namespace whose mounts never reach the one outside (those
// made or removed outside later do reach it). What fn mounts ends with it and with every process started in it.
//
// Only fn's own goroutine is in the namespace: files must be opened and exec.Cmd.Start called there, not in goroutines
// that fn starts. The thread ends with fn, so a child started with SysProcAttr.Pdeathsig is signalled when fn returns.
func Private(fn func() error) error {
	done := make(chan error, 1)
	go onOwnThread(done, enterNamespace, fn)
	return <-done
}

// Join runs fn on an OS thread of its own, in the mount namespace that ns is an open file of (/proc/…/ns/mnt). What is
// said of [Private]'s fn holds for this one.
func Join(ns *os.File, fn func() error) error {
	done := make(chan error, 1)
	go onOwnThread(done, func() error { return joinNamespace(ns) }, fn)
	return <-done
}

// Namespace opens the mount namespace that the calling goroutine is in, for [Join]. Inside [Private] it is the private one.
func Namespace() (*os.File, error) { return os.Open("/proc/thread-self/ns/mnt") }

// onOwnThread never unlocks the thread: the Go runtime ends a thread whose goroutine exits locked, and with the thread
// goes its namespace. Only the process's first thread would be kept, idle, with all mounts; it is left to others.
func onOwnThread(done chan<- error, enter, fn func() error) {
	runtime.LockOSThread()
	if unix.Gettid() == os.Getpid() {
		moved := make(chan error, 1)
		go onOwnThread(moved, enter, fn)
		err := <-moved // this goroutine keeps the first thread, so that one runs on another
		runtime.UnlockOSThread()
		done <- err
		return
	}
	err := errVanished
	defer func() { done <- err }()
	if err = enter(); err == nil {
		err = errVanished
		err = fn()
	}
}

func enterNamespace() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("new mount namespace: %w", classify(err))
	}
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount namespace: making it private: %w", classify(err))
	}
	return nil
}

// joinNamespace gives the thread a working directory and root of its own first: who shares them may not change namespace.
func joinNamespace(ns *os.File) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("mount namespace: %w", classify(err))
	}
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("joining a mount namespace: %w", classify(err))
	}
	return nil
}

// classify adds the error class to what the kernel said.
func classify(err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w: %w", err, errdef.ErrDenied)
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%w: %w", err, errdef.ErrNotFound)
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.ENOTBLK):
		return fmt.Errorf("%w: %w", err, errdef.ErrUnsupported)
	}
	return err
}
