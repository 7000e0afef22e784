package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"strata/internal/cli/render"
	"strata/internal/container"
	"strata/internal/engine"
	"strata/internal/errdef"
)

// each runs fn on every named container, goes on after a failure, and prints what was named when it went well.
func (a *app) each(ctx context.Context, names []string, fn func(s *container.Store, rec container.Record) error) error {
	return a.eachOf(ctx, names, false, fn)
}

// eachOf is [app.each] that may forgive, with a word, a container that is not there: rm -f promises only that it is gone.
func (a *app) eachOf(ctx context.Context, names []string, forgive bool, fn func(s *container.Store, rec container.Record) error) error {
	return a.with(ctx, func(e *engine.Engine) error {
		s, err := e.Containers()
		if err != nil {
			return err
		}
		var errs []error
		for _, name := range names {
			rec, err := s.Lookup(ctx, name)
			if err == nil {
				err = fn(s, rec)
			} else if !forgive {
				err = absent(ctx, e, s, name, err)
			}
			if forgive && errors.Is(err, errdef.ErrNotFound) {
				render.Error(a.err, err)
				continue
			}
			if err != nil {
				errs = append(errs, err)
				continue
			}
			fmt.Fprintln(a.out, name)
		}
		return errors.Join(errs...)
	})
}

// one runs fn on the named container.
func (a *app) one(ctx context.Context, name string, fn func(s *container.Store, rec container.Record) error) error {
	return a.with(ctx, func(e *engine.Engine) error {
		s, err := e.Containers()
		if err != nil {
			return err
		}
		rec, err := s.Lookup(ctx, name)
		if err != nil {
			return absent(ctx, e, s, name, err)
		}
		return fn(s, rec)
	})
}

func (a *app) start() *cobra.Command {
	var attach, stdin bool
	var detachKeys string
	cmd := &cobra.Command{
		Use:   "start [OPTIONS] CONTAINER [CONTAINER...]",
		Short: "Start containers that were created or have stopped",
		Args:  atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if !attach && !stdin {
				return runFailure(a.each(ctx, args, func(s *container.Store, rec container.Record) error {
					_, err := s.Start(ctx, rec, container.StartOptions{})
					return invocation{}.explain(err)
				}), 1)
			}
			if len(args) > 1 {
				return errors.New("cannot attach to several containers at once: name one")
			}
			var err error
			if detachKeys, err = a.detachKeys(detachKeys); err != nil {
				return err
			}
			return runFailure(a.one(ctx, args[0], func(s *container.Store, rec container.Record) error {
				res, err := s.Start(ctx, rec, container.StartOptions{
					Attach: true, DetachKeys: detachKeys, SigProxy: true, Streams: a.streams(stdin),
				})
				if err != nil {
					return invocation{}.explain(err)
				}
				return a.exitWith(invocation{}, res)
			}), 1)
		},
	}
	cmd.Flags().BoolVarP(&attach, "attach", "a", false, "attach to its output and pass signals on")
	cmd.Flags().BoolVarP(&stdin, "interactive", "i", false, "attach to its standard input too")
	cmd.Flags().StringVar(&detachKeys, "detach-keys", "", "keys that detach: ctrl-p,ctrl-q unless given")
	return cmd
}

func (a *app) attach() *cobra.Command {
	var noStdin, sigProxy bool
	var detachKeys string
	cmd := &cobra.Command{
		Use:   "attach [OPTIONS] CONTAINER",
		Short: "Attach to a running container's streams",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if sigProxy {
				ctx = context.WithoutCancel(ctx) // the signal goes to the container, which ends as it likes
			}
			var err error
			if detachKeys, err = a.detachKeys(detachKeys); err != nil {
				return err
			}
			return a.one(ctx, args[0], func(s *container.Store, rec container.Record) error {
				res, err := s.Attach(ctx, rec, container.AttachOptions{
					Streams: a.streams(!noStdin), DetachKeys: detachKeys, SigProxy: sigProxy,
				})
				if err != nil {
					return err
				}
				return a.exitWith(invocation{}, res)
			})
		},
	}
	cmd.Flags().BoolVar(&noStdin, "no-stdin", false, "do not attach standard input")
	cmd.Flags().BoolVar(&sigProxy, "sig-proxy", true, "pass signals on to the container's process")
	cmd.Flags().StringVar(&detachKeys, "detach-keys", "", "keys that detach: ctrl-p,ctrl-q unless given")
	return cmd
}

