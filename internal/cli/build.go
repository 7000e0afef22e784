package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"strata/internal/build"
	"strata/internal/cli/render"
	"strata/internal/dockerfile"
	"strata/internal/engine"
	"strata/internal/errdef"
)

// buildFlags are those of build that need reading.
type buildFlags struct {
	o                                    engine.BuildOptions
	buildArgs, labels, secrets, agents   []string
	pull, progress, network, iidfile, df string
	ca                                   string
	quiet, noCache                       bool
}

func (a *app) build() *cobra.Command {
	var f buildFlags
	cmd := &cobra.Command{
		Use:   "build [OPTIONS] PATH|-",
		Short: "Build an image from a Dockerfile",
		Args:  oneContext,
		RunE:  func(cmd *cobra.Command, args []string) error { return a.runBuild(cmd.Context(), &f, args[0]) },
	}
	fl := cmd.Flags()
	fl.StringArrayVarP(&f.o.Tags, "tag", "t", nil, "name the image: NAME[:TAG]; may be given several times")
	fl.StringVarP(&f.df, "file", "f", "", "Dockerfile, instead of PATH/Dockerfile; - is standard input")
	fl.StringArrayVar(&f.buildArgs, "build-arg", nil, "set an ARG: NAME=value, or take NAME from here")
	fl.StringVar(&f.o.Target, "target", "", "build this stage")
	fl.BoolVar(&f.noCache, "no-cache", false, "run every step again")
	fl.StringVar(&f.pull, "pull", "missing", "when to pull bases: always, missing, never")
	fl.Lookup("pull").NoOptDefVal = "always"
	fl.StringArrayVar(&f.labels, "label", nil, "set a label on the image")
	fl.StringArrayVar(&f.secrets, "secret", nil, "give RUN --mount=type=secret a value: id=NAME[,src=FILE|,env=VAR]")
	fl.StringArrayVar(&f.agents, "ssh", nil, "give RUN --mount=type=ssh an agent: default or NAME[=SOCKET]")
	fl.StringVar(&f.network, "network", "host", "network of RUN steps: host or none")
	fl.StringVar(&f.ca, "ca", "", "certificates that RUN steps trust while they run: host takes this machine's, else a PEM file")
	fl.StringVar(&f.progress, "progress", "auto", "show progress as auto, tty, plain, rawjson or quiet")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "show nothing but the image's id")
	fl.StringVar(&f.iidfile, "iidfile", "", "write the image's id to this file")
	return cmd
}

func (a *app) runBuild(ctx context.Context, f *buildFlags, path string) error {
	// Before anything is read: inside the user's namespace the program starts anew, and standard input can be read once.
	if err := a.enter(ctx); err != nil {
		return err
	}
	o, err := f.options(a.in, path)
	if err != nil {
		return err
	}
	mode := f.progress
	if f.quiet {
		mode = "quiet"
	}
	display, err := render.NewProgress(mode, "Building", os.Stderr)
	if err != nil {
		return usageError{err}
	}
	a.opts.Sink = display
	return a.with(ctx, func(e *engine.Engine) error {
		res, err := e.Build(ctx, o)
		if cerr := display.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			a.explainStep(err)
			a.warn(o.Name, about(err, res.Warnings))
			return stepHint(err)
		}
		if mode != "quiet" {
			a.warn(o.Name, res.Warnings)
		}
		if f.iidfile != "" {
			if err := os.WriteFile(f.iidfile, []byte(res.Image.ID), 0o644); err != nil {
				return fmt.Errorf("--iidfile: %w", err)
			}
		}
		return a.buildResult(f, res)
	})
}

// buildResult prints the id where somebody reads it: in a pipe or with -q. A terminal has just seen the display.
func (a *app) buildResult(f *buildFlags, res engine.BuildResult) error {
	if out, ok := a.out.(*os.File); ok && term.IsTerminal(int(out.Fd())) && !f.quiet {
		for _, tag := range res.Tags {
			fmt.Fprintln(a.err, "named", tag)
		}
		if len(res.Tags) == 0 {
			fmt.Fprintln(a.err, "image", res.Image.ID)
		}
		return nil
	}
	return a.printID(res.Image.ID)
}

func (a *app) warn(name string, warnings []dockerfile.Warning) {
	if len(warnings) == 0 {
		return
	}
	noun := "warnings"
	if len(warnings) == 1 {
		noun = "warning"
	}
	fmt.Fprintf(a.err, "\n%d %s:\n", len(warnings), noun)
	for _, w := range warnings {
		place := name
		if w.First > 0 {
			place = fmt.Sprintf("%s:%d", name, w.First)
		}
		fmt.Fprintf(a.err, " - %s: %s (%s)\n", place, render.Clean(w.Text), w.Rule)
	}
}

