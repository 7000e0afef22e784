package cli

import (
	"github.com/spf13/cobra"

	"strata/internal/container"
)

func (a *app) update() *cobra.Command {
	var f resourceFlags
	var restart string
	cmd := &cobra.Command{
		Use:   "update [OPTIONS] CONTAINER [CONTAINER...]",
		Short: "Change what containers may use",
		Args:  atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().NFlag() == 0 {
				return usagef("you must provide one or more flags when using this command")
			}
			change := container.Change{Resources: f.resources(cmd)}
			if cmd.Flags().Changed("restart") {
				p, err := container.ParseRestart(restart)
				if err != nil {
					return usageError{err}
				}
				change.Restart = &p
			}
			return a.each(cmd.Context(), args, func(s *container.Store, rec container.Record) error {
				return s.Update(cmd.Context(), rec, change)
			})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&restart, "restart", "", "when to start it again: no, on-failure[:N], always, unless-stopped")
	return cmd
}
