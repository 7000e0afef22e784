package cli

import (
	"errors"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"strata/internal/container"
)

// changesAny reports whether a flag of the verb itself was given.
func changesAny(cmd *cobra.Command) bool {
	any := false
	cmd.Flags().Visit(func(f *pflag.Flag) { any = any || cmd.Root().PersistentFlags().Lookup(f.Name) == nil })
	return any
}

func (a *app) update() *cobra.Command {
	var f resourceFlags
	var restart string
	cmd := &cobra.Command{
		Use:   "update [OPTIONS] CONTAINER [CONTAINER...]",
		Short: "Change what containers may use",
		Args:  atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !changesAny(cmd) {
				return errors.New("you must provide one or more flags when using this command")
			}
			change := container.Change{Resources: f.resources(cmd)}
			if cmd.Flags().Changed("restart") {
				p, err := container.ParseRestart(restart)
				if err != nil {
					return err
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
