package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// filterFlag collects the values of --filter. That one is no NAME=VALUE is said as of any flag with a wrong value; whether there is such a
// filter the verb finds out.
type filterFlag []string

func (f *filterFlag) String() string { return "" }
func (f *filterFlag) Type() string   { return "filter" }

func (f *filterFlag) Set(expr string) error {
	if !strings.Contains(expr, "=") {
		return fmt.Errorf("bad format of filter %.100q (expected name=value)", expr)
	}
	*f = append(*f, expr)
	return nil
}

// filterVar gives a command --filter, with a letter for it unless that is "".
func filterVar(cmd *cobra.Command, into *[]string, letter, usage string) {
	cmd.Flags().VarP((*filterFlag)(into), "filter", letter, usage)
}
