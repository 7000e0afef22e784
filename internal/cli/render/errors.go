package render

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"strata/internal/errdef"
)

// Error prints what went wrong and, where it is known, the line that mends it:
//
//	strata: image "x": not found
//	hint: strata pull x
//
// Both are clean text. They have colours on a terminal, unless NO_COLOR is set.
func Error(w io.Writer, err error) {
	if err == nil {
		return
	}
	coloured := colours(w)
	message := strings.TrimRight(Clean(err.Error()), "\n")
	fmt.Fprintln(w, paint("strata:", red, coloured), Sentence(message))
	if hint := errdef.Hint(err); hint != "" {
		Hint(w, hint)
	}
}

// Hint prints what a person may want to type next.
func Hint(w io.Writer, hint string) {
	for line := range strings.SplitSeq(strings.TrimRight(Clean(hint), "\n"), "\n") {
		fmt.Fprintln(w, paint("hint:", cyan, colours(w)), line)
	}
}

// Sentence leaves out of an error's text, line by line, the classes of errdef at its end that say nothing new: one that was
// said just before, by another class or by the system's own words, and "invalid" and its like where a reason stands.
func Sentence(message string) string {
	lines := strings.Split(message, "\n")
	for i, line := range lines {
		for short := withoutClass(line); short != line; short = withoutClass(line) {
			line = short
		}
		lines[i] = line
	}
	return strings.Join(lines, "\n")
}

// said are the words of the system that say what a class says.
var said = []struct {
	class error
	words []string
}{
	{errdef.ErrNotFound, []string{"no such file or directory", "no such process"}},
	{errdef.ErrDenied, []string{"permission denied", "operation not permitted", "read-only file system"}},
	{errdef.ErrExists, []string{"file exists"}},
	{errdef.ErrUnsupported, []string{"operation not supported", "function not implemented"}},
}

func withoutClass(line string) string {
	for _, class := range []error{errdef.ErrInvalid, errdef.ErrConflict, errdef.ErrUnavailable, errdef.ErrLimit} {
		rest, ok := strings.CutSuffix(line, ": "+class.Error())
		if ok && (strings.Contains(rest, ": ") || len(strings.Fields(rest)) > 3) {
			return rest
		}
	}
	for _, class := range []error{errdef.ErrNotFound, errdef.ErrDenied, errdef.ErrExists, errdef.ErrUnsupported, errdef.ErrCorrupt} {
		rest, ok := strings.CutSuffix(line, ": "+class.Error())
		if ok && (strings.HasSuffix(rest, class.Error()) || tells(rest, class)) {
			return rest
		}
	}
	return line
}

// tells reports whether the end of text says what the class says.
func tells(text string, class error) bool {
	if class == errdef.ErrNotFound && strings.HasPrefix(strings.ToLower(text), "no such ") {
		return true
	}
	for _, s := range said {
		for _, w := range s.words {
			if s.class == class && strings.HasSuffix(text, w) {
				return true
			}
		}
	}
	return false
}

// The colours in use, as parameters of SGR.
const (
	red    = "31"
	yellow = "33"
	blue   = "34"
	cyan   = "36"
	dim    = "2"
)

// paint puts s into a colour, if there are colours.
func paint(s, colour string, coloured bool) string {
	if !coloured || colour == "" {
		return s
	}
	return "\x1b[" + colour + "m" + s + "\x1b[0m"
}

// colours reports whether w is a terminal that is to have colours (https://no-color.org).
func colours(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && IsTerminal(f)
}

// IsTerminal reports whether f is a terminal that understands more than lines.
func IsTerminal(f *os.File) bool {
	return f != nil && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}
