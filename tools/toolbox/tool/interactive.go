package tool

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/term"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// interactive reads commands at a terminal, with line editing and history. It asks the terminal no questions, as gosh's
// editor does, which waits for an answer that a terminal without a person may never give.
func (p *Proc) interactive(params []string) error {
	runner, err := interp.New(interp.StdIO(os.Stdin, os.Stdout, os.Stderr), interp.Params(params...), interp.Interactive(true),
		interp.ExecHandlers(command))
	if err != nil {
		return err
	}
	// Ctrl-C is for the command that runs.
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	fd := int(os.Stdin.Fd())
	lines := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{keys{os.Stdin}, os.Stdout}, "")
	runner.Reset()
	text := ""
	for {
		line, err := readLine(fd, lines, prompt(runner.Dir, text != ""))
		if err == io.EOF {
			return statusOf(p.status)
		}
		if err != nil {
			return err
		}
		text += line + "\n"
		prog, err := syntax.NewParser().Parse(strings.NewReader(text), "")
		if syntax.IsIncomplete(err) {
			continue
		}
		text = ""
		if err != nil {
			p.warn(err)
			continue
		}
		for _, stmt := range prog.Stmts {
			p.status = p.runStatement(runner, stmt)
			if runner.Exited() {
				return statusOf(p.status)
			}
		}
	}
}

func (p *Proc) runStatement(runner *interp.Runner, stmt *syntax.Stmt) int {
	err := runner.Run(context.Background(), stmt)
	if status, ok := interp.IsExitStatus(err); ok {
		return int(status)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		p.warn(err)
		return 1
	}
	return 0
}

// readLine reads one line with the terminal in raw mode, which commands do not get to see.
func readLine(fd int, lines *term.Terminal, prompt string) (string, error) {
	state, err := term.MakeRaw(fd)
	if err != nil {
		return "", err
	}
	defer term.Restore(fd, state)
	if width, height, err := term.GetSize(fd); err == nil && width > 0 {
		_ = lines.SetSize(width, height)
	}
	lines.SetPrompt(prompt)
	return lines.ReadLine()
}

func prompt(dir string, more bool) string {
	switch {
	case more:
		return "> "
	case os.Geteuid() == 0:
		return dir + " # "
	}
	return dir + " $ "
}

// keys are what is typed, with Ctrl-C as Ctrl-U: it empties the line instead of ending the input.
type keys struct{ io.Reader }

func (k keys) Read(b []byte) (int, error) {
	n, err := k.Reader.Read(b)
	for i, c := range b[:n] {
		if c == 3 {
			b[i] = 21
		}
	}
	return n, err
}
