package dockerfile

import (
	"errors"
	"fmt"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/command"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// explain gives a better error for the mistakes that people make, or nil.
func (f *File) explain(first, last int, err error) error {
	var unknown *instructions.UnknownInstructionError
	if errors.As(err, &unknown) {
		return f.unknownInstruction(first, last, unknown.Instruction)
	}
	switch text := innerText(err); {
	case strings.Contains(text, "no build stage in current context"):
		return f.fail(first, last, errors.New("no FROM before this instruction: a Dockerfile starts with FROM (only ARG may stand before it)"),
			"FROM alpine")
	case strings.Contains(text, "file with no instructions"):
		return f.fail(0, 0, errors.New("the file has comments but no instructions: a Dockerfile starts with FROM"), "FROM alpine")
	case strings.Contains(text, "FROM requires either one or three arguments"):
		words := strings.Fields(f.Text(first, last))
		if len(words) > 1 && words[1] == ":" {
			return f.yaml(first, last, words[0]+" :")
		}
		if len(words) == 3 {
			return f.fail(first, last, errors.New(text), words[0]+" "+words[1]+" AS "+words[2])
		}
	case strings.HasSuffix(text, "Destination could not be determined"):
		return f.fail(first, last, errors.New(text), f.Text(first, last)+" .")
	case strings.HasPrefix(text, "unknown flag: "):
		wrong, right, ok := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(text, "unknown flag: "), "?)"), " (did you mean ")
		if ok {
			return f.fail(first, last, errors.New(text), strings.Replace(f.Text(first, last), wrong, "--"+right, 1))
		}
	case strings.Contains(text, "unterminated heredoc"):
		return f.At(first, first, errors.New("the here-document that starts here does not end: its last line must be its name alone"))
	}
	return nil
}

// unknownInstruction tells what a line is that begins with no instruction: another kind of file, a part of the line above,
// a shell's command, or a misspelling.
func (f *File) unknownInstruction(first, last int, word string) error {
	if msg, fix := f.otherFile(word); msg != "" {
		return f.fail(first, last, errors.New(msg), fix)
	}
	if f.yamlLine(first, word) {
		return f.yaml(first, last, word)
	}
	if err := f.continued(first, last, word); err != nil {
		return err
	}
	near := meant(word)
	if near == "" && isCommand(word) {
		return f.fail(first, last, fmt.Errorf("unknown instruction: %.60s (a command is run by RUN, or by CMD when the container starts)", word),
			"RUN "+f.Text(first, last))
	}
	if near == "" {
		near = Closest(strings.ToUpper(word), instructionNames())
	}
	if near == "" {
		return f.fail(first, last, fmt.Errorf("unknown instruction: %.60s", word), "")
	}
	return f.fail(first, last, fmt.Errorf("unknown instruction: %.60s (did you mean %s?)", word, near),
		strings.Replace(f.Text(first, last), word, near, 1))
}

func isInstruction(word string) bool {
	_, ok := command.Commands[strings.ToLower(word)]
	return ok
}

func instructionNames() []string {
	names := make([]string, 0, len(command.Commands))
	for name := range command.Commands {
		names = append(names, strings.ToUpper(name))
	}
	return names
}

// Closest gives the option that word most likely means: at most two edits away, and "" when there is none or word is one.
// Of two that are equally close it is the first in alphabetical order.
func Closest(word string, options []string) string {
	if len(word) > 64 {
		return ""
	}
	best, least := "", 3
	for _, o := range options {
		d := distance(word, o)
		if d == 0 {
			return ""
		}
		if d < least || d == least && best != "" && o < best {
			best, least = o, d
		}
	}
	// Two edits make any short word of any other.
	if least >= len(word) {
		return ""
	}
	return best
}

// distance counts the edits that make b of a: insert, delete, change, or swap two neighbours.
func distance(a, b string) int {
	if len(a)-len(b) > 2 || len(b)-len(a) > 2 {
		return 3
	}
	before, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev, cur = prev, cur, before
	}
	return prev[len(b)]
}
