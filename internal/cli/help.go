package cli

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// docker's verbs that stand at the top and under a noun, with the names that they have there; "/" parts other names.
const (
	containerVerbs = "attach commit cp create diff exec export kill logs pause port ps=ls/list/ps rename restart rm=rm/remove run start stats stop top unpause update wait"
	imageVerbs     = "build history images=ls/list import load pull push rmi=rm/remove save tag"
	systemVerbs    = "events info"
)

// spellings gives all ways to write the command: "strata container ls, strata container list, strata ps".
func spellings(cmd *cobra.Command) []string {
	program, path := cmd.Root().Name(), strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" ")
	for noun, verbs := range map[string]string{"container": containerVerbs, "image": imageVerbs, "system": systemVerbs} {
		for verb := range strings.FieldsSeq(verbs) {
			top, below, renamed := strings.Cut(verb, "=")
			if !renamed {
				below = top
			}
			names := strings.Split(below, "/")
			if path != top && path != noun+" "+names[0] {
				continue
			}
			var all []string
			for _, name := range names {
				all = append(all, program+" "+noun+" "+name)
			}
			return append(all, program+" "+top)
		}
	}
	all := []string{cmd.CommandPath()}
	for _, alias := range cmd.Aliases {
		all = append(all, strings.TrimSuffix(cmd.CommandPath(), cmd.Name())+alias)
	}
	return all
}

// usageLine is the command with its arguments.
func usageLine(cmd *cobra.Command) string {
	switch {
	case !cmd.HasParent():
		return cmd.CommandPath() + " [OPTIONS] COMMAND [ARG...]"
	case cmd.HasSubCommands():
		return cmd.CommandPath() + " COMMAND"
	}
	arguments := strings.TrimPrefix(cmd.Use, cmd.Name())
	return cmd.CommandPath() + arguments
}

// help prints what there is to know of a command, in docker's layout.
func (a *app) help(cmd *cobra.Command, _ []string) {
	w := cmd.OutOrStdout()
	text := cmd.Long
	if text == "" {
		text = cmd.Short
	}
	fmt.Fprintf(w, "Usage:  %s\n\n%s\n", usageLine(cmd), strings.TrimSpace(text))
	if names := spellings(cmd); len(names) > 1 {
		fmt.Fprintf(w, "\nAliases:\n  %s\n", strings.Join(names, ", "))
	}
	if cmd.HasExample() {
		fmt.Fprintf(w, "\nExamples:\n%s\n", cmd.Example)
	}
	for _, group := range cmd.Groups() {
		commandList(w, cmd, group.Title, group.ID)
	}
	commandList(w, cmd, "Commands:", "")
	options(w, cmd)
	if cmd.HasSubCommands() {
		fmt.Fprintf(w, "\nRun '%s COMMAND --help' for more information on a command.\n", cmd.CommandPath())
	}
}

// commandList prints the commands of one group.
func commandList(w io.Writer, cmd *cobra.Command, title, group string) {
	for _, c := range cmd.Commands() {
		if !c.IsAvailableCommand() || c.GroupID != group {
			continue
		}
		if title != "" {
			fmt.Fprintf(w, "\n%s\n", title)
			title = ""
		}
		fmt.Fprintf(w, "  %-11s %s\n", c.Name(), c.Short)
	}
}

// options prints the command's flags, at the top the global ones, as wide as the terminal is.
func options(w io.Writer, cmd *cobra.Command) {
	title, flags := "Options:", cmd.LocalNonPersistentFlags()
	if !cmd.HasParent() {
		title, flags = "Global Options:", cmd.LocalFlags()
	}
	if help := flags.Lookup("help"); help != nil {
		help.Hidden = true
	}
	if !flags.HasAvailableFlags() {
		return
	}
	width := 80
	if f, ok := w.(*os.File); ok {
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil {
			width = max(columns, 40)
		}
	}
	// The columns are made for the longer word, docker's is the shorter.
	text := strings.ReplaceAll(flags.FlagUsagesWrapped(width-1), " stringArray", " list       ")
	fmt.Fprintf(w, "\n%s\n%s", title, text)
}

// helpCommand is `help [COMMAND]`, the same as COMMAND --help.
func (a *app) helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Show how a command is used",
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 && found.HasSubCommands() {
				return a.unknown(found, rest)
			}
			found.InitDefaultHelpFlag()
			found.InitDefaultVersionFlag()
			a.help(found, nil)
			return nil
		},
	}
}
