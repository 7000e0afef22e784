package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"strata/internal/container"
	"strata/internal/engine"
	"strata/internal/errdef"
	"strata/internal/network"
	"strata/internal/oci"
	"strata/internal/runtime"
)

// createFlags are those that run and create share.
type createFlags struct {
	name, user, workdir, pull, cidfile, platform  string
	env, envFiles, labels, binds, tmpfs           []string
	mountSpecs, volumesFrom, attach               []string
	volumeDriver                                  string
	entrypoint                                    entrypointFlag
	tty, stdin, readOnly, init, autoRemove, quiet bool

	resources resourceFlags
	network   networkFlags
	host      hostFlags
	health    healthFlags
}

// entrypointFlag tells --entrypoint "" (none) from no flag.
type entrypointFlag struct {
	value string
	set   bool
}

func (f *entrypointFlag) String() string     { return f.value }
func (f *entrypointFlag) Type() string       { return "string" }
func (f *entrypointFlag) Set(s string) error { f.value, f.set = s, true; return nil }

func (f *createFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.SetInterspersed(false)
	fl.StringVar(&f.name, "name", "", "name of the container")
	fl.StringVarP(&f.user, "user", "u", "", "user or uid, with :group or :gid if you like")
	fl.StringVarP(&f.workdir, "workdir", "w", "", "working directory in the container")
	fl.StringVar(&f.pull, "pull", "missing", "when to pull the image: always, missing, never")
	fl.StringVar(&f.platform, "platform", os.Getenv("DOCKER_DEFAULT_PLATFORM"), "platform of the image: OS/ARCH[/VARIANT]")
	fl.StringVar(&f.cidfile, "cidfile", "", "write the container's id to this new file")
	fl.StringArrayVarP(&f.env, "env", "e", nil, "set NAME=value, or take NAME from here")
	fl.StringArrayVar(&f.envFiles, "env-file", nil, "read environment variables from a file")
	fl.StringArrayVarP(&f.labels, "label", "l", nil, "set a label on the container")
	fl.StringArrayVarP(&f.binds, "volume", "v", nil, "show a volume or a directory of the host in the container: [NAME|HOST:]CONTAINER[:OPTIONS]")
	fl.StringArrayVar(&f.mountSpecs, "mount", nil, "mount: type=bind|volume|tmpfs|image,source=…,target=…[,readonly…]")
	fl.StringArrayVar(&f.volumesFrom, "volumes-from", nil, "mount what another container has: CONTAINER[:ro]")
	fl.StringVar(&f.volumeDriver, "volume-driver", "", "driver of its volumes: local")
	fl.StringArrayVar(&f.tmpfs, "tmpfs", nil, "mount a tmpfs: PATH[:OPTIONS]")
	fl.Var(&f.entrypoint, "entrypoint", "replace the image's entrypoint")
	fl.BoolVarP(&f.tty, "tty", "t", false, "give the container a terminal")
	fl.BoolVarP(&f.stdin, "interactive", "i", false, "keep standard input open")
	fl.BoolVar(&f.readOnly, "read-only", false, "mount the root file system read-only")
	fl.BoolVar(&f.init, "init", false, "run an init that forwards signals and reaps processes")
	fl.BoolVar(&f.autoRemove, "rm", false, "remove the container and its anonymous volumes when it ends")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "show no progress of a pull")
	fl.StringArrayVarP(&f.attach, "attach", "a", nil, "attach to these only: stdin, stdout, stderr")
	f.resources.add(cmd)
	f.resources.devices.add(cmd)
	f.network.add(cmd)
	f.host.add(cmd)
	f.health.add(cmd)
	// -h is --hostname here, as in docker.
	fl.Bool("help", false, "print usage")
}

