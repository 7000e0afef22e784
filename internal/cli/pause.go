package cli

import (
	"github.com/spf13/cobra"

	"strata/internal/container"
)

func (a *app) pause() *cobra.Command {
	return &cobra.Command{
		Use:   "pause CONTAINER [CONTAINER...]",
		Short: "Let all processes of containers stand still",
		Args:  atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(cmd.Context(), args, func(s *container.Store, rec container.Record) error {
				return s.Pause(cmd.Context(), rec)
			})
		},
	}
}

func (a *app) unpause() *cobra.Command {
	return &cobra.Command{
		Use:   "unpause CONTAINER [CONTAINER...]",
		Short: "Let the processes of paused containers go on",
		Args:  atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(cmd.Context(), args, func(s *container.Store, rec container.Record) error {
				return s.Unpause(cmd.Context(), rec)
			})
		},
	}
}
