package tool

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"

	"golang.org/x/term"
	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// sh is the shell: -c COMMAND [NAME ARG...], a script with arguments, or standard input, with the options of set. It runs
// on the interpreter that u-root's gosh runs on, which knows neither options nor arguments.
func sh(p *Proc) error {
	opts, args := shellArgs(p.Args)
	var script io.Reader = p.In
	name := "sh"
	switch {
	case opts.command && len(args) == 0:
		p.warn(errors.New("-c needs a command"))
		return Status(2)
	case opts.command:
		script, args = strings.NewReader(args[0]), args[1:]
		if len(args) > 0 {
			name, args = args[0], args[1:]
		}
	case len(args) > 0 && !opts.stdin:
		f, err := os.Open(args[0])
		if err != nil {
			p.warn(err)
			return Status(127)
		}
		defer f.Close()
		script, name, args = f, args[0], args[1:]
	case term.IsTerminal(int(os.Stdin.Fd())):
		return p.interactive(append(opts.set, "--"))
	}
	prog, err := syntax.NewParser().Parse(script, name)
	if err != nil {
		p.warn(err)
		return Status(2)
	}
	return p.interpret(prog, append(append(opts.set, "--"), args...))
}

// shellOptions are the flags before the operands.
type shellOptions struct {
	set            []string // for the interpreter: -e, -u, -x, -o NAME …
	command, stdin bool
}

func shellArgs(args []string) (shellOptions, []string) {
	var o shellOptions
	for len(args) > 0 && len(args[0]) > 1 && (args[0][0] == '-' || args[0][0] == '+') {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			break
		}
		for _, c := range arg[1:] {
			switch c {
			case 'c':
				o.command = true
			case 's':
				o.stdin = true
			case 'l', 'i': // a login or interactive shell has no more to read here
			case 'o':
				if len(args) > 0 {
					o.set = append(o.set, arg[:1]+"o", args[0])
					args = args[1:]
				}
			default:
				o.set = append(o.set, arg[:1]+string(c))
			}
		}
	}
	return o, args
}

// interpret runs a program with the given settings and positional parameters.
func (p *Proc) interpret(prog *syntax.File, params []string) error {
	last := single(prog)
	execNext := false
	runner, err := interp.New(
		interp.StdIO(os.Stdin, os.Stdout, os.Stderr),
		interp.Params(params...),
		interp.CallHandler(func(_ context.Context, args []string) ([]string, error) {
			execNext = last || (args[0] == "exec" && len(args) > 1)
			return args, nil
		}),
		interp.ExecHandlers(func(next interp.ExecHandlerFunc) interp.ExecHandlerFunc {
			return func(ctx context.Context, args []string) error {
				if execNext {
					become(interp.HandlerCtx(ctx), args)
				}
				return command(next)(ctx, args)
			}
		}),
	)
	if err != nil {
		p.warn(err)
		return Status(2)
	}
	err = runner.Run(context.Background(), prog)
	if status, ok := interp.IsExitStatus(err); ok {
		return Status(status)
	}
	return err
}

// single reports whether the program is one plain command: the shell can become it, so that it gets the signals meant
// for the container's first process.
func single(prog *syntax.File) bool {
	if len(prog.Stmts) != 1 {
		return false
	}
	s := prog.Stmts[0]
	call, ok := s.Cmd.(*syntax.CallExpr)
	if !ok || s.Background || s.Negated || len(s.Redirs) > 0 {
		return false
	}
	plain := true
	syntax.Walk(call, func(n syntax.Node) bool {
		switch n.(type) {
		case *syntax.CmdSubst, *syntax.ProcSubst:
			plain = false
		}
		return plain
	})
	return plain
}

// become executes a command in the place of the shell. It returns if it cannot: not on the shell's own streams, or no
// such command, which the ordinary way will then tell.
func become(hc interp.HandlerContext, args []string) {
	if hc.Stdin != os.Stdin || hc.Stdout != os.Stdout || hc.Stderr != os.Stderr {
		return
	}
	path, err := interp.LookPathDir(hc.Dir, hc.Env, args[0])
	if err != nil || os.Chdir(hc.Dir) != nil {
		return
	}
	var environ []string
	hc.Env.Each(func(name string, v expand.Variable) bool {
		if v.Exported && v.Kind == expand.String {
			environ = append(environ, name+"="+v.String())
		}
		return true
	})
	_ = syscall.Exec(path, args, environ)
}
