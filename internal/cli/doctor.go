package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"strata/internal/doctor"
)

func (a *app) doctor() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check this machine: what strata needs, and the line that mends what is missing",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			// Inside the user's namespace more can be tried out. Where it cannot be entered, that is what the checks tell.
			if err := a.enter(cmd.Context()); errors.Is(err, context.Canceled) {
				return err
			}
			checks := doctor.Run(cmd.Context(), doctor.Options{Root: a.opts.Root, Run: a.opts.Run, Runtime: a.opts.Runtime})
			failed := false
			for _, c := range checks {
				failed = failed || c.Status == doctor.Fail
			}
			if asJSON {
				if err := json.NewEncoder(a.out).Encode(checks); err != nil {
					return err
				}
			} else {
				a.printChecks(checks)
			}
			if failed {
				return status(3)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the checks as JSON")
	return cmd
}

func (a *app) printChecks(checks []doctor.Check) {
	for _, c := range checks {
		fmt.Fprintf(a.out, "%-5s %-16s %s\n", c.Status, c.Name, c.Detail)
		if c.Fix != "" {
			fmt.Fprintf(a.out, "      %-16s → %s\n", "", c.Fix)
		}
	}
}
