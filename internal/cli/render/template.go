package render

import (
	"bytes"
	"encoding/json"
	"strings"
	"text/template"
	"unicode"
	"unicode/utf8"

	"strata/internal/errdef"
)

// templateError carries docker's text and is invalid input by class.
type templateError struct{ text string }

func (e *templateError) Error() string        { return e.text }
func (e *templateError) Is(target error) bool { return target == errdef.ErrInvalid }

// FormatError is a format that is no template, where a document or events are printed: docker has an exit code for that.
type FormatError struct{ templateError }

// parseTemplate compiles text with docker's functions.
func parseTemplate(text string) (*template.Template, error) {
	return template.New("").Funcs(functions()).Parse(text)
}

// functions are those that docker adds to the template language's own.
func functions() template.FuncMap {
	return template.FuncMap{
		"json":     compactJSON,
		"split":    strings.Split,
		"join":     strings.Join,
		"title":    title,
		"lower":    strings.ToLower,
		"upper":    strings.ToUpper,
		"pad":      pad,
		"truncate": truncate,
	}
}

// headerFunctions stand in for [functions] when a table's heading is made from the same template: a heading stays as it
// is, whatever is done to the values. Only pad still pads, so that columns stay aligned.
func headerFunctions() template.FuncMap {
	same := func(s string) string { return s }
	sameWith := func(s, _ string) string { return s }
	return template.FuncMap{
		"json": same, "title": same, "lower": same, "upper": same,
		"split": sameWith, "join": sameWith,
		"truncate": func(s string, _ int) string { return s },
	}
}

// compactJSON is v in one line, without HTML escapes.
func compactJSON(v any) (string, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return "", err
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

// title makes the first letter of every word upper case.
func title(s string) string {
	inWord := false
	return strings.Map(func(r rune) rune {
		first := !inWord
		inWord = unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_' || r == '\''
		if first {
			return unicode.ToTitle(r)
		}
		return r
	}, s)
}

// pad puts before and after spaces around s. An empty s stays empty.
func pad(s string, before, after int) string {
	if s == "" {
		return s
	}
	return strings.Repeat(" ", before) + s + strings.Repeat(" ", after)
}

// truncate cuts s to at most n bytes, never inside a character.
func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	n = max(n, 0)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
