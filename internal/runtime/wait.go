package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// Reap makes this process the one that gets the orphans among its descendants as children: the containers that a
// runtime started and left. It holds to the end of the process; calling it again does no harm.
func Reap() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("becoming a subreaper: %w", err)
	}
	return nil
}

// Wait waits for the process that [Runtime.Start] or [Runtime.Exec] gave, and reaps it: code is its exit status, or 128
// and the number of the signal that ended it. When ctx ends first the process runs on. No thread is held meanwhile.
func Wait(ctx context.Context, pid int) (code int, err error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		if errors.Is(err, unix.ESRCH) {
			err = fmt.Errorf("%w: %w", err, errdef.ErrNotFound)
		}
		return 0, fmt.Errorf("waiting for process %d: %w", pid, err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	conn, err := f.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("waiting for process %d: %w", pid, err)
	}
	var ws unix.WaitStatus
	var werr error
	err = conn.Read(func(uintptr) bool { // again each time the descriptor says that the process has ended
		var got int
		got, werr = unix.Wait4(pid, &ws, unix.WNOHANG, nil)
		return werr != unix.EINTR && (werr != nil || got == pid)
	})
	if ctx.Err() != nil && err != nil {
		return 0, context.Cause(ctx)
	}
	if err = errors.Join(err, werr); err != nil {
		return 0, fmt.Errorf("waiting for process %d: %w", pid, err)
	}
	return exitCode(ws), nil
}

func exitCode(ws unix.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}
