package build

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"

	"strata/internal/errdef"
	"strata/internal/graph"
	"strata/internal/program"
	"strata/internal/rootfs"
	"strata/internal/runtime"
)

// hostname is what every RUN step sees, so that nothing of this machine's name gets into a layer.
const hostname = "buildhost"

// StepError is a RUN step whose process ended with an exit status other than zero.
type StepError struct {
	// Step is its name: "[build 2/4] RUN make".
	Step     string
	Args     []string
	ExitCode int
	// Tail is the end of what it printed, both streams.
	Tail string
	// Problem is why something in it could not be executed, if the tree's files tell; nil else.
	Problem *program.Problem
}

func (e *StepError) Error() string {
	text := fmt.Sprintf("process %q did not complete successfully: exit code: %d", strings.Join(e.Args, " "), e.ExitCode)
	if e.Problem != nil && e.Problem.Why != "" {
		text += fmt.Sprintf(": %s: %s", e.Problem.Program, e.Problem.Why)
	}
	return text
}

// Unwrap classes the error: running the same again gives the same.
func (e *StepError) Unwrap() error { return errdef.ErrInvalid }

// runOp runs a process on the tree.
type runOp struct {
	op
	run *Run
	// inputs tells, by the index of a mount, at which of the step's inputs its tree is.
	inputs map[int]int
}

func (o *runOp) Define([]json.RawMessage) ([]graph.Line, error) {
	command, err := json.Marshal(o.run.Args)
	if err != nil {
		return nil, err
	}
	lines := o.lines(
		graph.Line{Name: "the command", Value: string(command)},
		graph.Line{Name: "the working directory", Value: o.run.Cwd},
		graph.Line{Name: "the user", Value: o.run.User},
		graph.Line{Name: "the network", Value: o.run.Network},
	)
	for _, e := range o.run.Env {
		name, value, _ := strings.Cut(e, "=")
		kind := "environment "
		if slices.Contains(o.run.BuildArgs, name) {
			kind = "build argument "
		}
		lines = append(lines, graph.Line{Name: kind + name, Value: value})
	}
	lines = append(lines, o.run.Options.lines()...)
	if o.run.Insecure {
		lines = append(lines, graph.Line{Name: "the security mode", Value: "insecure"})
	}
	for _, d := range o.run.Devices {
		lines = append(lines, graph.Line{Name: "device " + d.Name, Value: fmt.Sprintf("required: %t", d.Required)})
	}
	for i := range o.run.Mounts {
		line, err := o.run.Mounts[i].define()
		if err != nil {
			return nil, err
		}
		lines = append(lines, line)
	}
	return lines, nil
}

func (o *runOp) Content(context.Context, []json.RawMessage) ([]graph.Line, error) { return nil, nil }

func (o *runOp) Run(ctx context.Context, inputs []json.RawMessage, out *graph.Output) (json.RawMessage, error) {
	states := make([]state, len(o.run.Mounts))
	for i, at := range o.inputs {
		var err error
		if states[i], err = decodeState(inputs[at]); err != nil {
			return nil, err
		}
	}
	// What the process needs besides its tree is made ready while that is mounted.
	if o.x.deps.Ready != nil {
		o.x.deps.Ready(ctx)
	}
	lend := sync.OnceValues(func() (StepNetwork, error) { return o.lend(ctx) })
	go func() { _, _ = lend() }() // who needs it sees the error
	defer func() {
		if lent, err := lend(); err == nil {
			lent.Release()
		}
	}()
	result, err := o.changeset(ctx, inputs[0], out, func(t *mounted) error {
		m := &mounts{o: o, t: t, inputs: states}
		defer m.close()
		if err := m.all(ctx); err != nil {
			return err
		}
		return o.process(ctx, t, m, lend, out)
	})
	return result, o.at(ctx, err)
}

