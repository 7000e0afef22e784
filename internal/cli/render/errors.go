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
	fmt.Fprintln(w, paint("strata:", red, coloured), message)
	if hint := errdef.Hint(err); hint != "" {
		fmt.Fprintln(w, paint("hint:", cyan, coloured), strings.TrimRight(Clean(hint), "\n"))
	}
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
