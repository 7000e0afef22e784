package tool

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// program is the name of the multi-call program itself.
const program = "strata-toolbox"

// commands is the table of what is written here.
func commands() map[string]Command {
	return map[string]Command{
		"[": test, "addgroup": addgroup, "adduser": adduser, "cat": cat, "chgrp": chgrp, "chmod": chmod, "chown": chown,
		"cp": cp, "cut": cut, "date": date, "du": du, "echo": echo, "env": env, "expr": expr, "find": find, "grep": grep,
		"gunzip": gzipTool, "gzip": gzipTool, "head": head, "httpd": httpd, "id": id, "install": install, "ln": ln, "ls": ls,
		"md5sum": checksum, "mkdir": mkdir, "mv": mv, "nproc": nproc, "printf": printf, "rm": rm, "rmdir": rmdir, "sed": sed,
		"sh": sh, "sha1sum": checksum, "sha256sum": checksum, "sha512sum": checksum, "sort": sortTool, "stat": stat,
		"tail": tail, "tar": tar, "test": test, "timeout": timeout, "touch": touch, "tr": tr, "uniq": uniq, "wc": wc, "wget": wget,
		"whoami": whoami, "xargs": xargs, "zcat": gzipTool,
	}
}

// Others are commands from elsewhere that are linked into the program.
type Others struct {
	Names []string                // of the commands
	Run   func(name string) error // runs one with os.Args as they stand; ends the process when the command does
}

// Main is the whole program: it runs the command by whose name it was called, ours before another's.
//
//	strata-toolbox COMMAND [ARG...]
//	strata-toolbox --list              the names of all commands, one a line
//	strata-toolbox --base static|toolbox    the layer of a built-in base image, as a tar on standard output
func Main(others Others) int {
	name := filepath.Base(strings.TrimPrefix(os.Args[0], "-")) // a login shell is called "-sh"
	if name == program {
		if len(os.Args) < 2 {
			os.Args = append(os.Args, "--list")
		}
		switch os.Args[1] {
		case "--list":
			fmt.Println(strings.Join(names(others), "\n"))
			return 0
		case "--base":
			p := newProc("--base", os.Args[2:])
			return p.Run(func(p *Proc) error { return base(p, names(others)) })
		}
		os.Args = os.Args[1:]
		name = filepath.Base(os.Args[0])
	}
	if c, ok := commands()[name]; ok {
		return newProc(name, os.Args[1:]).Run(c)
	}
	if slices.Contains(others.Names, name) {
		if err := others.Run(name); err != nil {
			fmt.Fprintln(os.Stderr, name+":", err)
			return 1
		}
		return 0
	}
	fmt.Fprintf(os.Stderr, "%s: no such command here; %s --list names them\n", name, program)
	return 127
}

func newProc(name string, args []string) *Proc {
	return &Proc{Name: name, Args: args, In: os.Stdin, Out: bufio.NewWriter(os.Stdout), Err: os.Stderr}
}

// names are those of all commands, sorted.
func names(others Others) []string {
	var all []string
	for name := range commands() {
		all = append(all, name)
	}
	for _, name := range others.Names {
		if name != program {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
