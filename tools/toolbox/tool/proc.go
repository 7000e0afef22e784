package tool

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// Proc is what a running command has: its name, its arguments (without the name), its standard streams.
type Proc struct {
	Name   string
	Args   []string
	In     io.Reader
	Out    *bufio.Writer
	Err    io.Writer
	failed bool
	status int // of the last command, in a shell
}

// A Command is the body of a tool. A plain error is printed and makes status 1; a [Status] is a status alone.
type Command func(p *Proc) error

// Status is an error that says an exit status and nothing more.
type Status int

func (s Status) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// Run runs c and gives its exit status.
func (p *Proc) Run(c Command) int {
	err := c(p)
	if flushErr := p.Out.Flush(); err == nil && flushErr != nil && !errors.Is(flushErr, io.ErrClosedPipe) {
		err = flushErr
	}
	var s Status
	switch {
	case errors.As(err, &s):
		return int(s)
	case err != nil:
		p.warn(err)
	}
	if p.failed {
		return 1
	}
	return 0
}

// warn prints a complaint and goes on; the status will be 1.
func (p *Proc) warn(err error) {
	p.failed = true
	var pe *fs.PathError
	if errors.As(err, &pe) { // "name: what", without the system call
		err = fmt.Errorf("%s: %w", pe.Path, pe.Err)
	}
	p.Out.Flush()
	fmt.Fprintf(p.Err, "%s: %v\n", p.Name, err)
}

// opts are the flags of a command line: for each letter the values given, in order; "" for a flag without value.
type opts map[byte][]string

func (o opts) has(c byte) bool { return len(o[c]) > 0 }

// last is the value given last, or fallback.
func (o opts) last(c byte, fallback string) string {
	if v := o[c]; len(v) > 0 {
		return v[len(v)-1]
	}
	return fallback
}

// opts parses the arguments as getopt does. In spec each letter is a flag, one with a colon takes a value; a leading "+"
// stops at the first operand; "#" allows "-NUMBER". Each of long is "name=letter".
func (p *Proc) opts(spec string, long ...string) (opts, []string, error) {
	o, operands := opts{}, []string{}
	spec, ordered := strings.CutPrefix(spec, "+")
	for args := p.Args; len(args) > 0; {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--":
			return o, append(operands, args...), nil
		case strings.HasPrefix(arg, "--"):
			name, value, inline := strings.Cut(arg[2:], "=")
			c := letter(long, name)
			if c == 0 {
				return nil, nil, fmt.Errorf("unknown option %s", arg)
			}
			if takesValue(spec, c) && !inline {
				if len(args) == 0 {
					return nil, nil, fmt.Errorf("option %s needs a value", arg)
				}
				value, args = args[0], args[1:]
			}
			o[c] = append(o[c], value)
		case len(arg) < 2 || arg[0] != '-':
			if ordered {
				return o, append([]string{arg}, args...), nil
			}
			operands = append(operands, arg)
		case strings.Contains(spec, "#") && arg[1] >= '0' && arg[1] <= '9':
			o['#'] = append(o['#'], arg[1:])
		default:
			var err error
			if args, err = o.cluster(spec, arg[1:], args); err != nil {
				return nil, nil, err
			}
		}
	}
	return o, operands, nil
}

// cluster takes a bundle of one-letter flags, the last of which may have its value in the bundle or after it.
func (o opts) cluster(spec, flags string, rest []string) ([]string, error) {
	for i := range len(flags) {
		c := flags[i]
		if c == ':' || c == '#' || !strings.Contains(spec, string(c)) {
			return nil, fmt.Errorf("unknown option -%c", c)
		}
		if !takesValue(spec, c) {
			o[c] = append(o[c], "")
			continue
		}
		if i+1 < len(flags) {
			o[c] = append(o[c], flags[i+1:])
			return rest, nil
		}
		if len(rest) == 0 {
			return nil, fmt.Errorf("option -%c needs a value", c)
		}
		o[c] = append(o[c], rest[0])
		return rest[1:], nil
	}
	return rest, nil
}

func takesValue(spec string, c byte) bool { return strings.Contains(spec, string(c)+":") }

func letter(long []string, name string) byte {
	for _, l := range long {
		if n, c, _ := strings.Cut(l, "="); n == name {
			return c[0]
		}
	}
	return 0
}

// inputs calls fn with each named file, standard input for "-" or for no name at all. A file that cannot be read is a
// complaint, not the end.
func (p *Proc) inputs(names []string, fn func(name string, r io.Reader) error) {
	if len(names) == 0 {
		names = []string{"-"}
	}
	for _, name := range names {
		if err := p.input(name, fn); err != nil {
			p.warn(err)
		}
	}
}

func (p *Proc) input(name string, fn func(string, io.Reader) error) error {
	if name == "-" {
		return fn(name, p.In)
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return fn(name, f)
}

// lines calls fn with each line of r, its newline cut off.
func lines(r io.Reader, fn func(line string) error) error {
	b := bufio.NewReader(r)
	for {
		line, err := b.ReadString('\n')
		if line != "" {
			if err := fn(strings.TrimSuffix(line, "\n")); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// need complains when there are fewer than n operands.
func need(operands []string, n int) error {
	if len(operands) < n {
		return errors.New("missing operand")
	}
	return nil
}
