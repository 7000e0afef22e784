package dockerfile

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"strata/internal/errdef"
)

// Error is what is wrong with a Dockerfile, and where.
type Error struct {
	// File is the name of the file, First and Last the lines, from 1; 0 when it concerns the file as a whole.
	File        string
	First, Last int
	// Msg says what is wrong, in one line.
	Msg string
	// Excerpt shows the lines and two around them on each side, the wrong ones marked; may be empty. It ends with a newline.
	Excerpt string
	// Suggestion is the mended line, where it is known. errdef.Hint gives it too.
	Suggestion string
	// Err is the cause with its class.
	Err error
}

// Error is one line: "Dockerfile:3: unknown instruction: FORM (did you mean FROM?)".
func (e *Error) Error() string {
	if e.First == 0 {
		return e.File + ": " + e.Msg
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.First, e.Msg)
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// At says that err happened at lines first to last: it becomes an [*Error] with an excerpt. An err without a class of errdef
// is an errdef.ErrInvalid; an err that is, or holds, an *Error already stays as it is. A nil err stays nil.
func (f *File) At(first, last int, err error) error {
	var placed *Error
	if err == nil || errors.As(err, &placed) {
		return err
	}
	return f.fail(first, last, err, errdef.Hint(err))
}

// fail is At with a mended line.
func (f *File) fail(first, last int, err error, suggestion string) error {
	msg := oneLine(err.Error())
	if !classed(err) {
		err = fmt.Errorf("%w: %w", errdef.ErrInvalid, err)
	}
	e := &Error{File: f.Name, First: first, Last: last, Msg: msg, Suggestion: suggestion, Err: err, Excerpt: f.Excerpt(first, last)}
	if suggestion == "" {
		return e
	}
	return errdef.WithHint(e, suggestion)
}

func classed(err error) bool {
	for _, class := range []error{
		errdef.ErrNotFound, errdef.ErrExists, errdef.ErrInvalid, errdef.ErrConflict, errdef.ErrCorrupt, errdef.ErrDenied,
		errdef.ErrUnsupported, errdef.ErrUnavailable, errdef.ErrLimit, context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, class) {
			return true
		}
	}
	return false
}

// parseError gives an error of BuildKit's parser its place, a better text where a person is likely to have met it, and the
// mended line.
func (f *File) parseError(err error) error {
	first, last := 0, 0
	var loc *parser.LocationError
	if errors.As(err, &loc) && len(loc.Locations) > 0 {
		first, last = Span(loc.Locations[0])
	}
	last = min(last, len(f.lines))
	if better := f.explain(first, last, err); better != nil {
		return better
	}
	return f.At(first, last, errors.New(innerText(err)))
}

// innerText is the text of an error of BuildKit's parser without the place, which is told otherwise.
func innerText(err error) string {
	var loc *parser.LocationError
	if errors.As(err, &loc) {
		return loc.Error()
	}
	return err.Error()
}

// The excerpt's bounds: lines around the place, lines of the place itself, characters of a line.
const (
	excerptAround = 2
	excerptLines  = 12
	excerptWidth  = 160
)

// Excerpt shows lines first to last with those around them, in the form that buildx made known. It is empty when the
// lines are not in the file.
func (f *File) Excerpt(first, last int) string {
	if first < 1 || first > len(f.lines) {
		return ""
	}
	last = min(max(first, last), len(f.lines))
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d\n--------------------\n", f.Name, first)
	from, to := max(1, first-excerptAround), min(len(f.lines), last+excerptAround)
	for n := from; n <= to; n++ {
		if n == first+excerptLines && last > n {
			fmt.Fprintf(&b, "     | >>> … %d more lines\n", last-n+1)
			n = last
			continue
		}
		mark := "   "
		if n >= first && n <= last {
			mark = ">>>"
		}
		b.WriteString(strings.TrimRight(fmt.Sprintf(" %3d | %s %s", n, mark, printable(f.lines[n-1])), " ") + "\n")
	}
	b.WriteString("--------------------\n")
	return b.String()
}

// printable makes a foreign line fit for a terminal: no control characters, not too wide.
func printable(line string) string {
	var b strings.Builder
	n := 0
	for _, r := range line {
		if n == excerptWidth {
			return b.String() + "…"
		}
		n++
		switch {
		case r == '\t':
			b.WriteRune(r)
		case !unicode.IsPrint(r):
			b.WriteRune('\ufffd')
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// oneLine makes any text one line of what can be printed.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return '\ufffd'
		}
		return r
	}, strings.TrimSpace(s))
}
