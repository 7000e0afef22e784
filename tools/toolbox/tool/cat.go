package tool

import (
	"fmt"
	"io"
)

// cat joins files: -n numbers lines.
func cat(p *Proc) error {
	o, names, err := p.opts("nu", "number=n")
	if err != nil {
		return err
	}
	n := 0
	p.inputs(names, func(_ string, r io.Reader) error {
		if !o.has('n') {
			_, err := io.Copy(p.Out, r)
			return err
		}
		return lines(r, func(line string) error {
			n++
			_, err := fmt.Fprintf(p.Out, "%6d\t%s\n", n, line)
			return err
		})
	})
	return nil
}
