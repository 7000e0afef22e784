package dockerfile

import (
	"bufio"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/moby/patternmatcher"

	"strata/internal/errdef"
)

// The bounds of an ignore file.
const (
	maxIgnoreFile  = 1 << 20
	maxIgnoreRules = 10_000
)

// Rule is one line of an ignore file.
type Rule struct {
	// Line in the file, from 1, and its text.
	Line int
	Text string
	// Pattern is the line made clean: no leading slash, no "!".
	Pattern string
	// Negate: the line starts with "!", what it matches is taken after all.
	Negate bool

	matcher *patternmatcher.PatternMatcher
}

// Ignore is a parsed ignore file. A nil Ignore ignores nothing. It is safe for concurrent use: every pattern is compiled
// by [ParseIgnore], and only read after that.
type Ignore struct {
	rules []Rule
	// fresh is the state of a matcher of one pattern that has matched no parent: with it a matcher looks at the path alone.
	fresh patternmatcher.MatchInfo
}

// Verdict says whether a path is ignored, and by which rule.
type Verdict struct {
	Ignored bool
	// Rule is the last one that spoke on the path or on a directory above it; nil when none did.
	Rule *Rule

	matched []bool // by rule: it matched the path or a directory above it
}

// ParseIgnore reads a .dockerignore; name is for messages. The rules are those of docker: "#" at the start of a line
// makes a comment, "!" an exception, "**" matches any number of directories, a leading slash means nothing, a rule also
// covers all that is below what it matches, and the last rule that matches decides.
func ParseIgnore(r io.Reader, name string) (*Ignore, error) {
	limited := &io.LimitedReader{R: r, N: maxIgnoreFile + 1}
	scan := bufio.NewScanner(limited)
	scan.Buffer(nil, maxIgnoreFile+1)
	ig := &Ignore{}
	for n := 1; scan.Scan(); n++ {
		text := strings.TrimSuffix(scan.Text(), "\r")
		if n == 1 {
			text = strings.TrimPrefix(text, "\ufeff")
		}
		if err := ig.add(n, text); err != nil {
			return nil, fmt.Errorf("%s:%d: %.200q: %w", name, n, text, err)
		}
	}
	if err := scan.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if limited.N <= 0 {
		return nil, fmt.Errorf("%s is larger than %d MiB: %w", name, maxIgnoreFile>>20, errdef.ErrLimit)
	}
	return ig, ig.prepare()
}

func (ig *Ignore) add(line int, text string) error {
	pattern := strings.TrimSpace(text)
	if strings.HasPrefix(text, "#") || pattern == "" {
		return nil
	}
	pattern, negate := strings.CutPrefix(pattern, "!")
	if pattern = strings.TrimSpace(pattern); pattern == "" {
		return fmt.Errorf("an exception of nothing: %w", errdef.ErrInvalid)
	}
	pattern = path.Clean(pattern)
	if len(pattern) > 1 {
		pattern = strings.TrimPrefix(pattern, "/")
	}
	if strings.HasPrefix(pattern, "!") {
		// What is left after one "!" is a file name, but the matcher would take it for a second exception.
		pattern = `\` + pattern
	}
	matcher, err := patternmatcher.New([]string{pattern})
	if err != nil {
		return fmt.Errorf("%w: %w", err, errdef.ErrInvalid)
	}
	if len(ig.rules) == maxIgnoreRules {
		return fmt.Errorf("more than %d rules: %w", maxIgnoreRules, errdef.ErrLimit)
	}
	ig.rules = append(ig.rules, Rule{Line: line, Text: strings.TrimSpace(text), Pattern: pattern, Negate: negate, matcher: matcher})
	// A pattern can pass New and fail when it is compiled: find that out now.
	if _, _, err := matcher.MatchesUsingParentResults("x", patternmatcher.MatchInfo{}); err != nil {
		return fmt.Errorf("%w: %w", err, errdef.ErrInvalid)
	}
	return nil
}

func (ig *Ignore) prepare() error {
	none, err := patternmatcher.New([]string{"x"})
	if err != nil {
		return err
	}
	_, ig.fresh, err = none.MatchesUsingParentResults("y", patternmatcher.MatchInfo{})
	return err
}

// Rules are the rules in the file's order.
func (ig *Ignore) Rules() []Rule {
	if ig == nil {
		return nil
	}
	return ig.rules
}

// Match judges one path, slash-separated and relative to the context's root.
func (ig *Ignore) Match(name string) Verdict {
	var v Verdict
	for i := range name {
		if name[i] == '/' {
			v = ig.Child(v, name[:i])
		}
	}
	return ig.Child(v, name)
}

// Child judges a path while walking: parent is the verdict on the directory that it is in, the zero Verdict for the root.
func (ig *Ignore) Child(parent Verdict, name string) Verdict {
	if ig == nil || len(ig.rules) == 0 || name == "." || name == "" {
		return Verdict{}
	}
	v := Verdict{matched: make([]bool, len(ig.rules))}
	for i := range ig.rules {
		rule := &ig.rules[i]
		hit := parent.matched != nil && parent.matched[i]
		// BuildKit asks a rule only when its answer would change something, and remembers what it was told: so do we.
		if !hit && rule.Negate == v.Ignored {
			hit = ig.hit(rule, name)
		}
		v.matched[i] = hit
		if hit {
			v.Ignored, v.Rule = !rule.Negate, rule
		}
	}
	return v
}

func (ig *Ignore) hit(rule *Rule, name string) bool {
	ok, _, err := rule.matcher.MatchesUsingParentResults(name, ig.fresh)
	return ok && err == nil
}

// SkipDir tells whether a walk need not enter the directory name, whose verdict is v: it is ignored, and no exception can
// match anything below it. A directory that is ignored but must be entered is made, without its own metadata being asked
// for, when something below it is taken.
func (ig *Ignore) SkipDir(name string, v Verdict) bool {
	if !v.Ignored {
		return false
	}
	for i := range ig.rules {
		if ig.rules[i].Negate && mayMatchBelow(ig.rules[i].Pattern, name) {
			return false
		}
	}
	return true
}

// mayMatchBelow tells whether pattern could match a path inside the directory dir. When in doubt it says yes.
func mayMatchBelow(pattern, dir string) bool {
	parts, dirs := strings.Split(pattern, "/"), strings.Split(dir, "/")
	for i, part := range parts {
		if strings.Contains(part, "**") || i == len(dirs) {
			return true
		}
		if ok, err := path.Match(part, dirs[i]); err == nil && !ok {
			return false
		}
	}
	return false
}