func (a *app) exec() *cobra.Command {
	var o container.ExecOptions
	var env, envFiles []string
	var stdin bool
	cmd := &cobra.Command{
		Use:   "exec [OPTIONS] CONTAINER COMMAND [ARG...]",
		Short: "Run a command in a running container",
		Args:  atLeast(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if o.Env, err = environment(envFiles, env); err != nil {
				return err
			}
			if o.DetachKeys, err = a.detachKeys(o.DetachKeys); err != nil {
				return failure{err, 1}
			}
			o.Args, o.Streams = args[1:], a.streams(stdin)
			if o.Tty && stdin && !o.Detach && !term.IsTerminal(int(a.in.Fd())) {
				return failure{noTerminal(), 1}
			}
			return execFailure(a.one(cmd.Context(), args[0], func(s *container.Store, rec container.Record) error {
				res, err := s.Exec(cmd.Context(), rec, o)
				if err != nil {
					return typed(cmd, args).explain(err)
				}
				return a.exitWith(typed(cmd, args), res)
			}), o.Detach)
		},
	}
	fl := cmd.Flags()
	fl.SetInterspersed(false)
	fl.StringArrayVarP(&env, "env", "e", nil, "set NAME=value, or take NAME from here")
	fl.StringArrayVar(&envFiles, "env-file", nil, "read environment variables from a file")
	fl.StringVarP(&o.Cwd, "workdir", "w", "", "working directory in the container")
	fl.StringVarP(&o.User, "user", "u", "", "user or uid, with :group or :gid if you like")
	fl.BoolVarP(&o.Tty, "tty", "t", false, "give the command a terminal")
	fl.BoolVarP(&stdin, "interactive", "i", false, "keep standard input open")
	fl.BoolVarP(&o.Detach, "detach", "d", false, "run the command in the background")
	fl.StringVar(&o.DetachKeys, "detach-keys", "", "keys that detach: ctrl-p,ctrl-q unless given")
	fl.BoolVar(&o.Privileged, "privileged", false, "give the command all capabilities")
	return cmd
}

func (a *app) stop() *cobra.Command {
	return a.stopping("stop", "Stop running containers: the stop signal first, SIGKILL after the time", (*container.Store).Stop)
}

func (a *app) restart() *cobra.Command {
	return a.stopping("restart", "Stop containers and start them again", (*container.Store).Restart)
}

// stopping is a verb that stops containers first.
func (a *app) stopping(name, short string, do func(s *container.Store, ctx context.Context, rec container.Record, o container.StopOptions) error) *cobra.Command {
	var o container.StopOptions
	var timeout int
	cmd := &cobra.Command{
		Use:   name + " [OPTIONS] CONTAINER [CONTAINER...]",
		Short: short,
		Args:  atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("timeout") || cmd.Flags().Changed("time") {
				o.Timeout = &timeout
			}
			return a.each(cmd.Context(), args, func(s *container.Store, rec container.Record) error {
				return do(s, cmd.Context(), rec, o)
			})
		},
	}
	cmd.Flags().StringVarP(&o.Signal, "signal", "s", "", "signal to send instead of the container's own stop signal")
	cmd.Flags().IntVarP(&timeout, "timeout", "t", 10, "seconds to wait before SIGKILL; -1 waits for ever")
	cmd.Flags().IntVar(&timeout, "time", 10, "seconds to wait before SIGKILL")
	_ = cmd.Flags().MarkHidden("time") // fails only for a flag that is not there
	return cmd
}

