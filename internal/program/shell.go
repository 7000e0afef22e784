package program

import (
	"path"
	"slices"
	"strings"
)

// The bounds of what is looked at in a line for the shell.
const (
	maxLine     = 64 << 10
	maxCommands = 200
)

// builtins are the words of a shell that name no file. After openers another command begins.
const (
	builtins = ": . [ alias bg break case command continue cd declare echo esac eval exit export false fg fi for function " +
		"getopts hash if in jobs kill let local printf pwd read readonly return select set shift shopt source test times trap true type " +
		"typeset ulimit umask unalias unset until wait done }"
	openers = "if then elif else while until do ! { exec time nohup sudo"
)

// ExamineShell is [Examine] for what a shell was given with -c, after that shell ended with the exit code of a command that
// could not be executed. It looks at the words that plainly name a program: what the shell would compute is not known.
func ExamineShell(t Tree, c Command, code int) *Problem {
	line := shellLine(c.Args)
	if line == "" || code != 126 && code != 127 {
		return nil
	}
	if p := brokenForm(line); p != nil {
		p.Exit = code
		return p
	}
	p := examineLine(t, c, line, func(p *Problem) bool { return p.gives(code) })
	if p != nil {
		p.Exit = code
	}
	return p
}

// Foresee is [Examine] for a command that was not tried yet, a shell's line included. Of that line only what is there and
// cannot be executed is a problem: what is missing may come with a function, or another command of the line.
func Foresee(t Tree, c Command) *Problem {
	if p := Examine(t, c); p != nil {
		return p
	}
	return examineLine(t, c, shellLine(c.Args), func(p *Problem) bool { return p.Kind != Missing })
}

// brokenForm finds the exec form of a Dockerfile that is no JSON, so that a shell gets it.
func brokenForm(line string) *Problem {
	if len(line) < 2 || line[0] != '[' || line[1] == ' ' || line[1] == '[' {
		return nil
	}
	return &Problem{Kind: Missing, Exit: 127, Program: strings.Fields(line)[0],
		Why:  "this is an exec form that is no JSON array, so that a shell gets it as a command",
		Hint: `in the Dockerfile: CMD ["program", "argument"], with straight double quotes and without a comma at the end`}
}

// examineLine gives the first certain problem of a line's commands that wanted agrees to.
func examineLine(t Tree, c Command, line string, wanted func(*Problem) bool) *Problem {
	x := &examiner{tree: t, cmd: c}
	for _, words := range commands(line) {
		if words[0] == "cd" {
			x.cd(words)
			continue
		}
		if word(builtins, words[0]) {
			continue
		}
		one := x.cmd
		one.Args = words
		if p := Examine(t, one); p != nil && wanted(p) && p.certain(line) {
			return p
		}
	}
	return nil
}

// gives reports whether a shell ends with code at a problem: shells do not agree on what a lacking interpreter is.
func (p *Problem) gives(code int) bool {
	return p.Exit == code || p.Kind == Interpreter || p.Kind == Loader
}

// certain: what the shell itself does with the word is what was found. It runs a text without #! as a script, and a word
// that is not found may be a function or an alias.
func (p *Problem) certain(line string) bool {
	p.Direct, p.Instead = false, nil // it would stand in the place of the whole line
	switch p.Kind {
	case Format:
		return !strings.HasPrefix(p.Why, "it is a text") && p.Why != "the file is empty"
	case Missing:
		return p.Hint != "" && !strings.Contains(line, p.Program+"()") && !strings.Contains(line, "alias ")
	}
	return true
}

// cd follows a change of directory whose target is written out.
func (x *examiner) cd(words []string) {
	if len(words) == 2 && plain(words[1]) {
		x.cmd.Cwd = x.path(words[1])
	}
}

// shellLine is what args give to a shell with -c, or "".
func shellLine(args []string) string {
	if len(args) < 3 || !word(shells, path.Base(args[0])) {
		return ""
	}
	for i, arg := range args[1 : len(args)-1] {
		if !strings.HasPrefix(arg, "-") {
			return ""
		}
		if strings.HasSuffix(arg, "c") && !strings.HasPrefix(arg, "--") {
			line := args[i+2]
			return line[:min(len(line), maxLine)]
		}
	}
	return ""
}

// commands gives the simple commands of a line, each as far as its words are plain: the first always is.
func commands(line string) [][]string {
	var all [][]string
	for _, part := range split(strings.ReplaceAll(line, "\\\n", " ")) {
		words := strings.Fields(part)
		for len(words) > 0 && (word(openers, words[0]) || assignment(words[0])) {
			words = words[1:]
		}
		if len(words) == 0 || !plain(words[0]) || len(all) == maxCommands {
			continue
		}
		if end := slices.IndexFunc(words, func(w string) bool { return !plain(w) }); end > 0 {
			words = words[:end]
		}
		all = append(all, words)
	}
	return all
}

// split cuts a line where one command ends and another may begin, outside of quotes.
func split(line string) []string {
	var parts []string
	start, quote := 0, byte(0)
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\' && quote != '\'':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case strings.IndexByte("\n;|&()", c) >= 0:
			parts = append(parts, line[start:i])
			start = i + 1
		case c == '#' && (i == 0 || strings.IndexByte(" \t\n;", line[i-1]) >= 0):
			parts = append(parts, line[start:i])
			for i < len(line) && line[i] != '\n' {
				i++
			}
			start = min(i+1, len(line))
		}
	}
	return append(parts, line[min(start, len(line)):])
}

// plain words are those that the shell takes as they are.
func plain(w string) bool { return !strings.ContainsAny(w, "$`\"'\\*?[]{}<>=~") || w == "[" }

func assignment(w string) bool {
	name, _, ok := strings.Cut(w, "=")
	return ok && name != "" && !strings.ContainsAny(name, "$`\"'\\/")
}
