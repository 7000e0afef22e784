package tool

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// xargs runs a command with arguments read from standard input: -n at most so many a time, -I in the place of a word,
// -0 separated by NUL, -d by a character, -r not at all without input, -t shows each command.
func xargs(p *Proc) error {
	o, args, err := p.opts("+n:I:0d:rtL:", "max-args=n", "replace=I", "null=0", "delimiter=d", "no-run-if-empty=r", "verbose=t")
	if err != nil {
		return err
	}
	if len(args) == 0 {
		args = []string{"echo"}
	}
	data, err := io.ReadAll(p.In)
	if err != nil {
		return err
	}
	words, err := xargsWords(o, string(data))
	if err != nil {
		return err
	}
	most, err := strconv.Atoi(o.last('n', o.last('L', "4096")))
	if err != nil || most < 1 {
		return fmt.Errorf("bad number %q", o.last('n', ""))
	}
	status := 0
	run := func(command []string) error {
		if o.has('t') {
			fmt.Fprintln(p.Err, strings.Join(command, " "))
		}
		s, err := child(context.Background(), p, command)
		if err != nil {
			return notRun(p, command[0], err)
		}
		if s != 0 {
			status = 123
		}
		return nil
	}
	if o.has('I') {
		for _, w := range words {
			command := make([]string, len(args))
			for i, a := range args {
				command[i] = strings.ReplaceAll(a, o.last('I', "{}"), w)
			}
			if err := run(command); err != nil {
				return err
			}
		}
		return statusOf(status)
	}
	if len(words) == 0 && !o.has('r') {
		return run(args)
	}
	for len(words) > 0 {
		n := min(most, len(words))
		if err := run(append(args[:len(args):len(args)], words[:n]...)); err != nil {
			return err
		}
		words = words[n:]
	}
	return statusOf(status)
}

func statusOf(status int) error {
	if status == 0 {
		return nil
	}
	return Status(status)
}

// xargsWords cuts the input: at NUL or the delimiter, at newlines for -I, else at blanks with quotes and backslashes heeded.
func xargsWords(o opts, text string) ([]string, error) {
	sep := unescape(o.last('d', ""))
	if o.has('0') {
		sep = "\x00"
	}
	if sep == "" && o.has('I') {
		var words []string
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); line != "" {
				words = append(words, line)
			}
		}
		return words, nil
	}
	if sep != "" {
		if text = strings.TrimSuffix(text, sep); text == "" {
			return nil, nil
		}
		return strings.Split(text, sep), nil
	}
	return shellWords(text)
}

func shellWords(text string) (words []string, err error) {
	var b strings.Builder
	inWord, quote := false, byte(0)
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			b.WriteByte(c)
		case c == '\'' || c == '"':
			quote, inWord = c, true
		case c == '\\' && i+1 < len(text):
			i++
			b.WriteByte(text[i])
			inWord = true
		case strings.IndexByte(" \t\n", c) >= 0:
			if inWord {
				words = append(words, b.String())
			}
			b.Reset()
			inWord = false
		default:
			b.WriteByte(c)
			inWord = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("unmatched %c", quote)
	}
	if inWord {
		words = append(words, b.String())
	}
	return words, nil
}
