package tool

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// uniq drops repeats of the line before: -c counts, -d only repeated, -u only unrepeated, -i without case.
func uniq(p *Proc) error {
	o, names, err := p.opts("cdui", "count=c", "repeated=d", "unique=u", "ignore-case=i")
	if err != nil {
		return err
	}
	out := io.Writer(p.Out)
	if len(names) > 1 {
		f, err := os.Create(names[1])
		if err != nil {
			return err
		}
		defer f.Close()
		out = f
	}
	var last string
	n := 0
	end := func() {
		if n == 0 || (o.has('d') && n == 1) || (o.has('u') && n > 1) {
			return
		}
		if o.has('c') {
			fmt.Fprintf(out, "%7d ", n)
		}
		fmt.Fprintln(out, last)
	}
	p.inputs(names[:min(1, len(names))], func(_ string, r io.Reader) error {
		return lines(r, func(line string) error {
			if n > 0 && (line == last || (o.has('i') && strings.EqualFold(line, last))) {
				n++
				return nil
			}
			end()
			last, n = line, 1
			return nil
		})
	})
	end()
	return nil
}
