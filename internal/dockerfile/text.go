package dockerfile

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"strata/internal/errdef"
)

// checkText refuses what is no text file of bounded lines.
func (f *File) checkText() error {
	if len(bytes.TrimSpace(bytes.TrimPrefix(f.Source, []byte("\ufeff")))) == 0 {
		return f.fail(0, 0, errors.New("the file is empty: a Dockerfile starts with FROM"), "FROM alpine")
	}
	if bytes.HasPrefix(f.Source, []byte{0xff, 0xfe}) || bytes.HasPrefix(f.Source, []byte{0xfe, 0xff}) {
		return f.At(0, 0, errors.New("the file is UTF-16: save it as UTF-8"))
	}
	for i, line := range f.lines {
		if strings.IndexByte(line, 0) >= 0 {
			return f.At(i+1, i+1, errors.New("the line holds a NUL byte: this is not a text file"))
		}
		if len(line) > MaxLine {
			return f.At(i+1, i+1, fmt.Errorf("line of %d bytes (at most %d): %w", len(line), MaxLine, errdef.ErrLimit))
		}
	}
	return nil
}

// checkDirectives looks at the parser directives, "# name=value" at the top of the file: escape and check must be right,
// and syntax must name what this package parses.
func (f *File) checkDirectives() error {
	var p parser.DirectiveParser
	for i, line := range f.lines {
		d, err := p.ParseLine([]byte(strings.TrimSpace(line)))
		if err != nil {
			return f.At(i+1, i+1, err)
		}
		if d == nil {
			break
		}
		if d.Name == "escape" && d.Value != "`" && d.Value != `\` {
			return f.fail(i+1, i+1, fmt.Errorf("escape character %.20q: only a backslash or a backtick can be one", d.Value), "# escape=`")
		}
		if d.Name == "check" {
			cfg, err := linter.ParseLintOptions(d.Value)
			if err != nil {
				return f.At(i+1, i+1, err)
			}
			f.check, f.Strict = *cfg, cfg.ReturnAsError
		}
	}
	ref, _, loc, ok := parser.DetectSyntax(f.Source)
	if !ok {
		return nil
	}
	f.Syntax = ref
	first, last := Span(loc)
	return f.At(max(first, 1), max(last, 1), CheckSyntax(ref))
}

// CheckSyntax tells whether ref names a Dockerfile front end whose language this package parses: docker/dockerfile of any
// version and channel, docker/dockerfile-upstream, and their mirrors in other registries. Else it is an
// errdef.ErrUnsupported.
func CheckSyntax(ref string) error {
	name, _, _ := strings.Cut(ref, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name = name[:i]
	}
	for _, family := range []string{"docker/dockerfile", "docker/dockerfile-upstream"} {
		if name == family || strings.HasSuffix(name, "/"+family) {
			return nil
		}
	}
	return fmt.Errorf("front end %.200q: this file is written for another front end than docker/dockerfile, which is the only one built in: %w",
		ref, errdef.ErrUnsupported)
}
