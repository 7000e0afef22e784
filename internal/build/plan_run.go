package build

import (
	"fmt"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"strata/internal/dockerfile"
)

func (p *planner) run(s *stage, c *instructions.RunCommand, cmd command, at Lines) error {
	if err := p.checkRunFlags(c); err != nil {
		return err
	}
	args, script, summary, err := runArgs(c)
	if err != nil {
		return err
	}
	if c.PrependShell {
		args = withShell(s, args)
	}
	if len(args) == 0 {
		return fmt.Errorf("RUN []: there is nothing to run")
	}
	run := &Run{
		Args: args, Env: s.env.List(), BuildArgs: s.argNames(), Proxy: p.proxy,
		Cwd: s.cwd(), User: s.out.Image.Config.User, Network: p.opts.Network,
		Insecure: instructions.GetSecurity(c) == instructions.SecurityInsecure, Options: &p.opts.Steps,
	}
	if script != nil {
		run.Mounts = append(run.Mounts, *script)
	}
	mounts, err := runMounts(s, c, cmd)
	if err != nil {
		return err
	}
	run.Mounts = append(run.Mounts, mounts...)
	for _, d := range instructions.GetDevices(c) {
		run.Devices = append(run.Devices, Device(*d))
	}
	if n := instructions.GetNetwork(c); n != instructions.NetworkDefault {
		run.Network = n
	}
	if run.Network == "" {
		run.Network = instructions.NetworkDefault
	}
	name := s.name(p.displayText(s, dockerfile.Display, c.String()+summary), cmd.onbuild)
	p.step(s, Step{Kind: KindRun, Run: run}, cmd, at, name, "RUN "+runText(args, s)+" # buildkit")
	return nil
}

// scriptDir is where a here-document that begins with "#!" is a file, as with BuildKit: it stands in the history.
const scriptDir = "/dev/pipes"

// runArgs gives the command line before the shell is put in front, the file that it runs if that is a here-document of its
// own, and what the display adds for a here-document.
func runArgs(c *instructions.RunCommand) (args []string, script *Mount, summary string, err error) {
	if len(c.Files) == 0 {
		return slices.Clone(c.CmdLine), nil, "", nil
	}
	if len(c.CmdLine) != 1 || !c.PrependShell {
		return nil, nil, "", fmt.Errorf("RUN with a here-document must be in shell form")
	}
	line, first := c.CmdLine[0], c.Files[0]
	if parser.MustParseHeredoc(line) == nil {
		// The here-document belongs to a command in the line: the shell reads it.
		var b strings.Builder
		b.WriteString(line)
		for _, f := range c.Files {
			b.WriteString("\n" + f.Data + f.Name)
		}
		return []string{b.String()}, nil, "", nil
	}
	text := first.Data
	if first.Chomp {
		text = parser.ChompHeredocContent(text)
	}
	summary = " (" + firstLine(first.Data) + ")"
	if strings.HasPrefix(first.Data, "#!") {
		if strings.Contains(first.Name, "/") || first.Name == "." || first.Name == ".." {
			return nil, nil, "", fmt.Errorf("RUN <<%s: the name of the here-document is no file name", first.Name)
		}
		target := scriptDir + "/" + first.Name
		return []string{target}, &Mount{Type: MountScript, Target: target, Script: text, ReadOnly: true}, summary, nil
	}
	return []string{text}, nil, summary, nil
}

// firstLine stands for a text in the display.
func firstLine(text string) string {
	line, _, more := strings.Cut(strings.ReplaceAll(strings.TrimSpace(text), "\r\n", "\n"), "\n")
	if more {
		line += "..."
	}
	return line
}

// withShell makes a shell form's argument list: SHELL, then the command as one word.
func withShell(s *stage, args []string) []string {
	shell := s.out.Image.Config.Shell
	if len(shell) == 0 {
		shell = []string{"/bin/sh", "-c"}
	}
	return append(slices.Clone(shell), strings.Join(args, " "))
}

// runText is how a RUN stands in the history: the arguments in scope first, "|2 A=1 B=2", then the command line.
func runText(args []string, s *stage) string {
	var words []string
	at := map[string]int{}
	for _, a := range s.args {
		v, ok := s.env.Get(a.Key)
		if !ok {
			v = a.ValueString()
		}
		if i, ok := at[a.Key]; ok {
			words[i] = a.Key + "=" + v
			continue
		}
		at[a.Key] = len(words)
		words = append(words, a.Key+"="+v)
	}
	if len(words) > 0 {
		words = append([]string{fmt.Sprintf("|%d", len(words))}, words...)
	}
	return strings.Join(append(words, args...), " ")
}

// argNames are the arguments in scope that have a value.
func (s *stage) argNames() []string {
	var names []string
	for _, a := range s.args {
		if _, ok := s.env.Get(a.Key); ok {
			names = append(names, a.Key)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (s *stage) cwd() string {
	if dir := s.out.Image.Config.WorkingDir; dir != "" {
		return dir
	}
	return "/"
}
