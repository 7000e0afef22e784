package tool

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// tail prints the last lines (-n, -NUMBER), or all from a line on (-n +N), or the last bytes (-c), and with -f what comes.
func tail(p *Proc) error {
	o, names, err := p.opts("n:c:qfF#", "lines=n", "bytes=c", "quiet=q", "follow=f")
	if err != nil {
		return err
	}
	count := o.last('c', o.last('n', o.last('#', "10")))
	n, err := strconv.Atoi(strings.TrimLeft(count, "+-"))
	if err != nil {
		return fmt.Errorf("bad count %q", count)
	}
	p.inputs(names, func(name string, r io.Reader) error {
		title(p, o, names, name)
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		p.Out.Write(lastPart(data, n, strings.HasPrefix(count, "+"), o.has('c')))
		if o.has('f') || o.has('F') {
			return follow(p, r)
		}
		return nil
	})
	return nil
}

// lastPart is the end of data: its last n lines or bytes, or everything from the nth on.
func lastPart(data []byte, n int, from, bytes bool) []byte {
	switch {
	case bytes && from:
		return data[min(max(n-1, 0), len(data)):]
	case bytes:
		return data[max(len(data)-n, 0):]
	case from:
		at := 0
		for ; n > 1 && at < len(data); n-- {
			next := strings.IndexByte(string(data[at:]), '\n')
			if next < 0 {
				return nil
			}
			at += next + 1
		}
		return data[at:]
	}
	at := len(data)
	if at > 0 && data[at-1] == '\n' {
		at--
	}
	for ; n > 0 && at >= 0; n-- {
		at = strings.LastIndexByte(string(data[:at]), '\n')
	}
	if n > 0 || at < 0 {
		return data
	}
	return data[at+1:]
}

// follow copies what is added to a file, for ever.
func follow(p *Proc, r io.Reader) error {
	if _, isFile := r.(*os.File); !isFile {
		return nil
	}
	for {
		if _, err := io.Copy(p.Out, r); err != nil {
			return err
		}
		if err := p.Out.Flush(); err != nil {
			return err
		}
		time.Sleep(200 * time.Millisecond)
	}
}
