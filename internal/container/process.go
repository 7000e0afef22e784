package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// bootID tells one run of the kernel from another.
var bootID = sync.OnceValue(func() string {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
})

// startTime is when pid was started, in clock ticks since boot: field 22 of /proc/<pid>/stat. The name in field 2 may hold
// anything, so fields are counted from its closing parenthesis.
func startTime(pid int) (uint64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(raw[bytes.LastIndexByte(raw, ')')+1:])
	if len(fields) < 20 {
		return 0, fmt.Errorf("process %d: stat %q: %w", pid, raw, errdef.ErrInvalid)
	}
	return strconv.ParseUint(string(fields[19]), 10, 64)
}

// openProcess gives a pidfd of the container's first process, errdef.ErrNotFound when it has ended: a process that has
// the same pid by now is another one.
func openProcess(st State) (int, error) {
	gone := fmt.Errorf("process %d of the container: %w", st.Pid, errdef.ErrNotFound)
	if st.Pid <= 0 || st.BootID != bootID() {
		return -1, gone
	}
	fd, err := unix.PidfdOpen(st.Pid, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return -1, gone
	}
	if err != nil {
		return -1, fmt.Errorf("process %d: pidfd_open: %w", st.Pid, err)
	}
	// After the pidfd is there the pid cannot be given to another: what we read now is about the process we hold.
	if start, err := startTime(st.Pid); err != nil || start != st.PidStart {
		unix.Close(fd)
		return -1, gone
	}
	return fd, nil
}

// hasEnded reports whether the process that pidfd holds has ended, waited for or not, or does so within patience: of one with
// several threads one after the other ends.
func hasEnded(pidfd int, patience time.Duration) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(patience.Milliseconds()))
	return err == nil && n > 0
}

// gone reports whether the container's first process has ended, or is about to: something about it has just failed. Its
// supervisor may not have recorded the end yet.
func gone(st State) bool { return endedWithin(st, 100*time.Millisecond) }

// over reports whether the container's first process has ended already.
func over(st State) bool { return endedWithin(st, 0) }

func endedWithin(st State, patience time.Duration) bool {
	fd, err := openProcess(st)
	if err != nil {
		return errors.Is(err, errdef.ErrNotFound)
	}
	defer unix.Close(fd)
	return hasEnded(fd, patience)
}

// signalProcess sends sig to the container's first process.
func signalProcess(st State, sig unix.Signal) error {
	fd, err := openProcess(st)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = unix.PidfdSendSignal(fd, sig, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("process %d: %w", st.Pid, errdef.ErrNotFound)
	}
	return err
}

// killLeftover kills the container's first process, if it still runs, and waits until it is gone. With it go all others
// of its pid namespace.
func killLeftover(ctx context.Context, st State) error {
	fd, err := openProcess(st)
	if errors.Is(err, errdef.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	for ctx.Err() == nil {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if n > 0 {
			// If we adopt orphans it is our zombie now; if not, this does nothing.
			_, _ = unix.Wait4(st.Pid, nil, unix.WNOHANG, nil)
			return nil
		}
	}
	return ctx.Err()
}

// ParseSignal reads a signal as docker's users write it: "TERM", "SIGTERM", "term", "15", "RTMIN+3".
func ParseSignal(s string) (unix.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > 64 {
			return 0, &wordedError{"invalid signal: " + s, errdef.ErrInvalid}
		}
		return unix.Signal(n), nil
	}
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if sig := unix.SignalNum(name); sig != 0 {
		return sig, nil
	}
	const rtmin, rtmax = 34, 64 // what C programs call SIGRTMIN: the C library keeps 32 and 33
	base, off, _ := strings.Cut(strings.TrimPrefix(name, "SIG"), "+")
	sign := 1
	if b, o, ok := strings.Cut(base, "-"); ok {
		base, off, sign = b, o, -1
	}
	n, err := strconv.Atoi("0" + off)
	start := map[string]int{"RTMIN": rtmin, "RTMAX": rtmax}[base]
	if sig := start + sign*n; start != 0 && err == nil && sig >= rtmin && sig <= rtmax {
		return unix.Signal(sig), nil
	}
	return 0, &wordedError{"invalid signal: " + s, errdef.ErrInvalid}
}
