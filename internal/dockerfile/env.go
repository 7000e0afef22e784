package dockerfile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"strata/internal/errdef"
)

// The bounds of an expansion: how deep ${…} may nest, and how many bytes of values one word may take in. The kernel takes
// no variable longer than 128 KiB.
const (
	maxNesting   = 500
	maxExpansion = 8 << 20
)

// Env is a list of variables in the order in which they were first set.
type Env struct {
	keys   []string
	values map[string]string
}

// NewEnv makes an Env of "NAME=value" entries; of a name that comes twice the last value counts.
func NewEnv(list []string) *Env {
	e := &Env{values: make(map[string]string, len(list))}
	for _, kv := range list {
		k, v, _ := strings.Cut(kv, "=")
		e.Set(k, v)
	}
	return e
}

// Set gives a variable its value.
func (e *Env) Set(key, value string) {
	if _, ok := e.values[key]; !ok {
		e.keys = append(e.keys, key)
	}
	e.values[key] = value
}

// Get looks a variable up.
func (e *Env) Get(key string) (string, bool) {
	v, ok := e.values[key]
	return v, ok
}

// Keys are the names, in order.
func (e *Env) Keys() []string { return slices.Clone(e.keys) }

// List is the variables as "NAME=value", in order.
func (e *Env) List() []string {
	list := make([]string, len(e.keys))
	for i, k := range e.keys {
		list[i] = k + "=" + e.values[k]
	}
	return list
}

// Clone is an independent copy.
func (e *Env) Clone() *Env {
	return &Env{keys: slices.Clone(e.keys), values: maps.Clone(e.values)}
}

// Mode says how a word is expanded.
type Mode int

// The modes.
const (
	// Word is a word of an instruction: variables are replaced, quotes and escapes taken off.
	Word Mode = iota
	// Heredoc is the content of a here-document: variables are replaced, quotes stay.
	Heredoc
	// Display is a command as progress shows it: variables that are set are replaced, all else stays.
	Display
)

// Expansion is an expanded word.
type Expansion struct {
	Text string
	// Matched and Unmatched are the variables that the word names, set and not set.
	Matched, Unmatched map[string]struct{}
}

// Expand replaces the variables in word: $a, ${a}, ${a:-b}, ${a:+b}, ${a:?b}, ${a#b}, ${a%b}, ${a/b/c} and their kin.
func (f *File) Expand(mode Mode, word string, env *Env) (Expansion, error) {
	lex := f.lexer(mode)
	purse := &purse{Env: env, left: maxExpansion}
	if err := checkNesting(word); err != nil {
		return Expansion{}, err
	}
	res, err := lex.ProcessWordWithMatches(word, purse)
	if err == nil {
		err = purse.check(word)
	}
	return Expansion{res.Result, res.Matched, res.Unmatched}, err
}

// ExpandWords is Expand in mode Word, and then cuts the result at blanks outside quotes.
func (f *File) ExpandWords(word string, env *Env) ([]string, error) {
	purse := &purse{Env: env, left: maxExpansion}
	if err := checkNesting(word); err != nil {
		return nil, err
	}
	words, err := f.lexer(Word).ProcessWords(word, purse)
	if err == nil {
		err = purse.check(word)
	}
	return words, err
}

func (f *File) lexer(mode Mode) *shell.Lex {
	if mode == Heredoc {
		lex := shell.NewLex('\\')
		lex.SkipProcessQuotes = true
		return lex
	}
	lex := shell.NewLex(f.Escape)
	if mode == Display {
		lex.RawQuotes, lex.RawEscapes, lex.SkipUnsetEnv = true, true, true
	}
	return lex
}

// checkNesting refuses a word that would take the lexer's recursion too deep.
func checkNesting(word string) error {
	depth := 0
	for i := range len(word) {
		switch {
		case word[i] == '{' && i > 0 && word[i-1] == '$':
			if depth++; depth > maxNesting {
				return fmt.Errorf("${…} nested more than %d deep: %w", maxNesting, errdef.ErrLimit)
			}
		case word[i] == '}' && depth > 0:
			depth--
		}
	}
	return nil
}

// purse is an Env that gives out a bounded number of bytes: a variable that doubles itself in every line must not fill
// the memory.
type purse struct {
	*Env
	left int
}

// Get looks a variable up, and pays for it.
func (p *purse) Get(key string) (string, bool) {
	v, ok := p.Env.Get(key)
	if p.left -= len(v); p.left < 0 {
		return "", ok
	}
	return v, ok
}

func (p *purse) check(word string) error {
	if p.left < 0 {
		return fmt.Errorf("the expansion of %.60q is larger than %d MiB: %w", word, maxExpansion>>20, errdef.ErrLimit)
	}
	return nil
}
