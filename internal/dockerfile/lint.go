package dockerfile

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Warning is something that a Dockerfile does and probably should not.
type Warning struct {
	// Rule is the name of the broken rule, BuildKit's where it has one: "MaintainerDeprecated".
	Rule string
	// URL explains the rule; may be empty.
	URL string
	// Description says what the rule wants; empty for strata's own.
	Description string
	// First and Last are the lines, from 1.
	First, Last int
	// Text is one line.
	Text string
}

// Linter gives a linter that obeys the file's "# check=" directive and calls add for each warning.
func (f *File) Linter(add func(Warning)) *linter.Linter {
	cfg := f.check
	cfg.Warn = func(rule, description, url, text string, loc []parser.Range) {
		w := newWarning(rule, url, text, loc)
		w.Description = description
		add(w)
	}
	return linter.New(&cfg)
}

// StrictError is what "# check=error=true" makes of warnings: nil without it, or when there are none.
func (f *File) StrictError(warnings []Warning) error {
	if !f.Strict || len(warnings) == 0 {
		return nil
	}
	var rules []string
	for _, w := range warnings {
		rules = append(rules, w.Rule)
	}
	slices.Sort(rules)
	w := warnings[0]
	return f.At(w.First, w.Last, errors.New(w.Text+" (# check=error=true; rules broken: "+strings.Join(slices.Compact(rules), ", ")+")"))
}

func newWarning(rule, url, text string, loc []parser.Range) Warning {
	first, last := Span(loc)
	return Warning{Rule: rule, URL: url, First: first, Last: last, Text: oneLine(text)}
}

// warn adds a warning that BuildKit's linter does not make, unless the file skips its rule.
func (f *File) warn(rule, url, text string, loc []parser.Range) {
	if f.Skips(rule) {
		return
	}
	f.Warnings = append(f.Warnings, newWarning(rule, url, text, loc))
}

// Skips reports whether the file's "# check=" directive turns a rule off.
func (f *File) Skips(rule string) bool {
	return f.check.SkipAll || slices.Contains(f.check.SkipRules, rule)
}

// lint parses the instructions for the first time, so that their errors come now, and collects what can be said without
// knowing the target, the arguments and the bases.
func (f *File) lint() error {
	l := f.Linter(func(w Warning) { f.Warnings = append(f.Warnings, w) })
	stages, args, err := instructions.Parse(f.ast, l)
	if err != nil {
		return f.parseError(err)
	}
	if len(stages) == 0 {
		return f.fail(0, 0, errors.New("no FROM: a Dockerfile starts with FROM (only ARG may stand before it)"), "FROM alpine")
	}
	lintNames(stages, l)
	lintCasing(stages, l)
	for _, a := range args {
		lintCommand(&a, l)
	}
	for _, s := range stages {
		for _, c := range s.Commands {
			lintCommand(c, l.WithMergedConfigFromComments(c.Comments()))
		}
	}
	slices.SortStableFunc(f.Warnings, func(a, b Warning) int { return a.First - b.First })
	return nil
}

func lintNames(stages []instructions.Stage, l *linter.Linter) {
	seen := map[string]bool{}
	for _, s := range stages {
		if s.Name == "" {
			continue
		}
		if s.Name == "context" || s.Name == "scratch" {
			l.Run(&linter.RuleReservedStageName, s.Location, linter.RuleReservedStageName.Format(s.Name))
		}
		if seen[s.Name] {
			l.Run(&linter.RuleDuplicateStageName, s.Location, linter.RuleDuplicateStageName.Format(s.Name))
		}
		seen[s.Name] = true
	}
}

// lintCasing wants all instructions in the case that most are in.
func lintCasing(stages []instructions.Stage, l *linter.Linter) {
	type word struct {
		text string
		loc  []parser.Range
	}
	var words []word
	lower, upper := 0, 0
	for _, s := range stages {
		words = append(words, word{s.OrigCmd, s.Location})
		for _, c := range s.Commands {
			words = append(words, word{c.Name(), c.Location()})
		}
	}
	for _, w := range words {
		switch w.text {
		case strings.ToLower(w.text):
			lower++
		case strings.ToUpper(w.text):
			upper++
		}
	}
	want, change := "uppercase", strings.ToUpper
	if lower > upper {
		want, change = "lowercase", strings.ToLower
	}
	for _, w := range words {
		if change(w.text) != w.text {
			l.Run(&linter.RuleConsistentInstructionCasing, w.loc, linter.RuleConsistentInstructionCasing.Format(w.text, want))
		}
	}
}

func lintCommand(c instructions.Command, l *linter.Linter) {
	switch c := c.(type) {
	case *instructions.EnvCommand:
		lintPairs(c, c.Env, l)
		for _, kv := range c.Env {
			lintSecret("ENV", kv.Key, c, l)
		}
	case *instructions.LabelCommand:
		lintPairs(c, c.Labels, l)
	case *instructions.ArgCommand:
		for _, a := range c.Args {
			lintSecret("ARG", a.Key, c, l)
		}
	}
}

func lintPairs(c instructions.Command, pairs instructions.KeyValuePairs, l *linter.Linter) {
	for _, kv := range pairs {
		if kv.NoDelim {
			l.Run(&linter.RuleLegacyKeyValueFormat, c.Location(), blankedPair(c.Name(), kv))
		}
	}
}

// blankedPair is the text about ENV key value; about ENV key = value, whose value is "= value", it says more.
func blankedPair(instruction string, kv instructions.KeyValuePair) string {
	text := linter.RuleLegacyKeyValueFormat.Format(instruction)
	if value, ok := strings.CutPrefix(kv.Value, "="); ok {
		text += fmt.Sprintf("; %s is %q now: write %s %s=%s", kv.Key, kv.Value, instruction, kv.Key, strings.TrimSpace(value))
	}
	return text
}

func lintSecret(instruction, key string, c instructions.Command, l *linter.Linter) {
	if looksSecret(key) {
		l.Run(&linter.RuleSecretsUsedInArgOrEnv, c.Location(), linter.RuleSecretsUsedInArgOrEnv.Format(instruction, key))
	}
}

// looksSecret: one of the name's words says secret, and none says that it is not: GITHUB_TOKEN does, TOKEN_FILE does not.
func looksSecret(key string) bool {
	secret := false
	for _, word := range strings.Split(strings.ToLower(key), "_") {
		switch word {
		case "public", "file", "version":
			return false
		case "apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token":
			secret = true
		}
	}
	return secret
}
