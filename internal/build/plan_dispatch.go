package build

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"strata/internal/dockerfile"
	"strata/internal/oci"
)

// historyComment is the comment that BuildKit gives each entry of the history: tools read from it how to read CreatedBy.
const historyComment = "buildkit.dockerfile.v0"

// dispatchStage works out a stage's steps and its finished config. All that it depends on has been dispatched.
func (p *planner) dispatchStage(s *stage) error {
	if s.out.Index < 0 {
		if b := s.out.Base; b != nil {
			s.out.FromName = "FROM " + fullName(b)
		}
		return nil
	}
	p.inherit(s)
	if s.context.tree() {
		p.fromContext(s)
	}
	for _, c := range s.commands {
		first, last := dockerfile.Span(c.Location())
		if err := p.dispatch(s, c, Lines{first, last}); err != nil {
			return p.file.At(first, last, err)
		}
	}
	return nil
}

// inherit gives the stage what its parent or its base image has.
func (p *planner) inherit(s *stage) {
	if parent := s.parent; parent != nil {
		s.out.Image = parent.out.Image.Clone()
		s.out.Image.Config.OnBuild = nil
		s.out.Platform = parent.out.Platform
		s.env = parent.env.Clone()
		s.args = slices.Clone(parent.args)
		s.workdirSet = parent.workdirSet
	} else {
		s.env = dockerfile.NewEnv(nil)
	}
	if b := s.out.Base; b != nil {
		s.out.FromName = s.name("FROM "+fullName(b), false)
	}
	cfg := &s.out.Image.Config
	if _, ok := dockerfile.NewEnv(cfg.Env).Get("PATH"); !ok {
		cfg.Env = append(cfg.Env, "PATH="+defaultPath)
	}
	for _, kv := range cfg.Env {
		k, v, _ := strings.Cut(kv, "=")
		s.env.Set(k, v)
	}
	if cfg.WorkingDir != "" {
		cfg.WorkingDir = absolute("/", cfg.WorkingDir)
	}
}

func fullName(b *Base) string {
	if b.Digest == "" || strings.Contains(b.Name, "@") {
		return b.Name
	}
	return b.Name + "@" + b.Digest.String()
}

// dispatch applies one instruction. What it expands sees the variables as they were before it.
func (p *planner) dispatch(s *stage, c command, at Lines) error {
	if c.err != nil {
		return c.err
	}
	lint := p.file.Linter(p.warn).WithMergedConfigFromComments(c.Comments())
	if err := p.expand(s, c, lint); err != nil {
		return err
	}
	switch ic := c.Command.(type) {
	case *instructions.ArgCommand:
		return p.arg(s, ic, lint)
	case *instructions.RunCommand:
		return p.run(s, ic, c, at)
	case *instructions.CopyCommand:
		return p.copy(s, ic, c, at)
	case *instructions.AddCommand:
		return p.add(s, ic, c, at)
	case *instructions.WorkdirCommand:
		return p.workdir(s, ic, c, at, lint)
	default:
		return p.configure(s, c.Command, lint)
	}
}

// expand replaces the variables of an instruction, in place.
func (p *planner) expand(s *stage, c command, lint *linter.Linter) error {
	expander := func(mode dockerfile.Mode) instructions.SingleWordExpander {
		return func(word string) (string, error) {
			x, err := p.file.Expand(mode, word, s.env)
			s.reportUnset(c.Location(), x.Unmatched, lint)
			return x.Text, err
		}
	}
	// ARG expands its default only when nothing else gives it a value: see arg.
	_, isArg := c.Command.(*instructions.ArgCommand)
	if e, ok := c.Command.(instructions.SupportsSingleWordExpansion); ok && !isArg {
		if err := e.Expand(expander(dockerfile.Word)); err != nil {
			return err
		}
	}
	if e, ok := c.Command.(instructions.SupportsSingleWordExpansionRaw); ok {
		return e.ExpandRaw(expander(dockerfile.Heredoc))
	}
	return nil
}

