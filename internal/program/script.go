package program

import (
	"bytes"
	"fmt"
	"path"
	"strings"
)

// script tells why the kernel would refuse a script: its interpreter is missing, or is one that cannot be executed.
func (x *examiner) script(head []byte, file string, depth int) *Problem {
	line, _, _ := bytes.Cut(head[2:], []byte("\n"))
	name := path.Base(file)
	if bytes.HasSuffix(line, []byte("\r")) {
		return &Problem{Kind: Interpreter, Exit: 126,
			Why:  "its lines end as on Windows (CRLF), so that it asks for " + quoted(string(line)),
			Hint: fmt.Sprintf(`sed -i 's/\r$//' %s   (and build again; in git: echo '* text eol=lf' >> .gitattributes)`, name)}
	}
	words := strings.Fields(string(line))
	if len(words) == 0 {
		return &Problem{Kind: Format, Exit: 126, Why: "its #! line names no interpreter", Hint: "make #!/bin/sh the first line of " + name + " and build again"}
	}
	wanted := words[0]
	path0 := x.path(wanted) // the kernel does not search
	if path.Base(wanted) == "env" && len(words) > 1 && !strings.HasPrefix(words[1], "-") && !x.absent(path0) {
		wanted, path0 = words[1], words[1] // env does
	}
	interpreter, blocked := x.find(path0)
	switch {
	case blocked != nil:
		blocked.Why = fmt.Sprintf("its interpreter %s: %s", wanted, blocked.Why)
		return blocked
	case interpreter == "":
		return x.noInterpreter(wanted, name)
	case depth >= maxDepth:
		return &Problem{Kind: Format, Exit: 126, Why: "its interpreter is a script of a script of a script"}
	}
	p := x.file(interpreter, depth+1)
	if p != nil {
		p.Why = fmt.Sprintf("its interpreter %s: %s: %s", wanted, p.number(), p.Why)
	}
	return p
}

// noInterpreter says which interpreter a script asks for, and which it could have.
func (x *examiner) noInterpreter(wanted, name string) *Problem {
	p := &Problem{Kind: Interpreter, Exit: 126, Why: fmt.Sprintf("its first line asks for %s, which the image lacks", wanted)}
	base := path.Base(wanted)
	other := x.runs(base)
	if other == "" && word(shells, base) {
		other = x.shell()
	}
	switch {
	case other != "":
		p.Hint = fmt.Sprintf("make #!%s the first line of %s and build again, or install %s in the image", other, name, base)
	default:
		p.Hint = fmt.Sprintf("install %s in the image, or use a base that has it", base)
	}
	return p
}

// quoted shows a first line with its carriage return.
func quoted(line string) string {
	return fmt.Sprintf("%q", strings.TrimSpace(strings.TrimSuffix(line, "\r"))+"\r")
}
