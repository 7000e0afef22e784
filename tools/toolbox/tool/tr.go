package tool

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// tr translates, deletes (-d) or squeezes (-s) characters; -c takes all but those of the first set.
func tr(p *Proc) error {
	o, sets, err := p.opts("+dscC", "delete=d", "squeeze-repeats=s", "complement=c")
	if err != nil {
		return err
	}
	if err := need(sets, 1); err != nil {
		return err
	}
	first, err := expandSet(sets[0])
	if err != nil {
		return err
	}
	var second []rune
	if len(sets) > 1 {
		if second, err = expandSet(sets[1]); err != nil {
			return err
		}
	} else if !o.has('d') && !o.has('s') {
		return need(nil, 1)
	}
	data, err := io.ReadAll(p.In)
	if err != nil {
		return err
	}
	p.Out.WriteString(translate(string(data), first, second, o.has('d'), o.has('s'), o.has('c') || o.has('C')))
	return nil
}

func translate(text string, first, second []rune, del, squeeze, complement bool) string {
	squeezed := second
	if len(second) == 0 {
		squeezed = first
	}
	var b strings.Builder
	last := rune(-1)
	for _, r := range text {
		at := slices.Index(first, r)
		in := at >= 0 != complement
		if del && in {
			continue
		}
		if !del && in && len(second) > 0 {
			if complement {
				at = len(second) - 1
			}
			r = second[min(at, len(second)-1)]
		}
		// With one set, -c -s squeezes what is not in it.
		inSqueezed := slices.Contains(squeezed, r) != (complement && len(second) == 0)
		if squeeze && r == last && inSqueezed {
			continue
		}
		b.WriteRune(r)
		last = r
	}
	return b.String()
}

// expandSet writes out ranges, classes and backslash escapes.
func expandSet(set string) ([]rune, error) {
	set = unescape(set)
	for name, members := range map[string]string{
		"[:lower:]": "a-z", "[:upper:]": "A-Z", "[:digit:]": "0-9", "[:alpha:]": "A-Za-z", "[:alnum:]": "0-9A-Za-z",
		"[:space:]": "\t\n\v\f\r ", "[:blank:]": "\t ", "[:punct:]": "!-/:-@\\[-`{-~", "[:cntrl:]": "\x00-\x1f\x7f", "[:print:]": " -~",
	} {
		set = strings.ReplaceAll(set, name, members)
	}
	in := []rune(set)
	var out []rune
	for i := 0; i < len(in); i++ {
		if in[i] == '\\' && i+1 < len(in) {
			i++
		}
		if i+2 < len(in) && in[i+1] == '-' {
			if in[i+2] < in[i] {
				return nil, fmt.Errorf("range %q is in reverse order", string(in[i:i+3]))
			}
			for r := in[i]; r <= in[i+2]; r++ {
				out = append(out, r)
			}
			i += 2
			continue
		}
		out = append(out, in[i])
	}
	return out, nil
}
