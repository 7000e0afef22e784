package cli

import (
	"github.com/spf13/cobra"

	"strata/internal/container"
)

func (a *app) update() *cobra.Command {
	var f resourceFlags
	cmd := &cobra.Command{
		Use:   "update [OPTIONS] CONTAINER [CONTAINER...]",
		Short: "Change what containers may use",
		Args:  atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().NFlag() == 0 {
				return usagef("you must provide one or more flags when using this command")
			}
			return a.each(cmd.Context(), args, func(s *container.Store, rec container.Record) error {
				return s.Update(cmd.Context(), rec, f.resources(cmd))
			})
		},
	}
	f.add(cmd)
	return cmd
}
