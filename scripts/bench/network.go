package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// networkRows are what it costs to have a network, and what goes through one. Docker has its bridge, and the rules that it makes, in
// a network namespace of its own.
func networkRows() []workload {
	// A tenth slower is nine tenths of the throughput.
	tenth := []limit{{than: "docker", ratio: 1 / 0.9}}
	return []workload{
		{
			name: "run --rm IMG true, default network", limits: []limit{{than: "docker", ratio: 0.35}}, rounds: 15, prepare: layNetworks,
			do: func(b *bed, e *engine) *task { return b.inNetwork(e, "run", "--rm", "bench/base", "true") },
		},
		{
			name: "set-up of a network: run on the default one, over run on none", limits: []limit{{most: 5 * time.Millisecond}}, rounds: 25, prepare: layNetworks,
			do: func(b *bed, e *engine) *task {
				if e != b.strata() {
					return nil
				}
				return b.inNetwork(e, "run", "--rm", "bench/base", "true")
			},
			over: func(_ *bed, e *engine) *task { return e.start("true") },
		},
		{
			name: "4 GB through a published port, from another machine", limits: tenth, prepare: layNetworks,
			do: func(b *bed, e *engine) *task { return b.flow(e, neighbour, "192.0.2.1:8080") },
		},
		{
			name: "4 GB through a published port, from this machine", limits: tenth, prepare: layNetworks,
			do: func(b *bed, e *engine) *task { return b.flow(e, itself, "127.0.0.1:8080") },
		},
		{
			name: "4 GB from container to container", limits: tenth, prepare: layNetworks,
			do: func(b *bed, e *engine) *task { return b.flow(e, itself, "sink:80", "127.0.0.1:8081") },
		},
	}
}

// flowBytes is what one measurement moves.
const flowBytes = 4 << 30

// Who sends.
const (
	neighbour = iota // a machine beside the engine's
	itself           // the engine's machine
)

// land is an engine's network: the namespace that its bridges are in, and a machine beside it.
type land struct {
	engine    *engine
	here      int // a process in the engine's namespace
	neighbour *exec.Cmd
}

// layNetworks gives each engine that has bridges a network of its own with a neighbour, and two containers in it: sink, with its port
// published as 8080, and pump, as 8081.
func layNetworks(ctx context.Context, b *bed) error {
	if b.lands != nil {
		return nil
	}
	if os.Geteuid() != 0 {
		return errors.New("rows of networks take root: leave them out by -only")
	}
	b.lands = map[*engine]*land{}
	build := exec.CommandContext(ctx, "go", "build", "-o", b.flowProgram(), "./scripts/bench/flow")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // it runs in the base, which has no C library
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("flow: %w: %s", err, out)
	}
	for _, e := range b.engines {
		l := &land{engine: e, here: os.Getpid()}
		switch {
		case e == b.strata():
		case e.name == "docker":
			var err error
			if l.engine, l.here, err = b.bridgedDocker(ctx); err != nil {
				return err
			}
		default:
			continue
		}
		if err := l.furnish(ctx, b); err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
		b.lands[e] = l
	}
	return nil
}

func (b *bed) flowProgram() string { return filepath.Join(b.dir, "flow") }

// furnish adds the neighbour and starts the containers.
func (l *land) furnish(ctx context.Context, b *bed) error {
	l.neighbour = exec.Command("sleep", "7200")
	l.neighbour.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNET}
	if err := l.neighbour.Start(); err != nil {
		return err
	}
	there := l.neighbour.Process.Pid
	for _, c := range []struct {
		in   int
		line string
	}{
		{l.here, "link add lan type veth peer name lan netns " + strconv.Itoa(there)},
		{l.here, "addr add 192.0.2.1/24 dev lan"}, {l.here, "link set lan up"}, {l.here, "route replace default via 192.0.2.2"},
		{there, "addr add 192.0.2.2/24 dev lan"}, {there, "link set lan up"}, {there, "link set lo up"},
	} {
		if err := inNamespace(ctx, c.in, "ip", strings.Fields(c.line)...); err != nil {
			return err
		}
	}
	if err := l.engine.run(ctx, "network", "create", "bench"); err != nil {
		return err
	}
	for name, port := range map[string]string{"sink": "8080:80", "pump": "8081:80"} {
		if err := l.engine.run(ctx, "run", "-d", "--name", name, "--network", "bench", "-p", port, "-v", b.flowProgram()+":/flow", "bench/base", "/flow", "serve", ":80"); err != nil {
			return err
		}
	}
	return nil
}

// inNamespace runs a program in the network namespace of a process.
func inNamespace(ctx context.Context, pid int, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"-t", strconv.Itoa(pid), "-n", program}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, out)
	}
	return nil
}

// inNetwork is a command of an engine with bridges.
func (b *bed) inNetwork(e *engine, args ...string) *task {
	l := b.lands[e]
	if l == nil {
		return nil
	}
	return &task{run: func(ctx context.Context) error { return l.engine.run(ctx, args...) }}
}

// flow sends bytes to an address, from the engine's machine or its neighbour; or has via send them.
func (b *bed) flow(e *engine, from int, to string, via ...string) *task {
	l := b.lands[e]
	if l == nil {
		return nil
	}
	pid := l.here
	if from == neighbour {
		pid = l.neighbour.Process.Pid
	}
	args := append([]string{"send", to, strconv.FormatInt(flowBytes, 10)}, via...)
	return &task{run: func(ctx context.Context) error { return inNamespace(ctx, pid, b.flowProgram(), args...) }}
}

// bridgedDocker is a dockerd with its networks, in a namespace of its own.
func (b *bed) bridgedDocker(ctx context.Context) (*engine, int, error) {
	daemon, err := exec.LookPath("dockerd")
	if err != nil {
		return nil, 0, err
	}
	dir := filepath.Join(b.dir, "bridged")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, 0, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, 0, err
	}
	defer log.Close()
	socket := "unix://" + dir + "/sock"
	b.bridged = exec.Command(daemon, "--data-root", dir+"/data", "--exec-root", b.run+"/bridged", "-H", socket, "-p", dir+"/pid")
	b.bridged.Stdout, b.bridged.Stderr = log, log
	b.bridged.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNET}
	if err := b.bridged.Start(); err != nil {
		return nil, 0, err
	}
	pid := b.bridged.Process.Pid
	if err := inNamespace(ctx, pid, "ip", "link", "set", "lo", "up"); err != nil {
		return nil, 0, err
	}
	plain := *b.engineNamed("docker")
	plain.global = []string{"-H", socket}
	for range 100 {
		if err = plain.run(ctx, "info"); err == nil {
			return &plain, pid, plain.run(ctx, "import", b.base(), "bench/base")
		}
		time.Sleep(200 * time.Millisecond)
	}
	said, _ := os.ReadFile(log.Name()) // empty where there is none
	return nil, 0, fmt.Errorf("dockerd with a bridge did not come up: %w: %s", err, said)
}

func (b *bed) engineNamed(name string) *engine {
	for _, e := range b.engines {
		if e.name == name {
			return e
		}
	}
	return nil
}

// clearNetworks ends what layNetworks began.
func (b *bed) clearNetworks(ctx context.Context) {
	for _, l := range b.lands {
		_ = l.engine.run(ctx, "rm", "-f", "sink", "pump") // the rest goes with the namespaces
		_ = l.neighbour.Process.Kill()
		_ = l.neighbour.Wait() // it was killed
	}
	stop(b.bridged)
}
