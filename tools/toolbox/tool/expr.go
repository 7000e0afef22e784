package tool

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// expr evaluates an expression of its arguments: | & comparisons + - * / % : ( ) and match, substr, index, length.
func expr(p *Proc) error {
	e := &expression{args: p.Args}
	v := e.level(0)
	if e.err == nil && len(e.args) > 0 {
		e.err = fmt.Errorf("unexpected %q", e.args[0])
	}
	if e.err != nil {
		p.warn(e.err)
		return Status(2)
	}
	fmt.Fprintln(p.Out, v)
	if falsy(v) {
		return Status(1)
	}
	return nil
}

type expression struct {
	args []string
	err  error
}

func falsy(v string) bool { return v == "" || v == "0" }

// levels are the binary operators, weakest first.
func levels() [][]string {
	return [][]string{{"|"}, {"&"}, {"<", "<=", "=", "==", "!=", ">=", ">"}, {"+", "-"}, {"*", "/", "%"}, {":"}}
}

func (e *expression) take() string {
	if len(e.args) == 0 {
		e.fail(errors.New("an operand is missing"))
		return ""
	}
	a := e.args[0]
	e.args = e.args[1:]
	return a
}

func (e *expression) fail(err error) {
	if e.err == nil {
		e.err = err
	}
}

func (e *expression) level(n int) string {
	if n == len(levels()) {
		return e.primary()
	}
	v := e.level(n + 1)
	for len(e.args) > 0 && slices.Contains(levels()[n], e.args[0]) {
		op := e.take()
		v = e.apply(v, op, e.level(n+1))
	}
	return v
}

func (e *expression) primary() string {
	switch a := e.take(); a {
	case "(":
		v := e.level(0)
		if e.take() != ")" {
			e.fail(errors.New(") is missing"))
		}
		return v
	case "length":
		return strconv.Itoa(utf8.RuneCountInString(e.primary()))
	case "match":
		return e.match(e.primary(), e.primary())
	case "index":
		return strconv.Itoa(strings.IndexAny(e.primary(), e.primary()) + 1)
	case "substr":
		text, at, n := []rune(e.primary()), e.number(e.primary()), e.number(e.primary())
		if at < 1 || n < 1 || at > int64(len(text)) {
			return ""
		}
		return string(text[at-1 : min(at-1+n, int64(len(text)))])
	default:
		return a
	}
}

func (e *expression) number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		e.fail(fmt.Errorf("%q is not a number", s))
	}
	return n
}

func (e *expression) match(text, pattern string) string {
	re, err := compile("^"+strings.TrimPrefix(pattern, "^"), false, false)
	if err != nil {
		e.fail(err)
		return ""
	}
	m := re.FindStringSubmatch(text)
	switch {
	case re.NumSubexp() > 0 && m == nil:
		return ""
	case re.NumSubexp() > 0:
		return m[1]
	case m == nil:
		return "0"
	}
	return strconv.Itoa(utf8.RuneCountInString(m[0]))
}

func (e *expression) apply(a, op, b string) string {
	switch op {
	case ":":
		return e.match(a, b)
	case "|":
		if !falsy(a) {
			return a
		}
		return b
	case "&":
		if falsy(a) || falsy(b) {
			return "0"
		}
		return a
	case "+", "-", "*", "/", "%":
		return e.arithmetic(e.number(a), op, e.number(b))
	}
	c := strings.Compare(a, b)
	x, err1 := strconv.ParseInt(a, 10, 64)
	y, err2 := strconv.ParseInt(b, 10, 64)
	if err1 == nil && err2 == nil {
		c = boolInt(x > y) - boolInt(x < y)
	}
	return strconv.Itoa(boolInt(map[string]bool{"<": c < 0, "<=": c <= 0, "=": c == 0, "==": c == 0, "!=": c != 0, ">=": c >= 0, ">": c > 0}[op]))
}

func (e *expression) arithmetic(a int64, op string, b int64) string {
	if (op == "/" || op == "%") && b == 0 {
		e.fail(errors.New("division by zero"))
		return ""
	}
	switch op {
	case "+":
		a += b
	case "-":
		a -= b
	case "*":
		a *= b
	case "/":
		a /= b
	case "%":
		a %= b
	}
	return strconv.FormatInt(a, 10)
}
