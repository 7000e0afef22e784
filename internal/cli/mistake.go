package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"strata/internal/cli/render"
	"strata/internal/errdef"
)

// misuse is a command line that does not fit the command, in docker's words and layout: what is wrong, how the command is
// used, where more stands.
type misuse struct {
	cmd  *cobra.Command
	what string
}

func (m misuse) Error() string {
	usage := "\n\nUsage:  " + usageLine(m.cmd)
	if !m.cmd.HasParent() {
		usage = "" // of the whole program it says nothing
	}
	return fmt.Sprintf("%s%s\n\nRun '%s --help' for more information", m.what, usage, m.cmd.CommandPath())
}

// misused is the error, with the line that was most likely meant if there is one. Docker ends with 125 only where a flag is wrong,
// which the caller says, and with 1 for all else.
func misused(cmd *cobra.Command, what string, meant ...string) error {
	err := error(misuse{cmd, what})
	if len(meant) > 0 {
		err = errdef.WithHint(err, fmt.Sprintf("did you mean '%s'?", strings.Join(meant, "' or '")))
	}
	return err
}

// unknown answers a bare call with the help, and a word that is no command with the commands that are near.
func (a *app) unknown(cmd *cobra.Command, args []string) error {
	if len(args) == 0 || args[0] == "help" {
		return cmd.Help()
	}
	if why := absentCommands[args[0]]; cmd.Parent() == nil && why != "" {
		return fmt.Errorf("docker's command %q is not here, because %s: %w", args[0], why, errdef.ErrUnsupported)
	}
	if cmd.Parent() == nil && word(laterCommands, args[0]) {
		return errdef.WithHint(fmt.Errorf("docker's command %q: %w yet", args[0], errdef.ErrUnsupported), fmt.Sprintf("'%s --help' lists what there is", cmd.CommandPath()))
	}
	var meant []string
	for _, name := range near(args[0], a.commandNames(cmd)) {
		meant = append(meant, cmd.CommandPath()+" "+name)
	}
	return misused(cmd, fmt.Sprintf("unknown command: %s %s", cmd.CommandPath(), args[0]), meant...)
}

// hintVerb is for `images ls`, which lists the images of a repository called ls: there is none, and a verb was meant.
func (a *app) hintVerb(cmd *cobra.Command, name string) {
	noun := a.imageGroup()
	if found, _, err := noun.Find([]string{name}); err == nil && found != noun {
		render.Hint(a.err, fmt.Sprintf("did you mean '%s image %s'?", cmd.Root().Name(), name))
	}
}

// commandNames lists the commands of cmd with their other names. At the top not all of them have been made.
func (a *app) commandNames(cmd *cobra.Command) []string {
	var names []string
	if cmd.Parent() == nil {
		for _, v := range a.verbs() {
			names = append(names, v.name)
		}
		return names
	}
	for _, c := range cmd.Commands() {
		names = append(append(names, c.Name()), c.Aliases...)
	}
	return names
}

// flagError is what a flag that is not there gets: docker's that is still to come, or one that nobody knows. Flags of a word
// that is no command are not the mistake.
func (a *app) flagError(c *cobra.Command, err error) error {
	if words := c.Flags().Args(); c.HasSubCommands() && len(words) > 0 {
		return a.unknown(c, words)
	}
	name := flagName(err.Error())
	if long, ok := dockerShorthands[name]; ok && len(name) == 1 {
		name = long
	}
	if why := absentFlags[name]; why != "" && (c.Name() == "run" || c.Name() == "create") {
		return usageError{errdef.WithHint(fmt.Errorf("flag --%s of docker's %s: %w", name, c.Name(), errdef.ErrUnsupported), why)}
	}
	if name != "" && word(laterFlags[c.Name()], name) {
		return usageError{errdef.WithHint(fmt.Errorf("flag --%s of docker's %s: %w yet", name, c.Name(), errdef.ErrUnsupported), fmt.Sprintf("'%s --help' lists what there is", c.CommandPath()))}
	}
	if hint := twoHyphens(c, err.Error()); hint != "" {
		return usageError{errdef.WithHint(misused(c, err.Error()), hint)}
	}
	var flags, meant []string
	c.Flags().VisitAll(func(f *pflag.Flag) { flags = append(flags, f.Name) })
	if len(name) > 1 {
		for _, flag := range near(name, flags) {
			meant = append(meant, "--"+flag)
		}
	}
	return usageError{misused(c, err.Error(), meant...)}
}

// near gives those of the names, at most three, that were most likely meant by the typed word.
func near(typed string, names []string) []string {
	var found []string
	best := 2
	for _, name := range names {
		d := editDistance(strings.ToLower(typed), name)
		if strings.HasPrefix(name, strings.ToLower(typed)) {
			d = min(d, 1)
		}
		if d > min(best, len(name)/2) {
			continue
		}
		if d < best {
			best, found = d, nil
		}
		found = append(found, name)
	}
	slices.Sort(found)
	return found[:min(3, len(found))]
}

// editDistance counts the letters that must be put in, left out, exchanged or swapped with a neighbour to make b of a.
func editDistance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(a)][len(b)]
}

// exactly, atLeast and between are cobra's argument checks with docker's words.
func exactly(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == n:
			return nil
		case n == 0:
			return argumentError(cmd, "accepts no arguments")
		}
		return argumentError(cmd, "requires "+arguments(n))
	}
}

func atLeast(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= n {
			return nil
		}
		return argumentError(cmd, "requires at least "+arguments(n))
	}
}

func between(low, high int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) >= low && len(args) <= high:
			return nil
		case low == 0:
			return argumentError(cmd, "requires at most "+arguments(high))
		}
		return argumentError(cmd, fmt.Sprintf("requires at least %d and at most %s", low, arguments(high)))
	}
}

func argumentError(cmd *cobra.Command, what string) error {
	err := misused(cmd, fmt.Sprintf("'%s' %s", cmd.CommandPath(), what))
	if hint := swallowed(cmd, commandWords()); hint != "" {
		return errdef.WithHint(err, hint)
	}
	return err
}

func arguments(n int) string {
	if n == 1 {
		return "1 argument"
	}
	return fmt.Sprintf("%d arguments", n)
}
