package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"strata/internal/cli/render"
	"strata/internal/engine"
	"strata/internal/event"
)

func (a *app) events() *cobra.Command {
	var since, until, format string
	var filters []string
	cmd := &cobra.Command{
		Use:   "events [OPTIONS]",
		Short: "Show what happens to containers, images and volumes",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var q event.Query
			var err error
			if q.Since, err = moment("since", since); err != nil {
				return err
			}
			if q.Until, err = moment("until", until); err != nil {
				return err
			}
			if q.Filter, err = event.ParseFilter(filters); err != nil {
				return err
			}
			out, err := render.NewEvents(a.out, format)
			if err != nil {
				return err
			}
			return a.watching(cmd.Context(), a.with(cmd.Context(), func(e *engine.Engine) error {
				return e.Events(cmd.Context(), q, out.Print)
			}))
		},
	}
	fl := cmd.Flags()
	filterVar(cmd, &filters, "f", "show only events for which it holds: type= event= container= image= volume= network= label=")
	fl.StringVar(&format, "format", "", "print with a template, or json")
	fl.StringVar(&since, "since", "", "show past events too, from this time or age on (2026-01-02T15:04:05, 10m)")
	fl.StringVar(&until, "until", "", "end at this time; past events are shown too")
	return cmd
}

// watching turns the end of a command that goes on until somebody ends it into docker's silent exit code, 130 after Ctrl-C.
func (a *app) watching(ctx context.Context, err error) error {
	var sig interrupted
	if errors.Is(err, context.Canceled) && errors.As(context.Cause(ctx), &sig) {
		return status(128 + int(sig.sig))
	}
	return err
}
