//go:build linux

// Command strata-chroot is an OCI runtime for places where there are no namespaces: inside a container without privileges. It
// has runc's command line, as far as strata uses it.
//
// A container's processes get the root file system by chroot(2), the user, groups, environment, limits and a small set of
// capabilities that the bundle names, and nothing else: they share processes, network and kernel settings with whoever runs
// it. Where a mount namespace can be had, what the bundle mounts is mounted, /proc, /sys and /dev being those of the
// surroundings; where not, files are copied into the tree while the container runs, a few devices are made, and there is no
// /proc. What would be a promise that cannot be kept (a directory of the host to write to, a network of its own, limits, a
// read-only root) is refused with the reason.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// childName is the argv[0] of the process that becomes the container's.
const childName = "strata-chroot-init"

func main() {
	runtime.LockOSThread() // what it starts dies with its thread, which is to be the process
	if os.Args[0] == childName {
		os.Exit(becomeContainer())
	}
	c, err := parse(os.Args[1:])
	if err == nil {
		var code int
		if code, err = c.run(); err == nil {
			os.Exit(code)
		}
	}
	c.fail(err)
	os.Exit(1)
}

// command is a parsed command line.
type command struct {
	root, log     string
	verb          string
	bundle        string
	pidFile       string
	console       string
	process       string
	detach, force bool
	args          []string
}

var errUsage = errors.New("usage: strata-chroot --root DIR [--log FILE] run|exec|state|kill|delete|ps … ID")

// parse reads runc's flags: those of no use here are read over.
func parse(args []string) (*command, error) {
	c := &command{}
	values := map[string]*string{
		"root": &c.root, "log": &c.log, "log-format": new(string), "bundle": &c.bundle, "pid-file": &c.pidFile,
		"console-socket": &c.console, "process": &c.process, "format": new(string),
	}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		name, long := strings.CutPrefix(arg, "--")
		switch target := values[name]; {
		case target != nil && len(args) > 0:
			*target, args = args[0], args[1:]
		case name == "detach":
			c.detach = true
		case name == "force":
			c.force = true
		case name == "version":
			c.verb = "version"
		case long:
			return c, fmt.Errorf("unknown flag %s: %w", arg, errUsage)
		case c.verb == "":
			c.verb = arg
		default:
			c.args = append(c.args, arg)
		}
	}
	if c.verb != "version" && (c.root == "" || c.verb == "" || len(c.args) == 0) {
		return c, errUsage
	}
	return c, nil
}

func (c *command) run() (int, error) {
	switch c.verb {
	case "version":
		fmt.Println("strata-chroot version 1 (no namespaces)")
		return 0, nil
	case "run":
		return c.start()
	case "exec":
		return 0, c.exec()
	case "state":
		return 0, c.state()
	case "kill":
		return 0, c.kill()
	case "delete":
		return 0, c.delete()
	case "ps":
		return 0, c.ps()
	case "pause", "resume", "update":
		return 0, fmt.Errorf("%s takes a control group, which a container by chroot does not have", c.verb)
	}
	return 0, fmt.Errorf("unknown command %q: %w", c.verb, errUsage)
}

// fail says what went wrong as runc does: the last line of the log.
func (c *command) fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	if c.log == "" {
		return
	}
	f, e := os.OpenFile(c.log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if e != nil {
		return
	}
	defer f.Close()
	_ = json.NewEncoder(f).Encode(map[string]string{"level": "error", "msg": err.Error(), "time": time.Now().Format(time.RFC3339)})
}