// reportUnset warns of variables that are used but neither set nor declared.
func (s *stage) reportUnset(loc []parser.Range, unset map[string]struct{}, lint *linter.Linter) {
	names := make([]string, 0, len(unset))
	for v := range unset {
		if !slices.ContainsFunc(s.args, func(a instructions.KeyValuePairOptional) bool { return a.Key == v }) {
			names = append(names, v)
		}
	}
	slices.Sort(names)
	for _, v := range names {
		lint.Run(&linter.RuleUndefinedVar, loc, linter.RuleUndefinedVar.Format(v, dockerfile.Closest(v, s.env.Keys())))
	}
}

// arg declares arguments. A value is, in this order, the build argument's, the instruction's default, the global scope's.
func (p *planner) arg(s *stage, c *instructions.ArgCommand, lint *linter.Linter) error {
	texts := make([]string, 0, len(c.Args))
	p.declare(c) // a trigger's ARG has not been seen yet
	for _, a := range c.Args {
		given, isGiven := p.args[a.Key]
		switch {
		case isGiven:
			a.Value = &given
		case a.Value != nil:
			x, err := p.file.Expand(dockerfile.Word, *a.Value, s.env)
			if err != nil {
				return err
			}
			s.reportUnset(c.Location(), x.Unmatched, lint)
			a.Value = &x.Text
		default:
			if v, ok := p.global.Get(a.Key); ok {
				a.Value = &v
			}
		}
		text := a.Key
		if a.Value != nil {
			text += "=" + *a.Value
			// These two speak to the builder only.
			if a.Key != "BUILDKIT_SBOM_SCAN_CONTEXT" && a.Key != "BUILDKIT_SBOM_SCAN_STAGE" {
				s.env.Set(a.Key, *a.Value)
			}
		}
		s.args = append(s.args, a)
		texts = append(texts, text)
	}
	p.history(s, "ARG "+strings.Join(texts, " "), true)
	return nil
}

// history adds the instruction's entry to the image's history and gives its index.
func (p *planner) history(s *stage, createdBy string, empty bool) int {
	img := s.out.Image
	img.History = append(img.History, oci.History{Created: p.epoch, CreatedBy: createdBy, Comment: historyComment, EmptyLayer: empty})
	return len(img.History) - 1
}

// step adds a step that makes a layer.
func (p *planner) step(s *stage, st Step, c command, at Lines, name, createdBy string) {
	st.Index = len(s.out.Steps)
	st.Name = name
	st.Lines = at
	st.OnBuild = c.onbuild
	st.Source = p.file.Text(at.First, at.Last)
	if text, ok := c.Command.(fmt.Stringer); ok && c.onbuild {
		st.Source = text.String()
	}
	st.History = p.history(s, createdBy, false)
	s.out.Steps = append(s.out.Steps, &st)
}

// name numbers a step as buildx does: "[builder 2/5] RUN make".
func (s *stage) name(text string, onbuild bool) string {
	text = printable(text)
	if s.total == 0 {
		return text
	}
	prefix := "["
	if s.display != "" {
		prefix += s.display + " "
	}
	s.numbered++
	prefix += fmt.Sprintf("%*d/%d] ", int(1+math.Log10(float64(s.total))), s.numbered, s.total)
	if onbuild {
		prefix += "ONBUILD "
	}
	return prefix + text
}

// printable keeps a foreign text from steering the terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}

// displayText is an instruction as progress shows it: its word in capitals, its variables replaced.
func (p *planner) displayText(s *stage, mode dockerfile.Mode, source string) string {
	if x, err := p.file.Expand(mode, source, s.env); err == nil {
		source = x.Text
	}
	word, rest, found := strings.Cut(source, " ")
	if !found {
		return strings.ToUpper(word)
	}
	return strings.ToUpper(word) + " " + rest
}
