package cli

import (
	"github.com/spf13/cobra"

	"strata/internal/cli/render"
	"strata/internal/container"
)

func (a *app) top() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "top CONTAINER [ps OPTIONS]",
		Short: "List the processes of a running container",
		Args:  atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.one(cmd.Context(), args[0], func(s *container.Store, rec container.Record) error {
				titles, rows, err := s.Top(cmd.Context(), rec, args[1:])
				if err != nil {
					return err
				}
				return render.Processes(a.out, titles, rows)
			})
		},
	}
	cmd.Flags().SetInterspersed(false) // what follows the container is for ps
	return cmd
}
