package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// engine is one program that does the work.
type engine struct {
	name   string
	path   string
	dir    string // where it is started; "" is here
	global []string
	env    []string
	// buildArgs and startArgs are the engine's words for the work that engines have in common, nil where it cannot do it.
	buildArgs func(building) []string
	startArgs func(args ...string) []string
	// networks: it has docker's commands for containers, and a default bridge.
	networks bool
	// peak is the most memory that a process of the engine's has had since it was set to zero, in bytes. What a daemon has
	// is not in it.
	peak int64
}

// building is a build of the Dockerfile in dir.
type building struct {
	dir     string
	noCache bool
	target  string
}

// run runs one command of the engine.
func (e *engine) run(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, e.path, append(append([]string{}, e.global...), args...)...)
	cmd.Env, cmd.Dir = append(os.Environ(), e.env...), e.dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", e.name, strings.Join(args, " "), err, out.String())
	}
	e.peak = max(e.peak, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss<<10)
	return nil
}

// build is the task of building bu; nil where the engine does not build.
func (e *engine) build(bu building) *task {
	if e.buildArgs == nil {
		return nil
	}
	return &task{run: func(ctx context.Context) error { return e.run(ctx, e.buildArgs(bu)...) }}
}

// start is the task of running a container of the base to its end, without a network.
func (e *engine) start(args ...string) *task {
	if e.startArgs == nil {
		return nil
	}
	return &task{run: func(ctx context.Context) error { return e.run(ctx, e.startArgs(args...)...) }}
}
