package program

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// Tree is a file system as the program would see it; *rootfs.Root is one.
type Tree interface {
	Open(path string, flags int, mode uint32) (*os.File, error)
	Stat(path string) (unix.Stat_t, error)
	Lstat(path string) (unix.Stat_t, error)
	ReadDir(path string) ([]os.DirEntry, error)
}

// Command is what was to be executed, by whom and where.
type Command struct {
	Args, Env []string
	Cwd       string // absolute; "" is "/"
	UID, GID  uint32
	Groups    []uint32
	// Arch is the Go name of the processor; "" is this machine's.
	Arch string
}

// Kind is what is wrong with a program.
type Kind string

// The kinds of problem.
const (
	Missing     Kind = "missing"     // there is no such file
	Directory   Kind = "directory"   // it is none
	Mode        Kind = "mode"        // it may not be executed
	Loader      Kind = "loader"      // the loader that it needs is not there
	Interpreter Kind = "interpreter" // the interpreter that its first line names is not there
	Format      Kind = "format"      // the kernel does not know what it is
)

// Problem is why a command cannot be executed. It travels as JSON between processes.
type Problem struct {
	Kind Kind
	// Exit is the exit status for it that shells and docker have: 127 for what is not there, 126 for what is and cannot
	// be executed.
	Exit int
	// Program is the word that was to be executed.
	Program string
	// Why says the reason in words that follow the error number's: "it needs /lib/ld.so, which the image lacks". May be
	// empty when the number says all.
	Why string
	// Hint is what mends it; may be empty.
	Hint string
	// Instead is a command that can be executed and was probably meant; nil when none is known. Hint then says why.
	Instead []string
	// Direct: it was the command itself, not one that a shell in it tried.
	Direct bool
	// Option: the word is an option that stands behind the image's name.
	Option bool
}

// Error is the problem in docker's words, with the reason behind them.
func (p *Problem) Error() string {
	text := fmt.Sprintf("exec: %q: %s", p.Program, p.number())
	if p.Why != "" {
		text += ": " + p.Why
	}
	return text
}

// Unwrap gives the class.
func (p *Problem) Unwrap() error {
	if p.Kind == Missing {
		return errdef.ErrNotFound
	}
	return errdef.ErrInvalid
}

// number is the text of what execve(2), or the search in $PATH, gives.
func (p *Problem) number() string {
	switch {
	case p.Kind == Missing && !strings.Contains(p.Program, "/"):
		return "executable file not found in $PATH"
	case p.Kind == Directory:
		return unix.EISDIR.Error()
	case p.Kind == Mode:
		return unix.EACCES.Error()
	case p.Kind == Format:
		return unix.ENOEXEC.Error()
	}
	return unix.ENOENT.Error()
}

// defaultPath is where a command without $PATH is looked for.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Examine tells why c cannot be executed in t; nil when nothing there speaks against it.
func Examine(t Tree, c Command) *Problem {
	if len(c.Args) == 0 {
		return nil
	}
	x := &examiner{tree: t, cmd: c}
	file, p := x.find(c.Args[0])
	switch {
	case file != "":
		p = x.file(file, 0)
	case p == nil:
		p = x.missing()
	}
	if p != nil {
		p.Program, p.Direct = c.Args[0], true
	}
	return p
}

type examiner struct {
	tree Tree
	cmd  Command
}

// path makes a word with a slash absolute.
func (x *examiner) path(word string) string {
	if path.IsAbs(word) {
		return path.Clean(word)
	}
	return path.Join("/", x.cmd.Cwd, word)
}

func (x *examiner) dirs() []string {
	list := defaultPath
	for _, e := range x.cmd.Env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			list = v
		}
	}
	return strings.Split(list, ":")
}

// find gives the file that a word means: "" when there is none. One that is in $PATH and may not be executed is a problem.
func (x *examiner) find(word string) (file string, blocked *Problem) {
	if strings.Contains(word, "/") {
		if file = x.path(word); x.absent(file) {
			return "", nil
		}
		return file, nil
	}
	if word == "" {
		return "", nil
	}
	for _, dir := range x.dirs() {
		file := x.path(path.Join(dir, word))
		st, err := x.tree.Stat(file)
		if err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			continue
		}
		p := x.mode(file, &st)
		if p == nil {
			return file, nil
		}
		if blocked == nil {
			blocked = p
		}
	}
	return "", blocked
}

// runs gives the file that a word means if it can be executed, else "".
func (x *examiner) runs(word string) string {
	file, _ := x.find(word)
	if file == "" || x.file(file, 0) != nil {
		return ""
	}
	return file
}

// absent reports that there is certainly nothing at file. What cannot be looked at may be there.
func (x *examiner) absent(file string) bool {
	_, err := x.tree.Stat(file)
	return errors.Is(err, errdef.ErrNotFound)
}
