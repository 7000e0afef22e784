package tool

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
)

// sed edits a stream: -n -e -f -E -i. Its commands are s y p d q a i c = n N, with addresses and "!".
func sed(p *Proc) error {
	o, args, err := p.opts("ne:f:Eri", "quiet=n", "silent=n", "expression=e", "file=f", "regexp-extended=E", "in-place=i")
	if err != nil {
		return err
	}
	script := o['e']
	for _, file := range o['f'] {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		script = append(script, strings.TrimSuffix(string(data), "\n"))
	}
	if len(script) == 0 {
		if err := need(args, 1); err != nil {
			return err
		}
		script, args = args[:1], args[1:]
	}
	program, err := parseSed(strings.Join(script, "\n"), o.has('E') || o.has('r'))
	if err != nil {
		return err
	}
	if o.has('i') {
		for _, name := range args {
			if err := sedInPlace(program, o.has('n'), name); err != nil {
				p.warn(err)
			}
		}
		return nil
	}
	var input bytes.Buffer
	p.inputs(args, func(_ string, r io.Reader) error {
		_, err := input.ReadFrom(r)
		return err
	})
	return runSed(program, o.has('n'), input.String(), p.Out)
}

func sedInPlace(program []*sedCommand, quiet bool, name string) error {
	st, err := os.Stat(name)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := runSed(program, quiet, string(data), &out); err != nil {
		return err
	}
	for _, c := range program {
		c.active = false
	}
	return os.WriteFile(name, out.Bytes(), st.Mode().Perm())
}

// runSed runs the program over the text. The last line keeps its lack of a newline.
func runSed(program []*sedCommand, quiet bool, text string, out io.Writer) error {
	input := strings.SplitAfter(text, "\n")
	if input[len(input)-1] == "" {
		input = input[:len(input)-1]
	}
	for i := 0; i < len(input); i++ {
		s := sedState{out: out, quiet: quiet, input: input, at: i}
		s.take(input[i])
		quit := s.run(program)
		if !s.deleted && !quiet {
			s.print(s.space)
		}
		for _, text := range s.after {
			s.print(text)
		}
		i = s.at
		if quit {
			break
		}
	}
	return nil
}

// sedState is the cycle of one line.
type sedState struct {
	out     io.Writer
	quiet   bool
	input   []string
	at      int    // index of the line last read
	space   string // the pattern space
	newline string // what ended the line: "\n", or "" at the end of some files
	after   []string
	deleted bool
}

func (s *sedState) take(line string) {
	s.space = strings.TrimSuffix(line, "\n")
	s.newline = line[len(s.space):]
}

func (s *sedState) print(text string) { io.WriteString(s.out, text+s.newline) }

// run executes the commands on the pattern space; true means quit.
func (s *sedState) run(program []*sedCommand) bool {
	for _, c := range program {
		if !c.selects(s) {
			continue
		}
		switch c.name {
		case 'd':
			s.deleted = true
			return false
		case 'p':
			s.print(s.space)
		case '=':
			fmt.Fprintln(s.out, s.at+1)
		case 'q':
			return true
		case 'a':
			s.after = append(s.after, c.text)
		case 'i':
			io.WriteString(s.out, c.text+"\n")
		case 'c':
			if !c.ranged() || !c.active {
				io.WriteString(s.out, c.text+"\n")
			}
			s.deleted = true
			return false
		case 'y':
			s.space = c.replacer.Replace(s.space)
		case 'n', 'N':
			if s.at+1 == len(s.input) {
				return true
			}
			s.next(c.name == 'N')
		case 's':
			s.substitute(c)
		}
	}
	return false
}

// next reads the next line in the place of this one, or joins it.
func (s *sedState) next(join bool) {
	before := s.space
	if !join && !s.quiet {
		s.print(before)
	}
	s.at++
	s.take(s.input[s.at])
	if join {
		s.space = before + "\n" + s.space
	}
}

func (s *sedState) substitute(c *sedCommand) {
	n := 0
	var b strings.Builder
	end := 0
	for _, m := range c.re.FindAllStringSubmatchIndex(s.space, -1) {
		n++
		if n < c.nth || (n > c.nth && !c.global) {
			continue
		}
		b.WriteString(s.space[end:m[0]])
		b.WriteString(c.expand(s.space, m))
		end = m[1]
	}
	if n < c.nth || n == 0 {
		return
	}
	s.space = b.String() + s.space[end:]
	if c.print {
		s.print(s.space)
	}
}

// expand puts the match's groups into the replacement: & and \0 to \9.
func (c *sedCommand) expand(text string, m []int) string {
	var b strings.Builder
	r := c.text
	for i := 0; i < len(r); i++ {
		group := -1
		switch {
		case r[i] == '&':
			group = 0
		case r[i] == '\\' && i+1 < len(r):
			i++
			switch {
			case r[i] >= '0' && r[i] <= '9':
				group = int(r[i] - '0')
			case r[i] == 'n':
				b.WriteByte('\n')
			case r[i] == 't':
				b.WriteByte('\t')
			default:
				b.WriteByte(r[i])
			}
		default:
			b.WriteByte(r[i])
		}
		if group >= 0 && 2*group+1 < len(m) && m[2*group] >= 0 {
			b.WriteString(text[m[2*group]:m[2*group+1]])
		}
	}
	return b.String()
}
