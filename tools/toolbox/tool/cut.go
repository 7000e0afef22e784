package tool

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// cut prints chosen fields (-f, with -d and -s), characters (-c) or bytes (-b) of each line.
func cut(p *Proc) error {
	o, names, err := p.opts("f:d:c:b:sO:", "fields=f", "delimiter=d", "characters=c", "bytes=b", "only-delimited=s", "output-delimiter=O")
	if err != nil {
		return err
	}
	list := o.last('f', o.last('c', o.last('b', "")))
	wanted, err := parseList(list)
	if err != nil {
		return err
	}
	delim := o.last('d', "\t")
	p.inputs(names, func(_ string, r io.Reader) error {
		return lines(r, func(line string) error {
			switch {
			case !o.has('f') && o.has('c'):
				line = choose(strings.Split(line, ""), wanted, "")
			case !o.has('f'):
				line = choose(byteStrings(line), wanted, "")
			case strings.Contains(line, delim):
				line = choose(strings.Split(line, delim), wanted, o.last('O', delim))
			case o.has('s'):
				return nil
			}
			_, err := fmt.Fprintln(p.Out, line)
			return err
		})
	})
	return nil
}

type span struct{ first, last int }

// parseList reads "1,3-5,7-": numbers count from 1.
func parseList(list string) ([]span, error) {
	if list == "" {
		return nil, errors.New("say which with -f, -c or -b")
	}
	var spans []span
	for part := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(part, "-")
		s := span{1, math.MaxInt}
		var err1, err2 error
		if from != "" {
			s.first, err1 = strconv.Atoi(from)
		}
		if to != "" {
			s.last, err2 = strconv.Atoi(to)
		}
		if !isRange {
			s.last = s.first
		}
		if err1 != nil || err2 != nil || s.first < 1 || part == "-" || part == "" {
			return nil, fmt.Errorf("bad list %q", list)
		}
		spans = append(spans, s)
	}
	return spans, nil
}

func choose(parts []string, wanted []span, glue string) string {
	var chosen []string
	for i, part := range parts {
		for _, s := range wanted {
			if i+1 >= s.first && i+1 <= s.last {
				chosen = append(chosen, part)
				break
			}
		}
	}
	return strings.Join(chosen, glue)
}

func byteStrings(s string) []string {
	parts := make([]string, len(s))
	for i := range len(s) {
		parts[i] = s[i : i+1]
	}
	return parts
}