// about keeps the warnings of the lines at which a build failed.
func about(err error, warnings []dockerfile.Warning) []dockerfile.Warning {
	var place *dockerfile.Error
	if !errors.As(err, &place) {
		return nil
	}
	return slices.DeleteFunc(warnings, func(w dockerfile.Warning) bool { return w.Last < place.First || w.First > place.Last })
}

// options reads the flags, the Dockerfile and where the context is.
func (f *buildFlags) options(in *os.File, path string) (engine.BuildOptions, error) {
	o := f.o
	var err error
	if o.Pull, err = engine.ParsePull(f.pull); err != nil {
		return o, usageError{err}
	}
	if o.Labels, err = keyValues("label", f.labels); err != nil {
		return o, err
	}
	if o.BuildArgs, err = buildArgs(f.buildArgs); err != nil {
		return o, err
	}
	if o.Secrets, err = buildSecrets(f.secrets); err != nil {
		return o, err
	}
	if o.Agents, err = buildAgents(f.agents); err != nil {
		return o, err
	}
	switch f.network {
	case "host", "default", "none":
		o.Network = f.network
	default:
		return o, usageError{errdef.WithHint(fmt.Errorf("network %q: %w", f.network, errdef.ErrUnsupported), "use --network host or --network none")}
	}
	o.NoCache = f.noCache
	if f.ca != "" {
		if o.CA, err = engine.ReadCA(f.ca); err != nil {
			return o, fmt.Errorf("--ca: %w", err)
		}
	}
	if err := f.inputs(in, path, &o); err != nil {
		return o, err
	}
	return o, nil
}

// inputs finds the Dockerfile and the context. PATH "-" is a Dockerfile on standard input without a context.
func (f *buildFlags) inputs(in io.Reader, path string, o *engine.BuildOptions) error {
	if path == "-" {
		if f.df == "-" {
			return usagef("standard input cannot be both the Dockerfile and the context")
		}
		if f.df != "" {
			return usageError{errdef.WithHint(fmt.Errorf("a context on standard input: %w", errdef.ErrUnsupported), "unpack it and name the directory")}
		}
		o.Name = "Dockerfile"
		return readDockerfile(in, "Dockerfile", o)
	}
	st, err := os.Stat(path)
	if err != nil {
		return noContext(path, err)
	}
	if !st.IsDir() {
		return fileContext(path)
	}
	o.Context = path
	switch f.df {
	case "-":
		o.Name = "Dockerfile"
		return readDockerfile(in, "-", o)
	case "":
		f.df = defaultFile(path)
	}
	o.File = f.df
	file, err := os.Open(f.df)
	if err != nil {
		return noDockerfile(f.df, path, err)
	}
	defer file.Close()
	o.Name = filepath.Base(f.df)
	return readDockerfile(file, f.df, o)
}

// defaultFile is the Dockerfile of a directory: docker takes "dockerfile" too where there is no "Dockerfile".
func defaultFile(dir string) string {
	file := filepath.Join(dir, "Dockerfile")
	if _, err := os.Lstat(file); errors.Is(err, os.ErrNotExist) {
		lower := filepath.Join(dir, "dockerfile")
		if _, err := os.Lstat(lower); err == nil {
			return lower
		}
	}
	return file
}

// readDockerfile reads at most a byte more than the parser takes, so that it and not we say that the file is too long.
func readDockerfile(r io.Reader, name string, o *engine.BuildOptions) error {
	raw, err := io.ReadAll(io.LimitReader(r, dockerfile.MaxFile+1))
	if err != nil {
		return fmt.Errorf("Dockerfile %s: %w", name, err)
	}
	if bytes.HasPrefix(raw, []byte{0x1f, 0x8b}) || len(raw) > 262 && string(raw[257:262]) == "ustar" {
		return usageError{errdef.WithHint(fmt.Errorf("%s is an archive: a context in an archive: %w yet", name, errdef.ErrUnsupported), "unpack it and name the directory")}
	}
	o.Dockerfile = raw
	return nil
}

// buildArgs reads --build-arg: NAME alone takes the value from the environment, nil when it has none.
func buildArgs(values []string) (map[string]*string, error) {
	args := map[string]*string{}
	for _, v := range values {
		name, value, ok := strings.Cut(v, "=")
		if name == "" {
			return nil, usagef("--build-arg %q: want NAME=VALUE or NAME", v)
		}
		if !ok {
			if value, ok = os.LookupEnv(name); !ok {
				args[name] = nil
				continue
			}
		}
		args[name] = &value
	}
	return args, nil
}

// explainStep shows the place in the Dockerfile at which a build ended, and what a failed step printed.
func (a *app) explainStep(err error) {
	var file *dockerfile.Error
	var excerpt string
	if errors.As(err, &file) {
		excerpt = file.Excerpt
	}
	var step *build.StepError
	switch {
	case errors.As(err, &step):
		render.FailedStep(a.err, step.Step, []byte(step.Tail), excerpt)
	case excerpt != "":
		fmt.Fprintln(a.err, strings.TrimRight(render.Clean(excerpt), "\n"))
	}
}
