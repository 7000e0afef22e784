package dockerfile

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"strata/internal/errdef"
)

// The bounds of a Dockerfile. MaxLine is what BuildKit's scanner takes.
const (
	MaxFile = 4 << 20
	MaxLine = 64<<10 - 1
)

// File is a parsed Dockerfile. It does not change and may be planned many times, also at once.
type File struct {
	// Name is what messages call the file.
	Name string
	// Source is the file as it was read.
	Source []byte
	// Escape is the escape character: a backslash or, by "# escape=`", a backtick.
	Escape rune
	// Syntax is the front end that "# syntax=" names, or "".
	Syntax string
	// Warnings that hold whatever is built of the file, in order of lines.
	Warnings []Warning
	// Strict is "# check=error=true": a warning fails the build.
	Strict bool

	lines []string
	ast   *parser.Node
	check linter.Config
}

// Words are the words that the instructions begin with, in order, as they were written.
func (f *File) Words() []string {
	var words []string
	for _, n := range f.ast.Children {
		words = append(words, n.Value)
	}
	return words
}

// Parse reads and parses a Dockerfile; name is for messages.
func Parse(r io.Reader, name string) (*File, error) {
	src, err := io.ReadAll(io.LimitReader(r, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(src) > MaxFile {
		return nil, fmt.Errorf("%s is larger than %d MiB, which no Dockerfile is: %w", name, MaxFile>>20, errdef.ErrLimit)
	}
	f := &File{Name: name, Source: src, lines: splitLines(src)}
	for _, step := range []func() error{f.checkText, f.checkDirectives, f.parse, f.checkForms, f.checkLines, f.lint} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// Instructions gives the file's stages and the ARGs before the first FROM. Each call gives fresh values, which the caller
// may change: expansion does.
func (f *File) Instructions() ([]instructions.Stage, []instructions.ArgCommand, error) {
	// Not nil: BuildKit's linter cannot merge a "# check=" comment into nil.
	stages, args, err := instructions.Parse(f.ast, linter.New(&linter.Config{}))
	if err != nil {
		return nil, nil, f.parseError(err)
	}
	return stages, args, nil
}

// Trigger parses an ONBUILD trigger of a base image. What it gives has the place of the FROM that brought it: line first.
func (f *File) Trigger(expression string, first, last int) (instructions.Command, error) {
	if len(expression) > MaxFile {
		return nil, f.At(first, last, fmt.Errorf("ONBUILD trigger of %d bytes: %w", len(expression), errdef.ErrLimit))
	}
	res, err := parser.Parse(strings.NewReader(expression))
	if err != nil {
		return nil, f.At(first, last, fmt.Errorf("ONBUILD trigger %.200q: %s", expression, innerText(err)))
	}
	if len(res.AST.Children) != 1 {
		return nil, f.At(first, last, fmt.Errorf("ONBUILD trigger %.200q is not one instruction", expression))
	}
	node := res.AST.Children[0]
	node.StartLine, node.EndLine = first, last
	node.PrevComment = nil // a "# check=" in it would be merged into a linter that is not there
	cmd, err := instructions.ParseCommand(node)
	if err != nil {
		return nil, f.At(first, last, fmt.Errorf("ONBUILD trigger %.200q: %s", expression, innerText(err)))
	}
	return cmd, nil
}

// Text is the source of lines first to last, without the line ends at its edges.
func (f *File) Text(first, last int) string {
	first, last = max(first, 1), min(last, len(f.lines))
	if first > last {
		return ""
	}
	return strings.TrimSpace(strings.Join(f.lines[first-1:last], "\n"))
}

func (f *File) parse() error {
	res, err := parser.Parse(bytes.NewReader(f.Source))
	if err != nil {
		return f.parseError(err)
	}
	f.ast, f.Escape = res.AST, res.EscapeToken
	for _, w := range res.Warnings {
		if w.URL == linter.RuleNoEmptyContinuation.URL {
			f.warn(linter.RuleNoEmptyContinuation.Name, w.URL, linter.RuleNoEmptyContinuation.Format(), []parser.Range{*w.Location})
		}
	}
	return nil
}

// splitLines cuts at line feeds and drops the carriage return before them, and the mark of UTF-8 at the start.
func splitLines(src []byte) []string {
	text := strings.TrimPrefix(string(src), "\ufeff")
	text = strings.TrimSuffix(text, "\n")
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		lines[i] = strings.TrimSuffix(l, "\r")
	}
	return lines
}

// Span gives the first and last line of a location; zeros for an empty one.
func Span(loc []parser.Range) (first, last int) {
	for _, r := range loc {
		if first == 0 || r.Start.Line < first {
			first = r.Start.Line
		}
		last = max(last, r.Start.Line, r.End.Line)
	}
	return first, last
}
