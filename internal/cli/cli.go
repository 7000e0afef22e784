package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"strata/internal/cli/render"
	"strata/internal/engine"
	"strata/internal/errdef"
	"strata/internal/userns"
)

// app is what every verb has at hand: the streams, the global flags and, once asked for, the engine.
type app struct {
	in       *os.File
	out, err io.Writer
	opts     engine.Options
}

// status ends the program with a code and without a message: a container's own exit, a check that did not hold.
type status int

func (s status) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// usageError is a command line that cannot be understood: exit 125.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// Main runs the command line and gives the exit code.
func Main(args []string) int {
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr}
	root := a.root(filepath.Base(args[0]), args[1:])
	root.SetArgs(args[1:])
	ctx, stop := interruptible(context.Background())
	defer stop()
	err := root.ExecuteContext(ctx)
	return a.exitCode(ctx, err)
}

// interruptible ends the context at the first SIGINT or SIGTERM; the second ends the program as if nobody had listened.
func interruptible(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, unix.SIGINT, unix.SIGTERM)
	go func() {
		sig := <-ch
		cancel(interrupted{sig.(unix.Signal)})
		// One keystroke, or one `timeout`, may send the same signal to us and to our group.
		time.Sleep(300 * time.Millisecond)
		signal.Stop(ch)
	}()
	return ctx, func() { signal.Stop(ch); cancel(nil) }
}

// interrupted is why a context ended at a signal.
type interrupted struct{ sig unix.Signal }

func (i interrupted) Error() string { return "interrupted" }

// exitCode prints what err has to say and maps it to the program's exit code.
func (a *app) exitCode(ctx context.Context, err error) int {
	var st status
	var usage usageError
	var sig interrupted
	var code failure
	switch {
	case err == nil:
		return 0
	case errors.As(err, &st):
		return int(st)
	case errors.As(context.Cause(ctx), &sig):
		fmt.Fprintln(a.err, "strata: interrupted")
		return 128 + int(sig.sig)
	case errors.As(err, &usage):
		render.Error(a.err, err)
		return 125
	case errors.As(err, &code):
		render.Error(a.err, err)
		return code.code
	}
	render.Error(a.err, err)
	return 1
}

// open enters the user namespace when the user is not root, and opens the store. The caller closes the engine.
func (a *app) open(ctx context.Context) (*engine.Engine, error) {
	if err := a.enter(ctx); err != nil {
		return nil, err
	}
	return engine.Open(ctx, a.opts)
}

// enter makes this process the (possibly namespaced) root that all verbs on the store run as. For a plain user it
// starts the program anew inside the namespace and does not return.
func (a *app) enter(ctx context.Context) error {
	if !userns.MustEnter() {
		return nil
	}
	return userns.Enter(ctx, userns.EnterOptions{Root: a.opts.Root, Run: a.opts.Run})
}

// with opens the engine for fn and closes it after.
func (a *app) with(ctx context.Context, fn func(e *engine.Engine) error) error {
	e, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer e.Close()
	return fn(e)
}

func (a *app) root(name string, args []string) *cobra.Command {
	cmd := &cobra.Command{
		Use:           name,
		Short:         "Build, store, run, ship and explain container images, without a daemon",
		SilenceErrors: true,
		// How many letters off a mistyped command may be.
		SuggestionsMinimumDistance: 2,
		SilenceUsage:               true,
		Args:                       cobra.ArbitraryArgs,
		RunE:                       a.unknown,
	}
	cmd.CompletionOptions.HiddenDefaultCmd = true
	cmd.SetOut(a.out)
	cmd.SetErr(a.err)
	cmd.SetFlagErrorFunc(flagError)
	cmd.Version = Version
	cmd.SetVersionTemplate("strata {{.Version}}\n")
	flags := cmd.PersistentFlags()
	flags.StringVar(&a.opts.Root, "root", engine.DefaultRoot(), "directory of the store (STRATA_ROOT)")
	flags.StringVar(&a.opts.Run, "run-dir", "", "directory of running state (STRATA_RUN; else below /run or the user's own run directory)")
	cmd.AddGroup(
		&cobra.Group{ID: "build", Title: "Build and understand:"},
		&cobra.Group{ID: "run", Title: "Containers:"},
		&cobra.Group{ID: "image", Title: "Images:"},
		&cobra.Group{ID: "system", Title: "This machine and its store:"},
	)
	a.addVerbs(cmd, args)
	return cmd
}

// unknown answers a bare call with the help, and a word that is no command with the commands that are near.
func (a *app) unknown(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	if cmd.Parent() == nil && word(dockerCommands, args[0]) {
		return usageError{errdef.WithHint(fmt.Errorf("docker's command %q: %w yet", args[0], errdef.ErrUnsupported), fmt.Sprintf("'%s --help' lists what there is", cmd.CommandPath()))}
	}
	err := fmt.Errorf("%q is not a %s command", args[0], cmd.CommandPath())
	hint := fmt.Sprintf("see '%s --help'", cmd.CommandPath())
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = fmt.Sprintf("did you mean '%s %s'?", cmd.CommandPath(), strings.Join(near, "' or '"+cmd.CommandPath()+" "))
	}
	return usageError{errdef.WithHint(err, hint)}
}

// group is a command that only holds others: `image`, `container`, `system`.
func (a *app) group(use, short string, sub ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs, RunE: a.unknown}
	cmd.AddCommand(sub...)
	return cmd
}

// exactly and atLeast are cobra's argument checks with docker's words and exit code.
func exactly(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		return argumentError(cmd, fmt.Sprintf("requires exactly %s", arguments(n)))
	}
}

func atLeast(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= n {
			return nil
		}
		return argumentError(cmd, fmt.Sprintf("requires at least %s", arguments(n)))
	}
}

func between(low, high int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= low && len(args) <= high {
			return nil
		}
		return argumentError(cmd, fmt.Sprintf("requires between %d and %s", low, arguments(high)))
	}
}

func argumentError(cmd *cobra.Command, what string) error {
	err := fmt.Errorf("'%s' %s", cmd.CommandPath(), what)
	return usageError{errdef.WithHint(err, "usage: "+cmd.UseLine())}
}

func arguments(n int) string {
	if n == 1 {
		return "1 argument"
	}
	return fmt.Sprintf("%d arguments", n)
}
