package tool

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// wc counts lines (-l), words (-w), characters (-m) and bytes (-c).
func wc(p *Proc) error {
	o, names, err := p.opts("lwmc", "lines=l", "words=w", "chars=m", "bytes=c")
	if err != nil {
		return err
	}
	if len(o) == 0 {
		o = opts{'l': {""}, 'w': {""}, 'c': {""}}
	}
	var total [4]int
	p.inputs(names, func(name string, r io.Reader) error {
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		s := string(data)
		c := [4]int{strings.Count(s, "\n"), len(strings.Fields(s)), utf8.RuneCountInString(s), len(s)}
		for i := range c {
			total[i] += c[i]
		}
		if len(names) == 0 {
			name = ""
		}
		printCounts(p, o, c, name)
		return nil
	})
	if len(names) > 1 {
		printCounts(p, o, total, "total")
	}
	return nil
}

func printCounts(p *Proc, o opts, counts [4]int, name string) {
	var fields []string
	for i, flag := range []byte("lwmc") {
		if o.has(flag) {
			fields = append(fields, fmt.Sprint(counts[i]))
		}
	}
	if name != "" {
		fields = append(fields, name)
	}
	fmt.Fprintln(p.Out, strings.Join(fields, " "))
}
