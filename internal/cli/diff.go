package cli

import (
	"bufio"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"strata/internal/cli/render"
	"strata/internal/engine"
)

func (a *app) diff() *cobra.Command {
	return &cobra.Command{
		Use:   "diff CONTAINER",
		Short: "Show what a container changed in its files",
		Long:  "Show what a container added (A), changed (C) and deleted (D) in its image's files.",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				changes, err := e.Diff(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				f, ok := a.out.(*os.File)
				terminal := ok && render.IsTerminal(f)
				w := bufio.NewWriter(a.out)
				for _, c := range changes {
					if terminal {
						c.Path = render.Clean(c.Path)
					}
					fmt.Fprintf(w, "%c %s\n", c.Kind, c.Path)
				}
				return w.Flush()
			})
		},
	}
}
