package cli

import (
	"github.com/spf13/cobra"

	"strata/internal/container"
)

func (a *app) rename() *cobra.Command {
	return &cobra.Command{
		Use:   "rename CONTAINER NEW_NAME",
		Short: "Give a container another name",
		Args:  exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.one(cmd.Context(), args[0], func(s *container.Store, rec container.Record) error {
				return s.Rename(cmd.Context(), rec, args[1])
			})
		},
	}
}
