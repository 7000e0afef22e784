package cli

import (
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"strata/internal/cli/render"
	"strata/internal/container"
	"strata/internal/errdef"
	"strata/internal/program"
	"strata/internal/runtime"
)

// invocation is what was typed for a verb that runs a command: its words up to the image or the container, and the
// command behind that.
type invocation struct {
	cmd  *cobra.Command
	own  []string // "strata", "run", "--rm"
	noun string   // the image or the container
	args []string
}

// typed cuts what was typed apart: args, the last words of it, are the image or the container and the command.
func typed(cmd *cobra.Command, args []string) invocation {
	own := slices.Clone(os.Args[:len(os.Args)-len(args)])
	own[0] = cmd.Root().Name()
	return invocation{cmd: cmd, own: own, noun: args[0], args: args[1:]}
}

// exitWith ends the program as the container ended. What could not be executed is explained.
func (a *app) exitWith(line invocation, res container.Result) error {
	if res.Detached || res.Code == 0 {
		return nil
	}
	if res.Problem != nil {
		render.Error(a.err, errdef.WithHint(res.Problem, line.mended(res.Problem)))
	}
	return status(res.Code)
}

// explain adds to an error of starting a command the line that would have been right.
func (l invocation) explain(err error) error {
	var start *runtime.StartError
	if err == nil || !errors.As(err, &start) || errdef.Hint(err) != "" {
		return err
	}
	hint := machineHint(start)
	if start.Problem != nil {
		hint = l.mended(start.Problem)
	}
	if hint != "" {
		return errdef.WithHint(err, hint)
	}
	return err
}

// machineHint is what helps where the machine, not the command, is why a runtime could not start it.
func machineHint(e *runtime.StartError) string {
	switch {
	case e.Exit != 125 || e.Raw == "":
		return "" // the command, or an error of our own
	case strings.Contains(e.Raw, "no cgroup mount found"):
		return "mount -t cgroup2 cgroup2 /sys/fs/cgroup   (strata doctor tells what else is missing)"
	}
	for _, part := range []string{"cgroup", "namespace", "seccomp", "operation not permitted"} {
		if strings.Contains(e.Raw, part) {
			return "strata doctor   tells what this machine lacks"
		}
	}
	return ""
}

// mended says what mends a problem, with the whole line to type where it is known.
func (l invocation) mended(p *program.Problem) string {
	var words []string
	switch i := l.entrypoint(p); {
	case i > 0 && p.Instead != nil:
		words = slices.Concat(l.own, []string{l.noun}, l.args)
		words[i] = strings.TrimSuffix(words[i], p.Program) + p.Instead[0]
	case len(l.args) == 0: // the command is the image's
		if p.Instead != nil {
			words = slices.Concat(l.own, []string{"--entrypoint", p.Instead[0], l.noun}, p.Instead[1:])
		}
	case l.args[0] != p.Program: // the image's entrypoint, or something in a shell's line
	case p.Option:
		options, rest := l.options()
		words = slices.Concat(l.own, options, []string{l.noun}, rest)
	case p.Instead != nil:
		words = slices.Concat(l.own, []string{l.noun}, p.Instead)
	}
	if l.own == nil || words == nil {
		return p.Hint
	}
	if strings.HasSuffix(p.Hint, "?") {
		return p.Hint + " " + shellWords(words)
	}
	return p.Hint + ": " + shellWords(words)
}

// entrypoint is where among the words --entrypoint names the program; 0 where it does not.
func (l invocation) entrypoint(p *program.Problem) int {
	for i, w := range l.own {
		if w == "--entrypoint="+p.Program || i > 0 && l.own[i-1] == "--entrypoint" && w == p.Program {
			return i
		}
	}
	return 0
}

// options are the words of the command that are options of the verb, with their values, and what follows them.
func (l invocation) options() (options, rest []string) {
	i := 0
	for i < len(l.args) && strings.HasPrefix(l.args[i], "-") && l.args[i] != "-" {
		takes := l.takesValue(l.args[i])
		if i++; takes && i < len(l.args) {
			i++
		}
	}
	return l.args[:i], l.args[i:]
}

// takesValue reports whether an option's value is the next word.
func (l invocation) takesValue(word string) bool {
	if strings.Contains(word, "=") {
		return false
	}
	f := l.flag(word)
	return f != nil && f.NoOptDefVal == ""
}

// flag is the one that a word names, of several letters behind one hyphen the last; nil if there is none.
func (l invocation) flag(word string) *pflag.Flag {
	if name, long := strings.CutPrefix(word, "--"); long {
		return l.cmd.Flags().Lookup(name)
	}
	return l.cmd.Flags().ShorthandLookup(word[len(word)-1:])
}

// shellWords writes words so that a shell reads them as they are.
func shellWords(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = w
		if w == "" || strings.ContainsAny(w, " \t\n|&;<>()$`\\\"'*?[]#~{}!") {
			quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}
