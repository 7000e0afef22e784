package dockerfile

import (
	"errors"
	"fmt"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/command"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// shape is what a whole Dockerfile looks like, for somebody who has never seen one.
const shape = "a Dockerfile begins with FROM alpine, and RUN, COPY and CMD follow, each with its arguments on one line"

// otherFile tells a file of another kind by the first word of the line that cannot be an instruction.
func (f *File) otherFile(word string) (msg, fix string) {
	switch lower := strings.ToLower(word); {
	case strings.HasPrefix(word, "{"):
		return "this is JSON, not a Dockerfile: an instruction is a word and its arguments on one line", "FROM alpine"
	case strings.HasPrefix(lower, "<!doctype"), strings.HasPrefix(lower, "<html"), strings.HasPrefix(lower, "<?xml"):
		return "this is a web page, not a Dockerfile", "download the file itself: on GitHub by the button Raw"
	case strings.HasPrefix(word, "```"), strings.HasPrefix(word, "~~~"):
		return "this line marks code in Markdown and is no part of the Dockerfile", "remove the line"
	case strings.HasPrefix(f.lines[0], "#!"):
		return "this is a script, not a Dockerfile", shape
	}
	return "", ""
}

// yaml explains a line of YAML.
func (f *File) yaml(first, last int, word string) error {
	if f.composes() {
		return f.fail(first, last, errors.New("this is a compose file (YAML), which names images and how they run; a Dockerfile, which says how one is made, is not YAML"),
			"build the Dockerfile that it names: strata build DIRECTORY")
	}
	bare := strings.TrimRight(word, ": ")
	fix := shape
	if isInstruction(bare) {
		fix = strings.Replace(f.Text(first, last), word, bare, 1)
	}
	return f.fail(first, last, fmt.Errorf("%q is YAML, and Dockerfiles are not YAML: an instruction is a word and its arguments on one line", word), fix)
}

// composes reports whether the file has the parts of a compose file at its top level.
func (f *File) composes() bool {
	for _, line := range f.lines {
		if strings.HasPrefix(line, "services:") {
			return true
		}
	}
	return false
}

// yamlLine reports whether a line that begins with word is YAML: "key: value", "- item", "---".
func (f *File) yamlLine(first int, word string) bool {
	if word == "---" || word == "-" || strings.HasSuffix(word, ":") {
		return true
	}
	key, _, colon := strings.Cut(word, ":")
	return colon && isInstruction(key) || strings.HasPrefix(strings.TrimSpace(strings.TrimPrefix(f.Text(first, first), word)), ": ")
}

// operators are what joins a shell's commands.
var operators = []string{"&&", "||", "|", ";"}

// continued explains a line that belongs to the instruction above it, which does not end with a backslash.
func (f *File) continued(first, last int, word string) error {
	before := first - 1
	for before > 0 && (strings.TrimSpace(f.lines[before-1]) == "" || strings.HasPrefix(strings.TrimSpace(f.lines[before-1]), "#")) {
		before--
	}
	if before == 0 {
		return nil
	}
	above := strings.TrimRight(f.lines[before-1], " \t")
	escape := string(f.escape())
	told := func(why, mended string) error {
		return f.fail(before, last, fmt.Errorf("%s: line %d needs a %s at its end", why, before, map[string]string{`\`: "backslash", "`": "backtick"}[escape]), mended)
	}
	for _, op := range operators {
		if strings.HasSuffix(above, op) {
			return told(fmt.Sprintf("line %d ends with %s, but line %d is no part of it", before, op, first), strings.TrimSpace(above)+" "+escape)
		}
		if strings.HasPrefix(word, op) {
			return told(fmt.Sprintf("%s stands at the beginning of an instruction", op), strings.TrimSpace(above)+" "+escape)
		}
	}
	indented := f.lines[first-1] != strings.TrimLeft(f.lines[first-1], " \t")
	if indented && (strings.Contains(word, "=") || Closest(strings.ToUpper(word), instructionNames()) == "") {
		mended := strings.TrimSpace(above) + " && " + escape
		if !f.shellLine(before) {
			mended = strings.TrimSpace(above) + " " + escape
		}
		return told(fmt.Sprintf("unknown instruction: %.60s; if it goes on from the line above", word), mended)
	}
	return nil
}

// shellLine reports whether line is part of a RUN, CMD or ENTRYPOINT.
func (f *File) shellLine(line int) bool {
	for ; line > 0; line-- {
		word, _, _ := strings.Cut(strings.TrimSpace(f.lines[line-1]), " ")
		if isInstruction(word) {
			return strings.EqualFold(word, command.Run) || strings.EqualFold(word, command.Cmd) || strings.EqualFold(word, command.Entrypoint)
		}
	}
	return false
}

// escape is the escape character, also while the file is not parsed yet.
func (f *File) escape() rune {
	if f.Escape == 0 {
		return '\\'
	}
	return f.Escape
}

// meant gives the instruction that does what a word of another language does.
func meant(word string) string {
	switch strings.ToLower(word) {
	case "cd", "chdir", "dir":
		return "WORKDIR"
	case "export", "set", "setenv":
		return "ENV"
	case "port", "ports", "publish":
		return "EXPOSE"
	case "start", "exec", "command":
		return "CMD"
	case "image", "base", "import":
		return "FROM"
	}
	return ""
}

// commands are programs that people write at the beginning of a line as if it were a shell's.
const commands = " adduser apk apt apt-get bash bundle bun cargo cat chmod chown composer cp curl deno dnf dotnet echo find gem git go gradle groupadd " +
	"java ln ls make microdnf mkdir mv mvn node npm npx pacman php pip pip3 pnpm python python3 rm ruby rustup sed sh sudo tar touch unzip useradd " +
	"wget yarn yum zypper "

// isCommand reports whether a word is the name of such a program, or a path.
func isCommand(word string) bool {
	return strings.Contains(commands, " "+word+" ") || strings.HasPrefix(word, "./") || strings.HasPrefix(word, "/")
}

// checkLines warns of what parses well and is not meant: the next instruction swallowed by a backslash, a command that
// goes on and has no end, curly quotes that a shell does not know.
func (f *File) checkLines() error {
	for _, n := range f.ast.Children {
		if len(n.Heredocs) > 0 {
			continue
		}
		f.checkContinuation(n)
		f.checkCurly(n)
	}
	return nil
}

// swallowers are the instructions in whose arguments no line begins with an instruction's name.
const swallowers = " run copy add env label expose workdir user volume cmd entrypoint "

func (f *File) checkContinuation(n *parser.Node) {
	if !strings.Contains(swallowers, " "+strings.ToLower(n.Value)+" ") {
		return
	}
	for line := n.StartLine + 1; line <= n.EndLine && line <= len(f.lines); line++ {
		word, _, _ := strings.Cut(f.lines[line-1], " ")
		if word == strings.ToUpper(word) && isInstruction(word) {
			f.warn("SwallowedInstruction", "", fmt.Sprintf("this %s is part of the %s above it, whose last line ends with a backslash", word, strings.ToUpper(n.Value)), place(line))
			return
		}
	}
	if !strings.EqualFold(n.Value, command.Run) || n.Next == nil {
		return
	}
	text := strings.TrimSpace(n.Next.Value)
	for _, op := range operators[:3] {
		if strings.HasSuffix(text, op) {
			f.warn("DanglingOperator", "", fmt.Sprintf("the command ends with %s, and nothing follows it", op), place(n.EndLine))
			return
		}
	}
}

func place(line int) []parser.Range {
	return []parser.Range{{Start: parser.Position{Line: line}, End: parser.Position{Line: line}}}
}

// checkCurly warns of values and arguments in quotes that are ordinary characters to Docker and to a shell.
func (f *File) checkCurly(n *parser.Node) {
	var before, quote rune
	var mended strings.Builder
	found := false
	for _, r := range n.Original {
		curly := r == '“' || r == '”' || r == '„'
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			quote = r
		case quote == 0 && curly:
			found = found || before == '=' || before == ' '
			r = '"'
		}
		mended.WriteRune(r)
		before = r
	}
	if found {
		f.warn("CurlyQuotes", "", "curly quotes are ordinary characters here; write: "+strings.TrimSpace(mended.String()), n.Location())
	}
}

// dashes finds a flag that is written with a long dash, and gives the mended line.
func dashes(n *parser.Node) string {
	for arg := n.Next; arg != nil; arg = arg.Next {
		for _, dash := range []string{"—", "–"} {
			if name, ok := strings.CutPrefix(arg.Value, dash); ok && strings.Contains(name, "=") {
				return strings.Replace(strings.TrimSpace(n.Original), arg.Value, "--"+strings.TrimPrefix(name, "-"), 1)
			}
		}
	}
	return ""
}
