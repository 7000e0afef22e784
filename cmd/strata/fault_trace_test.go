//go:build linux && amd64

package main_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// tracer runs a command and counts its system calls that change the file system, or with reads those that read files of
// the store. At the one number at it acts.
type tracer struct {
	under string // the store: reads and writes of other files do not count
	reads bool
	at    int
	errno unix.Errno // what the call gives instead of being made; 0 kills the process
	short bool       // the call reads one byte

	calls   int
	seen    []string // their names, in order
	acted   string   // the call that was acted upon
	inside  map[int]bool
	failing int // the thread whose call fails, when it returns
}

// changing are the calls that change the file system by name.
func changing() map[uint64]string {
	return map[uint64]string{
		unix.SYS_MKDIRAT: "mkdirat", unix.SYS_MKNODAT: "mknodat", unix.SYS_UNLINKAT: "unlinkat", unix.SYS_RENAMEAT: "renameat",
		unix.SYS_RENAMEAT2: "renameat2", unix.SYS_LINKAT: "linkat", unix.SYS_SYMLINKAT: "symlinkat", unix.SYS_FCHMODAT: "fchmodat",
		unix.SYS_FCHMODAT2: "fchmodat2", unix.SYS_FCHOWNAT: "fchownat", unix.SYS_UTIMENSAT: "utimensat", unix.SYS_LSETXATTR: "lsetxattr",
		unix.SYS_SETXATTR: "setxattr", unix.SYS_RENAME: "rename", unix.SYS_UNLINK: "unlink", unix.SYS_RMDIR: "rmdir", unix.SYS_MKDIR: "mkdir",
		unix.SYS_MOUNT: "mount", unix.SYS_UMOUNT2: "umount", unix.SYS_MOVE_MOUNT: "move_mount",
	}
}

// byDescriptor are those that do it through an open file, which most have as their first argument.
func byDescriptor(r *unix.PtraceRegs) (name string, fd uint64) {
	if r.Orig_rax == unix.SYS_COPY_FILE_RANGE {
		return "copy_file_range", r.Rdx
	}
	return map[uint64]string{
		unix.SYS_WRITE: "write", unix.SYS_PWRITE64: "pwrite", unix.SYS_WRITEV: "writev", unix.SYS_PWRITEV: "writev", unix.SYS_FTRUNCATE: "ftruncate",
		unix.SYS_FALLOCATE: "fallocate", unix.SYS_FCHMOD: "fchmod", unix.SYS_FCHOWN: "fchown", unix.SYS_FSETXATTR: "fsetxattr",
		unix.SYS_FSYNC: "fsync", unix.SYS_FDATASYNC: "fsync", unix.SYS_SYNCFS: "syncfs", unix.SYS_SENDFILE: "sendfile",
	}[r.Orig_rax], r.Rdi
}

// names gives the call's name if it counts, "" otherwise.
func (tr *tracer) name(tid int, r *unix.PtraceRegs) string {
	inStore := func(fd uint64) bool {
		to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tid, fd))
		return err == nil && strings.HasPrefix(to, tr.under)
	}
	if tr.reads {
		switch r.Orig_rax {
		case unix.SYS_READ, unix.SYS_PREAD64:
			if r.Rdx > 1 && inStore(r.Rdi) {
				return "read"
			}
		}
		return ""
	}
	if name := changing()[r.Orig_rax]; name != "" {
		return name
	}
	if r.Orig_rax == unix.SYS_OPENAT && r.Rdx&(unix.O_CREAT|unix.O_TRUNC|unix.O_TMPFILE&^unix.O_DIRECTORY) != 0 {
		return "openat"
	}
	if name, fd := byDescriptor(r); name != "" && inStore(fd) {
		return name
	}
	return ""
}

// run runs the command to its end.
func (tr *tracer) run(cmd *exec.Cmd) (unix.WaitStatus, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	pid := cmd.Process.Pid
	defer cmd.Process.Release()
	var ws unix.WaitStatus
	if _, err := unix.Wait4(pid, &ws, unix.WALL, nil); err != nil {
		return ws, err
	}
	const exitKill = 0x100000
	if err := unix.PtraceSetOptions(pid, unix.PTRACE_O_TRACESYSGOOD|unix.PTRACE_O_TRACECLONE|exitKill); err != nil {
		return ws, err
	}
	tr.inside = map[int]bool{}
	if err := unix.PtraceSyscall(pid, 0); err != nil {
		return ws, err
	}
	for {
		tid, err := unix.Wait4(-1, &ws, unix.WALL|unix.WNOTHREAD, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return ws, err
		}
		if ws.Exited() || ws.Signaled() {
			if tid == pid {
				return ws, nil
			}
			continue
		}
		if err := tr.step(pid, tid, ws); err != nil && !errors.Is(err, unix.ESRCH) {
			return ws, err
		}
	}
}

// step lets a stopped thread go on.
func (tr *tracer) step(pid, tid int, ws unix.WaitStatus) error {
	sig := 0
	switch s := ws.StopSignal(); {
	case s == unix.SIGTRAP|0x80:
		if err := tr.call(pid, tid); err != nil {
			return err
		}
	case s == unix.SIGTRAP && ws.TrapCause() > 0: // a new thread
	case s == unix.SIGSTOP: // the first stop of one
	default:
		sig = int(s)
	}
	return unix.PtraceSyscall(tid, sig)
}

// call is at the beginning or the end of a thread's system call.
func (tr *tracer) call(pid, tid int) error {
	tr.inside[tid] = !tr.inside[tid]
	if !tr.inside[tid] {
		if tr.failing != tid {
			return nil
		}
		tr.failing = 0
		var r unix.PtraceRegs
		if err := unix.PtraceGetRegs(tid, &r); err != nil {
			return err
		}
		r.Rax = uint64(-int64(tr.errno))
		return unix.PtraceSetRegs(tid, &r)
	}
	var r unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &r); err != nil {
		return err
	}
	name := tr.name(tid, &r)
	if name == "" {
		return nil
	}
	tr.seen = append(tr.seen, name)
	if tr.calls++; tr.calls != tr.at {
		return nil
	}
	tr.acted = name
	switch {
	case tr.short:
		r.Rdx = 1
		return unix.PtraceSetRegs(tid, &r)
	case tr.errno != 0:
		r.Orig_rax, tr.failing = ^uint64(0), tid
		return unix.PtraceSetRegs(tid, &r)
	}
	return unix.Kill(pid, unix.SIGKILL)
}

// traced runs an operation under the tracer and gives its output.
func (l *lab) traced(tr *tracer, args ...string) (string, unix.WaitStatus) {
	l.t.Helper()
	out, err := os.Create(l.path("traced.out"))
	l.check(err)
	defer out.Close()
	cmd := l.command(args...)
	cmd.Stdout, cmd.Stderr = out, out
	tr.under = l.root
	ws, err := tr.run(cmd)
	l.check(err)
	text, err := os.ReadFile(out.Name())
	l.check(err)
	return string(text), ws
}
