package tool

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// sedCommand is one command of a sed program.
type sedCommand struct {
	first, second *sedAddress
	negated       bool
	active        bool // within the range
	name          byte
	text          string // of a, i, c; the replacement of s
	re            *regexp.Regexp
	nth           int // of s: the first match to replace
	global, print bool
	replacer      *strings.Replacer // of y
}

// sedAddress is a line number, the last line, or a pattern.
type sedAddress struct {
	line int
	last bool
	re   *regexp.Regexp
}

func (a *sedAddress) matches(s *sedState) bool {
	switch {
	case a.re != nil:
		return a.re.MatchString(s.space)
	case a.last:
		return s.at+1 == len(s.input)
	}
	return a.line == s.at+1
}

func (c *sedCommand) ranged() bool { return c.second != nil }

func (c *sedCommand) selects(s *sedState) bool { return c.inside(s) != c.negated }

func (c *sedCommand) inside(s *sedState) bool {
	switch {
	case c.first == nil:
		return true
	case c.second == nil:
		return c.first.matches(s)
	case !c.active:
		if !c.first.matches(s) {
			return false
		}
		c.active = c.second.re != nil || c.second.last && s.at+1 < len(s.input) || c.second.line > s.at+1
		return true
	}
	if c.second.matches(s) || (c.second.re == nil && !c.second.last && c.second.line <= s.at+1) {
		c.active = false
	}
	return true
}

// sedParser reads a program from left to right.
type sedParser struct {
	rest     string
	extended bool
}

func parseSed(script string, extended bool) ([]*sedCommand, error) {
	p := &sedParser{rest: script, extended: extended}
	var program []*sedCommand
	for {
		p.rest = strings.TrimLeft(p.rest, " \t\n;")
		if strings.HasPrefix(p.rest, "#") {
			_, p.rest, _ = strings.Cut(p.rest, "\n")
			continue
		}
		if p.rest == "" {
			return program, nil
		}
		c, err := p.command()
		if err != nil {
			return nil, fmt.Errorf("%w, before %q", err, p.rest)
		}
		program = append(program, c)
	}
}

func (p *sedParser) command() (*sedCommand, error) {
	c := &sedCommand{}
	var err error
	if c.first, err = p.address(); err != nil {
		return nil, err
	}
	if c.first != nil && strings.HasPrefix(p.rest, ",") {
		p.rest = p.rest[1:]
		if c.second, err = p.address(); err != nil {
			return nil, err
		}
		if c.second == nil {
			return nil, fmt.Errorf("a range lacks its end")
		}
	}
	p.rest = strings.TrimLeft(p.rest, " \t")
	if strings.HasPrefix(p.rest, "!") {
		c.negated, p.rest = true, strings.TrimLeft(p.rest[1:], " \t")
	}
	if p.rest == "" {
		return nil, fmt.Errorf("command missing")
	}
	c.name, p.rest = p.rest[0], p.rest[1:]
	switch c.name {
	case 's':
		return c, p.substitution(c)
	case 'y':
		return c, p.transliteration(c)
	case 'a', 'i', 'c':
		text, rest, _ := strings.Cut(p.rest, "\n")
		for strings.HasSuffix(text, `\`) && rest != "" {
			var more string
			more, rest, _ = strings.Cut(rest, "\n")
			text = strings.TrimSuffix(text, `\`) + "\n" + more
		}
		c.text = unescape(strings.TrimPrefix(strings.TrimLeft(strings.TrimPrefix(strings.TrimLeft(text, " \t"), `\`), " \t"), "\n"))
		p.rest = rest
	case 'd', 'p', 'q', '=', 'n', 'N':
	default:
		return nil, fmt.Errorf("unknown command %q", string(c.name))
	}
	return c, nil
}

// address reads an address if there is one.
func (p *sedParser) address() (*sedAddress, error) {
	p.rest = strings.TrimLeft(p.rest, " \t")
	switch n := digits(p.rest); {
	case n > 0:
		line, err := strconv.Atoi(p.rest[:n])
		p.rest = p.rest[n:]
		return &sedAddress{line: line}, err
	case strings.HasPrefix(p.rest, "$"):
		p.rest = p.rest[1:]
		return &sedAddress{last: true}, nil
	case strings.HasPrefix(p.rest, "/"), strings.HasPrefix(p.rest, `\`) && len(p.rest) > 1:
		p.rest = strings.TrimPrefix(p.rest, `\`)
		delim := p.rest[0]
		p.rest = p.rest[1:]
		pattern, err := p.until(delim)
		if err != nil {
			return nil, err
		}
		fold := strings.HasPrefix(p.rest, "I")
		p.rest = strings.TrimPrefix(p.rest, "I")
		re, err := compile(pattern, p.extended, fold)
		return &sedAddress{re: re}, err
	}
	return nil, nil
}

// until reads up to an unescaped delimiter; an escaped one loses its backslash.
func (p *sedParser) until(delim byte) (string, error) {
	var b strings.Builder
	for i := 0; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case c == delim:
			p.rest = p.rest[i+1:]
			return b.String(), nil
		case c == '\\' && i+1 < len(p.rest):
			i++
			if p.rest[i] != delim {
				b.WriteByte('\\')
			}
			b.WriteByte(p.rest[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", fmt.Errorf("%q missing", string(delim))
}

func (p *sedParser) substitution(c *sedCommand) error {
	pattern, replacement, err := p.pair()
	if err != nil {
		return err
	}
	c.text, c.nth = replacement, 1
	fold := false
	for p.rest != "" && strings.IndexByte("gpiI123456789", p.rest[0]) >= 0 {
		switch flag := p.rest[0]; flag {
		case 'g':
			c.global = true
		case 'p':
			c.print = true
		case 'i', 'I':
			fold = true
		default:
			n := digits(p.rest)
			if c.nth, err = strconv.Atoi(p.rest[:n]); err != nil {
				return err
			}
			p.rest = p.rest[n-1:]
		}
		p.rest = p.rest[1:]
	}
	c.re, err = compile(pattern, p.extended, fold)
	return err
}

func (p *sedParser) transliteration(c *sedCommand) error {
	from, to, err := p.pair()
	if err != nil {
		return err
	}
	a, b := []rune(unescape(from)), []rune(unescape(to))
	if len(a) != len(b) {
		return fmt.Errorf("the two sides of y differ in length")
	}
	var pairs []string
	for i := range a {
		pairs = append(pairs, string(a[i]), string(b[i]))
	}
	c.replacer = strings.NewReplacer(pairs...)
	return nil
}

// pair reads /one/two/ with any delimiter.
func (p *sedParser) pair() (one, two string, err error) {
	if p.rest == "" {
		return "", "", fmt.Errorf("nothing to replace")
	}
	delim := p.rest[0]
	p.rest = p.rest[1:]
	if one, err = p.until(delim); err == nil {
		two, err = p.until(delim)
	}
	return one, two, err
}