// options turns the flags into what the engine takes.
func (f *createFlags) options(a *app, cmd *cobra.Command, args []string) (engine.CreateOptions, error) {
	o := engine.CreateOptions{Image: args[0], Name: f.name}
	var err error
	if o.Platform, err = oci.ParsePlatform(f.platform); err != nil {
		return o, usageError{err}
	}
	if o.Pull, err = engine.ParsePull(f.pull); err != nil {
		return o, usageError{err}
	}
	o.Config = container.Config{
		User: f.user, WorkingDir: f.workdir, Tty: f.tty, OpenStdin: f.stdin,
		Cmd: args[1:],
	}
	if f.entrypoint.set {
		// The empty word is docker's way to say "none".
		o.Config.Entrypoint = []string{f.entrypoint.value}
	}
	if o.Config.Env, err = environment(f.envFiles, f.env); err != nil {
		return o, usageError{err}
	}
	if o.Config.Env, err = a.withProxies(o.Config.Env); err != nil {
		return o, err
	}
	if o.Config.Labels, err = f.host.labels(f.labels); err != nil {
		return o, err
	}
	o.Host = container.HostConfig{ReadonlyRootfs: f.readOnly, Init: f.init, AutoRemove: f.autoRemove, Resources: f.resources.resources(cmd), ContainerIDFile: f.cidfile}
	if err := f.resources.devices.read(&o.Host.Resources); err != nil {
		return o, err
	}
	if o.Host.Resources.OOMKillDisable && o.Host.Resources.Memory == 0 {
		fmt.Fprintln(a.err, "WARNING: Disabling the OOM killer on containers without setting a '-m/--memory' limit may be dangerous.")
	}
	if err := f.host.read(cmd, &o); err != nil {
		return o, err
	}
	if err := f.health.read(&o); err != nil {
		return o, err
	}
	if err := f.network.options(&o); err != nil {
		return o, usageError{err}
	}
	if o.Host.Network == network.Host && (len(o.Host.Publish) > 0 || o.Host.PublishAll) {
		fmt.Fprintln(a.err, "WARNING: Published ports are discarded when using host network mode")
	}
	if err := f.mounts(&o); err != nil {
		return o, err
	}
	if f.tty && term.IsTerminal(int(os.Stdout.Fd())) {
		if w, h, err := term.GetSize(int(os.Stdout.Fd())); err == nil {
			o.Host.ConsoleWidth, o.Host.ConsoleHeight = uint16(w), uint16(h)
		}
	}
	return o, nil
}

// mounts reads the flags that mount something.
func (f *createFlags) mounts(o *engine.CreateOptions) error {
	var m container.Mounts
	for _, kind := range []struct {
		specs []string
		add   func(string) error
	}{{f.binds, m.AddVolume}, {f.mountSpecs, m.AddMount}, {f.tmpfs, m.AddTmpfs}} {
		for n, spec := range kind.specs {
			if slices.Contains(kind.specs[:n], spec) {
				continue // -v $HOME:$HOME -v $PWD:$PWD, typed in the home directory
			}
			if err := kind.add(spec); err != nil {
				return usageError{err}
			}
		}
	}
	if f.volumeDriver != "" && f.volumeDriver != "local" {
		return usageError{container.NoDriver(f.volumeDriver)}
	}
	o.Host.Binds, o.Host.Volumes, o.Host.Tmpfs, o.Host.Images, o.Host.VolumesFrom = m.Binds, m.Volumes, m.Tmpfs, m.Images, f.volumesFrom
	return nil
}

// writeCidfile writes the id to a file that must not be there yet.
func writeCidfile(path, id string) error {
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("--cidfile: %w", err)
	}
	_, err = f.WriteString(id)
	return errors.Join(err, f.Close())
}

const networkNote = `The container has a network of its own, the default bridge, unless --network says otherwise. -p 8080:80 makes its port 80
reachable as port 8080 of this machine, -p 127.0.0.1:8080:80 from this machine alone.`

