// Command strata-init is the first process of a container started with --init: it starts the command that follows "--", passes on
// the signals that it gets, reaps the orphans that the kernel gives to the first process, and ends as the command ends.
//
// It is mounted into every such container, so it is kept small: nothing but the syscall and os/signal packages.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

const usage = "usage: strata-init -- command [argument]...\n"

func main() {
	args := os.Args[1:]
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fail(usage, 125)
	}
	// Caught before the command starts: a signal sent in between is passed on as soon as it runs.
	signals := make(chan os.Signal, 128)
	signal.Notify(signals)
	pid, err := start(args)
	if err != nil {
		code := 126
		if err == syscall.ENOENT {
			code = 127
		}
		fail("strata-init: "+args[0]+": "+err.Error()+"\n", code)
	}
	go forward(signals, pid)
	os.Exit(reap(pid))
}

// start runs the command in a process group of its own, which takes the terminal if there is one: so the terminal's
// signals reach the command once, from the terminal.
func start(args []string) (int, error) {
	path, err := find(args[0])
	if err != nil {
		return 0, err
	}
	sys := &syscall.SysProcAttr{Setpgid: true}
	if terminal(0) {
		sys.Foreground, sys.Ctty = true, 0
	}
	attr := &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: sys}
	return syscall.ForkExec(path, args, attr)
}

// find looks a name without a slash up in PATH.
func find(name string) (string, error) {
	for i := range len(name) {
		if name[i] == '/' {
			return name, nil
		}
	}
	result := error(syscall.ENOENT)
	path := os.Getenv("PATH")
	for start, i := 0, 0; i <= len(path); i++ {
		if i < len(path) && path[i] != ':' {
			continue
		}
		dir := path[start:i]
		if start = i + 1; dir == "" {
			dir = "."
		}
		var st syscall.Stat_t
		if syscall.Stat(dir+"/"+name, &st) != nil || st.Mode&syscall.S_IFMT == syscall.S_IFDIR {
			continue
		}
		if st.Mode&0o111 != 0 {
			return dir + "/" + name, nil
		}
		result = syscall.EACCES
	}
	return "", result
}

// forward passes signals on to the command, but for those that are about us: our children, and the
// Go runtime's own.
func forward(signals <-chan os.Signal, pid int) {
	for sig := range signals {
		switch n := sig.(syscall.Signal); n {
		case syscall.SIGCHLD, syscall.SIGURG, syscall.SIGTTIN, syscall.SIGTTOU:
		default:
			_ = syscall.Kill(pid, n) // fails when the command has just ended
		}
	}
}

// reap waits for all children until the command ends, and gives its exit code.
func reap(pid int) int {
	for {
		var status syscall.WaitStatus
		got, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return 1 // no child left, which cannot be: the command was ours to wait for
		case got == pid && status.Exited():
			return status.ExitStatus()
		case got == pid && status.Signaled():
			return 128 + int(status.Signal())
		}
	}
}

func terminal(fd int) bool {
	var size [4]uint16
	return ioctl(fd, syscall.TIOCGWINSZ, &size) == 0
}

func fail(message string, code int) {
	os.Stderr.WriteString(message)
	os.Exit(code)
}
