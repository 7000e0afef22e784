package tool

import (
	"fmt"
	"strconv"
	"strings"
)

// printf prints by a format, which it starts again while arguments are left.
func printf(p *Proc) error {
	args := p.Args
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if err := need(args, 1); err != nil {
		return err
	}
	format, args := args[0], args[1:]
	for {
		rest, ended, err := p.printOnce(format, args)
		if err != nil || ended || len(rest) == 0 || len(rest) == len(args) {
			return err
		}
		args = rest
	}
}

// printOnce goes through the format once and gives the arguments that are left.
func (p *Proc) printOnce(format string, args []string) (rest []string, ended bool, err error) {
	next := func() string {
		if len(args) == 0 {
			return ""
		}
		a := args[0]
		args = args[1:]
		return a
	}
	for format != "" {
		plain, spec, found := strings.Cut(format, "%")
		text, ended := unescapeUntilC(plain)
		p.Out.WriteString(text)
		if ended || !found {
			return args, ended, nil
		}
		n := 0
		for n < len(spec) && strings.IndexByte("-+ #0123456789.*", spec[n]) >= 0 {
			n++
		}
		if n == len(spec) {
			return nil, false, fmt.Errorf("format ends in %q", "%"+spec)
		}
		flags, verb := spec[:n], spec[n]
		format = spec[n+1:]
		if strings.Contains(flags, "*") {
			flags = strings.Replace(flags, "*", next(), 1)
		}
		if verb == '%' {
			p.Out.WriteByte('%')
			continue
		}
		if ended, err := p.convert(flags, verb, next()); ended || err != nil {
			return args, ended, err
		}
	}
	return args, false, nil
}

// convert prints one argument.
func (p *Proc) convert(flags string, verb byte, arg string) (ended bool, err error) {
	switch verb {
	case 's':
		fmt.Fprintf(p.Out, "%"+flags+"s", arg)
	case 'b':
		arg, ended = unescapeUntilC(arg)
		fmt.Fprintf(p.Out, "%"+flags+"s", arg)
	case 'q':
		fmt.Fprintf(p.Out, "'%s'", strings.ReplaceAll(arg, "'", `'\''`))
	case 'c':
		fmt.Fprintf(p.Out, "%"+flags+"s", arg[:min(1, len(arg))])
	case 'd', 'i', 'u', 'x', 'X', 'o':
		n, err := shellNumber(arg)
		if err != nil {
			p.warn(err)
		}
		if verb == 'i' || verb == 'u' {
			verb = 'd'
		}
		fmt.Fprintf(p.Out, "%"+flags+string(verb), n)
	case 'e', 'E', 'f', 'F', 'g', 'G':
		f, err := strconv.ParseFloat(arg, 64)
		if err != nil && arg != "" {
			p.warn(fmt.Errorf("%q is not a number", arg))
		}
		fmt.Fprintf(p.Out, "%"+flags+string(verb), f)
	default:
		return false, fmt.Errorf("unknown conversion %%%c", verb)
	}
	return ended, nil
}

// shellNumber reads decimal, 0octal, 0xhex or a quote and a character.
func shellNumber(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	if (s[0] == '\'' || s[0] == '"') && len(s) > 1 {
		return int64([]rune(s[1:])[0]), nil
	}
	n, err := strconv.ParseInt(s, 0, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number", s)
	}
	return n, nil
}