func (a *app) run() *cobra.Command {
	var f createFlags
	var detach, sigProxy bool
	var detachKeys string
	cmd := &cobra.Command{
		Use:   "run [OPTIONS] IMAGE [COMMAND] [ARG...]",
		Short: "Create a container of an image and run a command in it",
		Long:  "Create a container of an image and run a command in it.\n\n" + networkNote,
		Args:  atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := blankedPair(cmd, args); err != nil {
				return err
			}
			o, err := f.options(a, cmd, args)
			if err != nil {
				return err
			}
			if detachKeys, err = a.detachKeys(detachKeys); err != nil {
				return err
			}
			if detach && len(f.attach) > 0 {
				return errors.New("conflicting options: cannot specify both --attach and --detach")
			}
			streams, err := a.chosenStreams(f.attach, f.stdin)
			if err != nil {
				return err
			}
			o.Config.AttachStdout, o.Config.AttachStderr = !detach && streams.Out != nil, !detach && streams.Err != nil
			o.Config.AttachStdin, o.Config.StdinOnce = f.stdin && !detach, f.stdin && !detach
			shown := a.missingImage(f.quiet)
			return runFailure(a.with(cmd.Context(), func(e *engine.Engine) error {
				if f.tty && f.stdin && !detach && !term.IsTerminal(int(a.in.Fd())) {
					return notTerminal(cmd.Context(), e, o)
				}
				rec, err := a.createContainer(cmd.Context(), e, o, f.cidfile, shown)
				if err != nil {
					return err
				}
				return a.startCreated(cmd.Context(), e, rec, container.StartOptions{
					Attach: !detach, DetachKeys: detachKeys, SigProxy: sigProxy, Streams: streams,
				}, typed(cmd, args))
			}), 125)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVarP(&detach, "detach", "d", false, "run in the background and print the container's id")
	cmd.Flags().StringVar(&detachKeys, "detach-keys", "", "keys that detach: ctrl-p,ctrl-q unless given")
	cmd.Flags().BoolVar(&sigProxy, "sig-proxy", true, "pass signals on to the container's process")
	return cmd
}

// notTerminal refuses -it without a terminal. A name that cannot be an image's matters more: that is said first.
func notTerminal(ctx context.Context, e *engine.Engine, o engine.CreateOptions) error {
	if _, err := e.Resolve(ctx, o.Image, engine.PullNever); errors.Is(err, errdef.ErrInvalid) {
		return err
	}
	return failure{noTerminal(), 1}
}

func noTerminal() error {
	return errdef.WithHint(errors.New("the input device is not a TTY"), "leave -t out when standard input is a pipe or a file")
}

// createContainer makes the container and writes its id where it was asked for. shown ends the display of a pull.
func (a *app) createContainer(ctx context.Context, e *engine.Engine, o engine.CreateOptions, cidfile string, shown func() error) (container.Record, error) {
	a.defaultNetwork(e, &o)
	rec, err := e.Create(ctx, o)
	if err := errors.Join(err, shown()); err != nil {
		return rec, err
	}
	if err := writeCidfile(cidfile, rec.ID); err != nil {
		s, e := e.Containers()
		if e == nil {
			e = s.Remove(ctx, rec, container.RemoveOptions{Force: true, Volumes: true})
		}
		return rec, errors.Join(err, e)
	}
	return rec, nil
}

// startCreated starts a container that was made for it.
func (a *app) startCreated(ctx context.Context, e *engine.Engine, rec container.Record, so container.StartOptions, line invocation) error {
	s, err := e.Containers()
	if err != nil {
		return err
	}
	res, err := s.Start(ctx, rec, so)
	if err != nil {
		return line.explain(err)
	}
	if !so.Attach {
		fmt.Fprintln(a.out, rec.ID)
	}
	a.sayLowPort(rec, res)
	return a.exitWith(line, res)
}

// streams are the program's own, standard input only when it was asked for.
func (a *app) streams(stdin bool) container.Streams {
	s := container.Streams{Out: os.Stdout, Err: os.Stderr}
	if stdin {
		s.In = a.in
	}
	return s
}

// chosenStreams are those that -a names, or all without one.
func (a *app) chosenStreams(names []string, stdin bool) (container.Streams, error) {
	all := a.streams(stdin)
	if len(names) == 0 {
		return all, nil
	}
	var s container.Streams
	for _, name := range names {
		switch strings.ToLower(name) {
		case "stdin":
			s.In = a.in
		case "stdout":
			s.Out = all.Out
		case "stderr":
			s.Err = all.Err
		default:
			return s, usagef("--attach %q: want stdin, stdout or stderr", name)
		}
	}
	return s, nil
}

// runFailure gives an error of run or start docker's exit code: 126 and 127 when the command in the container
// could not be started, other for everything else.
func runFailure(err error, other int) error {
	var st status
	var usage usageError
	var known failure
	if err == nil || errors.As(err, &st) || errors.As(err, &usage) || errors.As(err, &known) {
		return err
	}
	var start *runtime.StartError
	if errors.As(err, &start) {
		return failure{err, start.Exit}
	}
	return failure{err, other}
}

// execFailure gives an error of exec docker's exit code: 127 when the program is not there, 126 when something else keeps the command
// from starting, 1 when nobody waits for it or the container does not take commands.
func execFailure(err error, detached bool) error {
	var start *runtime.StartError
	switch {
	case !errors.As(err, &start):
		return err
	case detached:
		return failure{err, 1}
	case start.Exit == 127:
		return failure{err, 127}
	}
	return failure{err, 126}
}

// failure is an error with the exit code that docker has for it.
type failure struct {
	error
	code int
}

func (f failure) Unwrap() error { return f.error }

func (a *app) create() *cobra.Command {
	var f createFlags
	cmd := &cobra.Command{
		Use:   "create [OPTIONS] IMAGE [COMMAND] [ARG...]",
		Short: "Create a container without starting it",
		Long:  "Create a container without starting it.\n\n" + networkNote,
		Args:  atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := blankedPair(cmd, args); err != nil {
				return err
			}
			o, err := f.options(a, cmd, args)
			if err != nil {
				return err
			}
			streams, err := a.chosenStreams(f.attach, f.stdin)
			if err != nil {
				return err
			}
			o.Config.AttachStdin, o.Config.AttachStdout, o.Config.AttachStderr = streams.In != nil, streams.Out != nil, streams.Err != nil
			shown := a.missingImage(f.quiet)
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				rec, err := a.createContainer(cmd.Context(), e, o, f.cidfile, shown)
				if err != nil {
					return err
				}
				fmt.Fprintln(a.out, rec.ID)
				return nil
			})
		},
	}
	f.add(cmd)
	return cmd
}