// process prepares the tree and runs the container on it, in the network that is lent to it.
func (o *runOp) process(ctx context.Context, t *mounted, more *mounts, lend func() (StepNetwork, error), out *graph.Output) error {
	if err := runtime.Ordinary(t.root); err != nil {
		return err
	}
	user, err := runtime.LookupUser(t.root, o.run.User, nil)
	if err != nil {
		return err
	}
	if _, err := t.root.MkdirAll(o.run.Cwd, 0o755, 0, 0); err != nil {
		return fmt.Errorf("working directory: %w", err)
	}
	lent, err := lend()
	if err != nil {
		return fmt.Errorf("the step's network: %w", err)
	}
	mounts, stubs, err := o.network(t, lent)
	if err != nil {
		return err
	}
	if t.drop, err = t.root.Stubs(append(stubs, more.stubs...)); err != nil {
		return err
	}
	mounts = append(mounts, more.specs...)
	if o.x.deps.CA != nil {
		m, err := o.x.trust.mount(o.x.deps.RunDir, o.x.deps.CA)
		if err != nil {
			return fmt.Errorf("certificates: %w", err)
		}
		mounts = append(mounts, m)
	}
	id, err := newID()
	if err != nil {
		return err
	}
	spec, err := runtime.Spec(runtime.Params{
		Process: runtime.Process{
			Args: o.run.Args, Env: append(o.env(user), more.env...), Cwd: o.run.Cwd,
			UID: user.UID, GID: user.GID, Groups: user.Groups, Caps: runtime.BuildCaps(), Rlimits: o.run.Options.Ulimits,
		},
		RootPath: t.target(), Hostname: hostname, Mounts: mounts,
		HostNetwork: o.run.Network != "none" && lent.Path == "", NetworkPath: lent.Path, Seccomp: true, Privileged: o.run.Insecure,
		ShmSize: o.run.Options.ShmSize, Resources: o.run.Options.Resources, CgroupPath: o.run.Options.cgroup(id),
		Rootless: o.x.deps.Userns, SingleID: o.x.deps.SingleID,
	})
	if err != nil {
		return err
	}
	if err := o.devices(t, spec); err != nil {
		return err
	}
	bundle := filepath.Join(o.x.deps.RunDir, id)
	defer os.RemoveAll(bundle)
	if err := runtime.WriteBundle(bundle, spec); err != nil {
		return err
	}
	return o.attend(ctx, id, bundle, out)
}

// devices gives the process the devices that the step names, and the tree the mount points that these need.
func (o *runOp) devices(t *mounted, spec *specs.Spec) error {
	if len(o.run.Devices) == 0 {
		return nil
	}
	known, err := o.x.deps.Devices()
	if err != nil {
		return err
	}
	var names []string
	for _, d := range o.run.Devices {
		found, err := known.Find(d.Name)
		if err != nil && d.Required {
			return err
		}
		names = append(names, found...)
	}
	before := map[string]bool{}
	for _, m := range spec.Mounts {
		before[m.Destination] = true
	}
	if err := known.Inject(spec, names, o.x.deps.Userns); err != nil {
		return err
	}
	var stubs []rootfs.Stub
	for _, m := range spec.Mounts {
		if !before[m.Destination] && !strings.HasPrefix(m.Destination, "/dev/") { // which is a file system of its own
			info, err := os.Stat(m.Source)
			stubs = append(stubs, rootfs.Stub{Path: m.Destination, Dir: err != nil || info.IsDir()})
		}
	}
	made, err := t.root.Stubs(stubs)
	t.drop = append(t.drop, made...)
	return err
}

func newID() (string, error) {
	var raw [16]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return "", err
	}
	return "build-" + hex.EncodeToString(raw[:]), nil
}

// env is the process's environment: what the image and the arguments give, HOME as the user's entry says, the proxies and
// the certificates, which no key knows of.
func (o *runOp) env(user runtime.User) []string {
	env := slices.Clone(o.run.Env)
	if !slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "HOME=") }) && user.Home != "" {
		env = append(env, "HOME="+user.Home)
	}
	env = append(env, o.run.Proxy...)
	if o.x.deps.CA != nil {
		env = trustEnv(env)
	}
	return env
}

