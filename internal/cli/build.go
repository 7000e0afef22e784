package cli

import (
	"context"
	"errors"
	"fmt"
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
	contexts                             []string
	call                                 string
	check                                bool
	steps                                stepFlags
	quiet, noCache                       bool
	cache                                cacheFlags
	result                               resultFlags
}

func (a *app) build() *cobra.Command {
	var f buildFlags
	cmd := &cobra.Command{
		Use:   "build [OPTIONS] PATH|URL|-",
		Short: "Build an image from a Dockerfile",
		Args:  oneContext,
		RunE: func(cmd *cobra.Command, args []string) error {
			err := a.runBuild(cmd.Context(), &f, args[0])
			if err == nil && !f.quiet {
				a.buildNotes(cmd)
			}
			return err
		},
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
	fl.StringVar(&f.network, "network", "default", "network of RUN steps: default (one of their own), host or none")
	fl.StringVar(&f.ca, "ca", "", "certificates that RUN steps trust while they run: host takes this machine's, else a PEM file")
	fl.StringVar(&f.progress, "progress", "auto", "show progress as auto, tty, plain, rawjson or quiet")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "show nothing but the image's id")
	fl.StringVar(&f.iidfile, "iidfile", "", "write the image's id to this file")
	fl.StringArrayVar(&f.cache.from, "cache-from", nil, "look for cached steps there too: IMAGE, type=registry,ref=NAME or type=local,src=DIR")
	fl.StringArrayVar(&f.cache.to, "cache-to", nil, "export the cache: type=registry,ref=NAME or type=local,dest=DIR[,mode=min|max]")
	fl.StringArrayVar(&f.cache.noCacheFilter, "no-cache-filter", nil, "run every step of these stages again")
	fl.StringVar(&f.cache.contextModes, "context-modes", "keep", "modes of the context's files: keep, or git for 0644 and 0755")
	f.result.add(fl)
	fl.BoolVar(&f.o.AllowSecretLeak, "allow-secret-leak", false, "do not stop when a --secret is found in what the build makes")
	f.steps.add(fl)
	fl.StringVar(&f.call, "call", "build", "do something else with the Dockerfile: check, outline, targets, context[,format=json]")
	fl.BoolVar(&f.check, "check", false, "the same as --call=check")
	fl.StringArrayVar(&f.contexts, "build-context", nil, "further context: NAME=DIR, a URL, a git repository, docker-image://, oci-layout:// or target:STAGE")
	return cmd
}

func (a *app) runBuild(ctx context.Context, f *buildFlags, path string) error {
	// Before anything is read: inside the user's namespace the program starts anew, and standard input can be read once.
	if err := a.enter(ctx); err != nil {
		return err
	}
	o, err := f.options(a, path)
	if err == nil {
		err = f.result.into(a, &o)
	}
	if err != nil {
		return err
	}
	limit, err := cacheCap()
	if err != nil {
		return err
	}
	call, err := f.parseCall()
	if err != nil {
		return err
	}
	if call != nil {
		return a.runCall(ctx, call, o)
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
		if ctx.Err() == nil {
			a.capImages(ctx, e)
			if cerr := e.CapCache(ctx, res, limit); cerr != nil {
				a.notes([]string{"the build cache could not be brought down to its bound: " + cerr.Error()})
			}
		}
		if err != nil {
			a.explainStep(err)
			a.warn(o.Name, about(err, res.Warnings))
			return stepHint(err)
		}
		if mode != "quiet" {
			a.warn(o.Name, res.Warnings)
			a.notes(res.Notes)
		}
		if f.iidfile != "" {
			if err := os.WriteFile(f.iidfile, []byte(res.Image.ID), 0o644); err != nil {
				return fmt.Errorf("--iidfile: %w", err)
			}
		}
		if f.result.metadata != "" {
			if err := f.result.writeMetadata(res); err != nil {
				return err
			}
		}
		if res.Devices > 0 {
			fmt.Fprintf(a.err, "note: %d device nodes are left out of the directory\n", res.Devices)
		}
		return a.buildResult(f, o, res)
	})
}

// buildResult prints the id where somebody reads it: in a pipe or with -q. A terminal has just seen the display.
// What went to standard output is the result itself.
func (a *app) buildResult(f *buildFlags, o engine.BuildOptions, res engine.BuildResult) error {
	if slices.ContainsFunc(o.Outputs, func(out engine.Output) bool { return out.Dest == "-" }) {
		return nil
	}
	if out, ok := a.out.(*os.File); ok && term.IsTerminal(int(out.Fd())) && !f.quiet {
		for _, tag := range res.Tags {
			fmt.Fprintln(a.err, "named", tag)
		}
		if len(res.Tags) == 0 {
			fmt.Fprintln(a.err, "image", res.Image.ID)
		}
		for _, name := range pushedNames(res) {
			fmt.Fprintln(a.err, "pushed", name)
		}
		return nil
	}
	if names := pushedNames(res); len(names) > 0 {
		_, err := fmt.Fprintln(a.out, strings.Join(names, "\n"))
		return err
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

// notes are of no line of the Dockerfile.
func (a *app) notes(notes []string) {
	for _, note := range notes {
		fmt.Fprintln(a.err, "note:", render.Clean(note))
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
func (f *buildFlags) options(a *app, path string) (engine.BuildOptions, error) {
	o := f.o
	var err error
	if o.Pull, err = engine.ParsePull(f.pull); err != nil {
		return o, usageError{err}
	}
	if o.Labels, err = keyValues("label", f.labels); err != nil {
		return o, err
	}
	proxies, err := a.withProxies(nil)
	if err != nil {
		return o, err
	}
	if o.BuildArgs, err = buildArgs(append(proxies, f.buildArgs...)); err != nil {
		return o, err
	}
	withEpoch(o.BuildArgs)
	if err := f.cache.options(&o); err != nil {
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
		return o, usageError{errdef.WithHint(fmt.Errorf("network %q: %w", f.network, errdef.ErrUnsupported), "use --network default, host or none")}
	}
	o.NoCache = f.noCache
	if f.ca != "" {
		if o.CA, err = engine.ReadCA(f.ca); err != nil {
			return o, fmt.Errorf("--ca: %w", err)
		}
	}
	if o.Contexts, err = buildContexts(f.contexts); err != nil {
		return o, err
	}
	if err := f.steps.read(&o); err != nil {
		return o, err
	}
	return o, f.inputs(a.in, path, &o)
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
