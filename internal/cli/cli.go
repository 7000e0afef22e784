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
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"strata/internal/cli/render"
	"strata/internal/config"
	"strata/internal/container"
	"strata/internal/engine"
	"strata/internal/errdef"
	"strata/internal/userns"
)

// app is what every verb has at hand: the streams, the global flags and, once asked for, the engine.
type app struct {
	in       *os.File
	out, err io.Writer
	opts     engine.Options
	docker   *config.Docker // nil: not read yet
}

// status ends the program with a code and without a message: a container's own exit, a check that did not hold.
type status int

func (s status) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// usageError is a flag that there is not, or whose value cannot be understood: exit 125. Docker has that code for every verb, and for run
// whatever else is wrong; a wrong number of arguments, an unknown word or a filter without sense are a failure like others: exit 1.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// Main runs the command line and gives the exit code.
func Main(args []string) int {
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr}
	ctx, stop := interruptible(context.Background())
	defer stop()
	words, err := dockerGlobals(args[1:])
	if err != nil {
		return a.exitCode(ctx, err)
	}
	root := a.root(filepath.Base(args[0]), words)
	root.SetArgs(words)
	if len(words) > 0 && strings.HasPrefix(words[0], completionWord) {
		a.completing(root)
	}
	return a.exitCode(ctx, root.ExecuteContext(ctx))
}

// interruptible ends the context at the first SIGINT or SIGTERM; the second ends the program as if nobody had listened.
// Until somebody waits for its end nobody listens, and the first ends the program.
func interruptible(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	ch := make(chan os.Signal, 2)
	listen := func() {
		signal.Notify(ch, unix.SIGINT, unix.SIGTERM)
		go func() {
			sig := <-ch
			cancel(interrupted{sig.(unix.Signal)})
			// One keystroke, or one `timeout`, may send the same signal to us and to our group.
			time.Sleep(300 * time.Millisecond)
			signal.Stop(ch)
		}()
	}
	return &attentive{Context: ctx, listen: sync.OnceFunc(listen)}, func() { signal.Stop(ch); cancel(nil) }
}

// attentive is a context that begins to listen when it is waited for: listening costs a tenth of a short command's time.
type attentive struct {
	context.Context
	listen func()
}

func (a *attentive) Done() <-chan struct{} {
	a.listen()
	return a.Context.Done()
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
	var format *render.FormatError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &st):
		return int(st)
	case errors.As(context.Cause(ctx), &sig):
		fmt.Fprintln(a.err, "strata: interrupted")
		return 128 + int(sig.sig)
	}
	render.Error(a.err, mended(err, commandWords()))
	switch {
	case errors.As(err, &usage):
		return 125
	case errors.As(err, &code):
		return code.code
	case errors.As(err, &format):
		return 64
	}
	return 1
}

// open enters the user namespace when the user is not root, and opens the store. The caller closes the engine.
func (a *app) open(ctx context.Context) (*engine.Engine, error) {
	if err := a.enter(ctx); err != nil {
		return nil, err
	}
	a.opts.Notice = a.notice
	return engine.Open(ctx, a.opts)
}

// notice tells the user about the machine.
func (a *app) notice(text string) { fmt.Fprintln(a.err, "strata: "+render.Clean(text)) }

// watched says whether somebody sits at a terminal who is to be told what will not work. A program that reads our output
// has no use for it; doctor tells it to all.
func (a *app) watched() bool {
	f, ok := a.err.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// enter makes this process the (possibly namespaced) root that all verbs on the store run as. For a plain user it
// starts the program anew inside the namespace and does not return.
func (a *app) enter(ctx context.Context) error {
	ctx.Done() // from here on a signal is heard
	if !userns.MustEnter() {
		return nil
	}
	o := userns.EnterOptions{Root: a.opts.Root, Run: a.opts.Run}
	if a.watched() {
		o.Notice = a.notice
	}
	err := userns.Enter(ctx, o)
	if errors.Is(err, errdef.ErrDenied) {
		a.opts.Refused = err // much works without a namespace: what does not says so
		return nil
	}
	return err
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

// withContainers is with for what works on containers and volumes.
func (a *app) withContainers(ctx context.Context, fn func(s *container.Store) error) error {
	return a.with(ctx, func(e *engine.Engine) error {
		s, err := e.Containers()
		if err != nil {
			return err
		}
		return fn(s)
	})
}

func (a *app) root(name string, args []string) *cobra.Command {
	cmd := &cobra.Command{
		Use:           name,
		Short:         "Build, store, run, ship and explain container images, without a daemon",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE:          a.unknown,
	}
	cmd.CompletionOptions.HiddenDefaultCmd = true
	cmd.SetHelpFunc(a.help)
	cmd.SetHelpCommand(a.helpCommand())
	cmd.SetHelpCommandGroupID("system")
	cmd.SetOut(a.out)
	cmd.SetErr(a.err)
	cmd.SetFlagErrorFunc(a.flagError)
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

// group is a command that only holds others: `image`, `container`, `system`.
func (a *app) group(use, short string, sub ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs, RunE: a.unknown}
	cmd.AddCommand(sub...)
	return cmd
}
