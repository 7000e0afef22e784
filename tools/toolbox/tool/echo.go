package tool

import "strings"

// echo prints its arguments: -n without newline, -e with backslash escapes, -E (the default) without.
func echo(p *Proc) error {
	args, newline, escapes := p.Args, true, false
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' && strings.Trim(args[0][1:], "neE") == "" {
		for _, c := range args[0][1:] {
			switch c {
			case 'n':
				newline = false
			case 'e':
				escapes = true
			case 'E':
				escapes = false
			}
		}
		args = args[1:]
	}
	text := strings.Join(args, " ")
	if escapes {
		var ended bool
		if text, ended = unescapeUntilC(text); ended {
			newline = false
		}
	}
	if newline {
		text += "\n"
	}
	_, err := p.Out.WriteString(text)
	return err
}
