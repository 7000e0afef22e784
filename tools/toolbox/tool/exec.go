package tool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// env prints the environment, or runs a command in another: -i empty, -u without, NAME=VALUE with.
func env(p *Proc) error {
	o, args, err := p.opts("+iu:0", "ignore-environment=i", "unset=u", "null=0")
	if err != nil {
		return err
	}
	environ := os.Environ()
	if len(args) > 0 && args[0] == "-" {
		o['i'], args = []string{""}, args[1:]
	}
	if o.has('i') {
		environ = nil
	}
	drop := func(name string) {
		environ = slices.DeleteFunc(environ, func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
	}
	for _, name := range o['u'] {
		drop(name)
	}
	for len(args) > 0 && strings.Contains(args[0], "=") {
		name, _, _ := strings.Cut(args[0], "=")
		drop(name)
		environ = append(environ, args[0])
		args = args[1:]
	}
	if len(args) > 0 {
		return replace(p, args, environ)
	}
	end := "\n"
	if o.has('0') {
		end = "\x00"
	}
	for _, kv := range environ {
		p.Out.WriteString(kv + end)
	}
	return nil
}

// replace becomes the command; status 127 if there is none, 126 if it cannot be executed.
func replace(p *Proc, args, environ []string) error {
	for _, kv := range environ {
		if path, ok := strings.CutPrefix(kv, "PATH="); ok {
			os.Setenv("PATH", path)
		}
	}
	path, err := exec.LookPath(args[0])
	if err == nil {
		err = syscall.Exec(path, args, environ)
	}
	return notRun(p, args[0], err)
}

func notRun(p *Proc, name string, err error) error {
	p.warn(fmt.Errorf("%s: %w", name, errors.Unwrap(err)))
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		return Status(127)
	}
	return Status(126)
}

// child runs a command on the standard streams and gives its status, 128 and the signal's number if it died of one.
func child(ctx context.Context, p *Proc, args []string) (int, error) {
	p.Out.Flush()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			return 128 + int(ws.Signal()), nil
		}
		return exit.ExitCode(), nil
	}
	return 0, err
}

// timeout runs a command for a limited time; status 124 if it took longer. -s names the signal, -k when to kill after it.
func timeout(p *Proc) error {
	o, args, err := p.opts("+s:k:", "signal=s", "kill-after=k")
	if err != nil {
		return err
	}
	if err := need(args, 2); err != nil {
		return err
	}
	limit, err := seconds(args[0])
	if err != nil {
		return err
	}
	kill, err := seconds(o.last('k', "0"))
	if err != nil {
		return err
	}
	sig, err := signalOf(o.last('s', "TERM"))
	if err != nil {
		return err
	}
	cmd := exec.Command(args[1], args[2:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return notRun(p, args[1], err)
	}
	over := false
	stop := time.AfterFunc(limit, func() {
		over = true
		_ = cmd.Process.Signal(sig)
		if kill > 0 {
			time.AfterFunc(kill, func() { _ = cmd.Process.Kill() })
		}
	})
	err = cmd.Wait()
	if stop.Stop(); over {
		return Status(124)
	}
	if cmd.ProcessState != nil {
		return Status(cmd.ProcessState.ExitCode())
	}
	return err
}

// seconds reads "5", "0.5", "1m", "2h", "1d".
func seconds(s string) (time.Duration, error) {
	unit := time.Second
	if n := len(s); n > 0 {
		if u, ok := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}[s[n-1]]; ok {
			unit, s = u, s[:n-1]
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f < 0 {
		return 0, fmt.Errorf("bad time %q", s)
	}
	return time.Duration(f * float64(unit)), nil
}

func signalOf(name string) (unix.Signal, error) {
	if n, err := strconv.Atoi(name); err == nil {
		return unix.Signal(n), nil
	}
	if s := unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(name), "SIG")); s != 0 {
		return s, nil
	}
	return 0, fmt.Errorf("unknown signal %q", name)
}