func (a *app) kill() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "kill [OPTIONS] CONTAINER [CONTAINER...]",
		Short: "Send a signal to running containers",
		Args:  atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			sig, err := container.ParseSignal(name)
			if err != nil {
				return err
			}
			return a.each(cmd.Context(), args, func(s *container.Store, rec container.Record) error {
				return s.Kill(cmd.Context(), rec, sig)
			})
		},
	}
	cmd.Flags().StringVarP(&name, "signal", "s", "KILL", "signal to send")
	return cmd
}

func (a *app) wait() *cobra.Command {
	return &cobra.Command{
		Use:   "wait CONTAINER [CONTAINER...]",
		Short: "Wait until containers end and print their exit codes",
		Args:  atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var errs []error
			for _, name := range args {
				errs = append(errs, a.one(cmd.Context(), name, func(s *container.Store, rec container.Record) error {
					code, err := s.Wait(cmd.Context(), rec)
					if err == nil {
						fmt.Fprintln(a.out, code)
					}
					return err
				}))
			}
			return errors.Join(errs...)
		},
	}
}

func (a *app) rm() *cobra.Command {
	var o container.RemoveOptions
	cmd := &cobra.Command{
		Use:   "rm [OPTIONS] CONTAINER [CONTAINER...]",
		Short: "Remove containers",
		Args:  atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.eachOf(cmd.Context(), args, o.Force, func(s *container.Store, rec container.Record) error {
				return s.Remove(cmd.Context(), rec, o)
			})
		},
	}
	cmd.Flags().BoolVarP(&o.Force, "force", "f", false, "kill a running container first")
	cmd.Flags().BoolVarP(&o.Volumes, "volumes", "v", false, "remove its anonymous volumes too")
	return cmd
}

func (a *app) logs() *cobra.Command {
	o := container.LogOptions{}
	var tail, since, until string
	cmd := &cobra.Command{
		Use:   "logs [OPTIONS] CONTAINER",
		Short: "Show what a container wrote",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if o.Tail, err = tailLines(tail); err != nil {
				return err
			}
			if o.Since, err = moment("since", since); err != nil {
				return err
			}
			if o.Until, err = moment("until", until); err != nil {
				return err
			}
			return a.one(cmd.Context(), args[0], func(s *container.Store, rec container.Record) error {
				return s.Logs(cmd.Context(), rec, o, a.out, a.err)
			})
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&o.Follow, "follow", "f", false, "go on until the container ends")
	fl.BoolVarP(&o.Timestamps, "timestamps", "t", false, "show when each line was written")
	fl.BoolVar(&o.Details, "details", false, "show the labels and variables that --log-opt put beside each line")
	fl.StringVarP(&tail, "tail", "n", "all", "number of lines from the end")
	fl.StringVar(&since, "since", "", "only what was written since this time or age (2026-01-02T15:04:05, 10m)")
	fl.StringVar(&until, "until", "", "only what was written before this time or age")
	return cmd
}

// tailLines reads --tail; -1 is all lines, as is any negative number for docker.
func tailLines(s string) (int, error) {
	if s == "all" {
		return -1, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, usagef("--tail %q: want a number of lines, or all", s)
	}
	return max(n, -1), nil
}

// moment reads docker's times: an age, seconds since 1970, or a date.
func moment(flag, s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if age, err := time.ParseDuration(s); err == nil && s != "0" {
		return time.Now().Add(-age), nil
	}
	if sec, err := time.ParseDuration(s + "s"); err == nil && !strings.ContainsAny(s, "-:T") {
		return time.Unix(0, 0).Add(sec), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("--%s %q: want an age (10m), seconds since 1970 or a date (2026-01-02T15:04:05)", flag, s)
}
