package tool

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// head prints the first lines (-n, -NUMBER) or bytes (-c) of files.
func head(p *Proc) error {
	o, names, err := p.opts("n:c:q#", "lines=n", "bytes=c", "quiet=q")
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(o.last('c', o.last('n', o.last('#', "10"))))
	if err != nil || n < 0 {
		return fmt.Errorf("bad count %q", o.last('c', o.last('n', o.last('#', ""))))
	}
	p.inputs(names, func(name string, r io.Reader) error {
		title(p, o, names, name)
		if o.has('c') {
			_, err := io.CopyN(p.Out, r, int64(n))
			return ignore(err, io.EOF)
		}
		b, left := bufio.NewReader(r), n
		for ; left > 0; left-- {
			line, err := b.ReadString('\n')
			p.Out.WriteString(line)
			if err != nil {
				return ignore(err, io.EOF)
			}
		}
		return nil
	})
	return nil
}

// title names the file when there are several.
func title(p *Proc, o opts, names []string, name string) {
	if len(names) < 2 || o.has('q') {
		return
	}
	if name != names[0] {
		fmt.Fprintln(p.Out)
	}
	fmt.Fprintf(p.Out, "==> %s <==\n", name)
}

func ignore(err, harmless error) error {
	if errors.Is(err, harmless) {
		return nil
	}
	return err
}