// lend gives the step its network. One that asked for none has none, one that asked for the host's has that.
func (o *runOp) lend(ctx context.Context) (StepNetwork, error) {
	if o.run.Network == "none" || o.run.Network == "host" || o.x.deps.Network == nil {
		return StepNetwork{Release: func() {}}, nil
	}
	return o.x.deps.Network(ctx, o.run.Insecure)
}

// serversOf puts servers in the place of those of a resolv.conf.
func serversOf(conf string, servers []string) string {
	var b strings.Builder
	for _, s := range servers {
		b.WriteString("nameserver " + s + "\n")
	}
	for line := range strings.Lines(conf) {
		if !strings.HasPrefix(line, "nameserver") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// network gives the mounts for name resolution, and the mount points that the tree must have for these and for the
// kernel's file systems.
func (o *runOp) network(t *mounted, lent StepNetwork) ([]specs.Mount, []rootfs.Stub, error) {
	stubs := []rootfs.Stub{{Path: "/proc", Dir: true}, {Path: "/sys", Dir: true}, {Path: "/dev", Dir: true}}
	files := map[string]string{"/etc/hosts": "127.0.0.1\tlocalhost " + hostname + "\n::1\tlocalhost ip6-localhost ip6-loopback\n" + o.run.Options.hosts(), "/etc/resolv.conf": ""}
	if o.run.Network != "none" {
		raw, err := readBounded("/etc/resolv.conf", 1<<20)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, nil, fmt.Errorf("the host's name servers: %w", err)
		}
		files["/etc/resolv.conf"] = string(raw)
		if len(lent.Servers) > 0 {
			files["/etc/resolv.conf"] = serversOf(string(raw), lent.Servers)
		}
	}
	var mounts []specs.Mount
	for _, dest := range []string{"/etc/hosts", "/etc/resolv.conf"} {
		source := filepath.Join(t.dir, filepath.Base(dest))
		if err := os.WriteFile(source, []byte(files[dest]), 0o644); err != nil {
			return nil, nil, err
		}
		if err := os.Chmod(source, 0o644); err != nil { // whatever the umask
			return nil, nil, err
		}
		mounts = append(mounts, specs.Mount{Destination: dest, Type: "bind", Source: source, Options: []string{"rbind", "rprivate"}})
		stubs = append(stubs, rootfs.Stub{Path: dest})
	}
	return mounts, stubs, nil
}

// attend runs the container and carries what it prints to the step's output.
func (o *runOp) attend(ctx context.Context, id, bundle string, out *graph.Output) error {
	tail := &tailWriter{}
	var readers sync.WaitGroup
	var files [2]*os.File
	for i := range files {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		defer w.Close()
		files[i] = w
		to := io.MultiWriter(out.Stream(i+1), tail)
		readers.Go(func() {
			defer r.Close()
			_, _ = io.Copy(to, r) // ends when the last writer has gone
		})
	}
	code, err := o.x.deps.Run(ctx, id, bundle, files[0], files[1])
	files[0].Close()
	files[1].Close()
	readers.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	problem := runtime.Examine(bundle, code, err)
	if err != nil {
		return err
	}
	if problem != nil {
		code = problem.Exit
	}
	if code != 0 {
		return &StepError{Step: o.step.Name, Args: o.run.Args, ExitCode: code, Tail: tail.String(), Problem: problem}
	}
	return nil
}

// maxTail is how many bytes of a failed step's output its error carries.
const maxTail = 16 << 10

// tailWriter keeps the end of what is written to it.
type tailWriter struct {
	mu   sync.Mutex
	data []byte
}

func (t *tailWriter) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, p...)
	if extra := len(t.data) - maxTail; extra > maxTail {
		t.data = append(t.data[:0], t.data[extra:]...)
	}
	return len(p), nil
}

func (t *tailWriter) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.data[max(0, len(t.data)-maxTail):])
}
