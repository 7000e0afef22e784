package doctor

import (
	"context"
	"os"
	"path/filepath"
	"strings"
)

// Status is a check's verdict.
type Status string

// The verdicts.
const (
	OK   Status = "ok"
	Warn Status = "warn"
	Fail Status = "fail"
)

// Check is one answer.
type Check struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Detail string `json:"detail"`        // what was found
	Fix    string `json:"fix,omitempty"` // what to type; for all but ok
}

// Options says what to look at.
type Options struct {
	Root    string // the store; need not exist yet
	Run     string // the run directory; "" is the default one
	Runtime string // the runtime's name or path; "" is the one that would be taken
	System  string // where proc, sys and etc are looked for; "" is "/"
}

func (o Options) path(parts ...string) string {
	system := o.System
	if system == "" {
		system = "/"
	}
	return filepath.Join(append([]string{system}, parts...)...)
}

// read is the text of a file of the system without white space around it; "" if it cannot be read.
func (o Options) read(parts ...string) string {
	data, err := os.ReadFile(o.path(parts...))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// Run makes all checks, in an order that a person can read: what others depend on first.
func Run(ctx context.Context, o Options) []Check {
	var all []Check
	for _, check := range []func(context.Context, Options) Check{
		kernel, nested, namespaces, appArmor, ids, seccomp, fileSystem, executable, overlay, runtimeFound, steps, zstd, cgroups, networks, store,
		runDirectory, runtimeDir, linger, clock,
	} {
		if ctx.Err() != nil {
			break
		}
		all = append(all, check(ctx, o))
	}
	return all
}

// Worst is the gravest verdict of the checks.
func Worst(checks []Check) Status {
	worst := OK
	for _, c := range checks {
		if c.Status == Fail || worst == OK {
			worst = c.Status
		}
		if worst == Fail {
			break
		}
	}
	return worst
}

func ok(name, detail string) Check { return Check{name, OK, detail, ""} }

func warn(name, detail, fix string) Check { return Check{name, Warn, detail, fix} }

func fail(name, detail, fix string) Check { return Check{name, Fail, detail, fix} }
