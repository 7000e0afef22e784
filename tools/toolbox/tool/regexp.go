package tool

import (
	"regexp"
	"strings"
)

// compile compiles a POSIX regular expression, basic or extended, for Go's engine. Back-references within the pattern
// are not possible there and are an error.
func compile(pattern string, extended, fold bool) (*regexp.Regexp, error) {
	if !extended {
		pattern = fromBasic(pattern)
	}
	if fold {
		pattern = "(?i)" + pattern
	}
	return regexp.Compile(pattern)
}

// fromBasic rewrites a basic regular expression as an extended one: there \( \) \{ \} \+ \? \| are the operators and the
// bare characters stand for themselves. Bracket expressions are the same in both.
func fromBasic(p string) string {
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		switch c := p[i]; {
		case c == '[':
			n := bracket(p[i:])
			b.WriteString(p[i : i+n])
			i += n - 1
		case c == '\\' && i+1 < len(p):
			i++
			if !strings.ContainsRune("(){}+?|", rune(p[i])) {
				b.WriteByte('\\')
			}
			b.WriteByte(p[i])
		case strings.ContainsRune("(){}+?|", rune(c)), c == '*' && starts(p[:i]):
			b.WriteByte('\\')
			b.WriteByte(c)
		case c == '^' && !starts(p[:i]), c == '$' && i+1 < len(p) && !strings.HasPrefix(p[i+1:], `\)`) && !strings.HasPrefix(p[i+1:], `\|`):
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// starts reports whether a sub-expression starts after before.
func starts(before string) bool {
	return before == "" || before == "^" || strings.HasSuffix(before, `\(`) || strings.HasSuffix(before, `\|`)
}

// bracket is the length of the bracket expression that s starts with.
func bracket(s string) int {
	i := 1
	if i < len(s) && s[i] == '^' {
		i++
	}
	if i < len(s) && s[i] == ']' {
		i++
	}
	for i < len(s) && s[i] != ']' {
		if strings.HasPrefix(s[i:], "[:") {
			if end := strings.Index(s[i:], ":]"); end > 0 {
				i += end + 1
			}
		}
		i++
	}
	return min(i+1, len(s))
}
