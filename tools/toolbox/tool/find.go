package tool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// finder walks trees and evaluates its expression on each file.
type finder struct {
	p          *Proc
	args       []string
	eval       func(f found) bool
	min, max   int
	depth      bool // contents before the directory
	xdev       bool // stay on the root's file system
	dev        uint64
	acts       bool // an action other than the default was given
	finishRuns []func()
	err        error
}

type found struct {
	path string
	st   fs.FileInfo
	skip *bool // -prune
}

// find walks trees: -name -iname -path -type -size -newer -mtime -mmin -empty -perm -user -group -maxdepth -mindepth -prune
// -depth -xdev -print -print0 -delete -exec…; -exec…+ ! -a -o and parentheses.
func find(p *Proc) error {
	f := &finder{p: p, max: -1, args: p.Args}
	var roots []string
	for len(f.args) > 0 && !strings.HasPrefix(f.args[0], "-") && f.args[0] != "!" && f.args[0] != "(" {
		roots = append(roots, f.take())
	}
	if len(roots) == 0 {
		roots = []string{"."}
	}
	f.eval = func(found) bool { return true }
	if len(f.args) > 0 {
		f.eval = f.or()
	}
	if f.err == nil && len(f.args) > 0 {
		f.err = fmt.Errorf("unexpected %q", f.args[0])
	}
	if f.err != nil {
		return f.err
	}
	for _, root := range roots {
		f.walk(root, 0)
	}
	for _, finish := range f.finishRuns {
		finish()
	}
	return nil
}

func (f *finder) walk(name string, level int) {
	st, err := os.Lstat(name)
	if err != nil {
		f.p.warn(err)
		return
	}
	dev := st.Sys().(*syscall.Stat_t).Dev
	if level == 0 {
		f.dev = dev
	}
	skip := f.xdev && dev != f.dev
	visit := func() {
		if level >= f.min && f.eval(found{name, st, &skip}) && !f.acts {
			fmt.Fprintln(f.p.Out, name)
		}
	}
	if !f.depth {
		visit()
	}
	if st.IsDir() && !skip && (f.max < 0 || level < f.max) {
		entries, err := os.ReadDir(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.p.warn(err)
		}
		for _, e := range entries {
			f.walk(strings.TrimSuffix(name, "/")+"/"+e.Name(), level+1)
		}
	}
	if f.depth {
		visit()
	}
}

func (f *finder) take() string {
	if len(f.args) == 0 {
		f.err = errors.New("an argument is missing")
		return ""
	}
	a := f.args[0]
	f.args = f.args[1:]
	return a
}

func (f *finder) is(words ...string) bool {
	for _, w := range words {
		if len(f.args) > 0 && f.args[0] == w {
			f.args = f.args[1:]
			return true
		}
	}
	return false
}

func (f *finder) or() func(found) bool {
	a := f.and()
	for f.err == nil && f.is("-o", "-or") {
		x, y := a, f.and()
		a = func(t found) bool { return x(t) || y(t) }
	}
	return a
}

func (f *finder) and() func(found) bool {
	a := f.not()
	for f.err == nil && len(f.args) > 0 && f.args[0] != "-o" && f.args[0] != "-or" && f.args[0] != ")" {
		f.is("-a", "-and")
		x, y := a, f.not()
		a = func(t found) bool { return x(t) && y(t) }
	}
	return a
}

func (f *finder) not() func(found) bool {
	switch {
	case f.is("!", "-not"):
		a := f.not()
		return func(t found) bool { return !a(t) }
	case f.is("("):
		a := f.or()
		if !f.is(")") {
			f.err = errors.New(") is missing")
		}
		return a
	}
	return f.primary(f.take())
}

func (f *finder) number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		f.err = fmt.Errorf("%q is not a number", s)
	}
	return n
}

// primary reads one test or action with its arguments.
func (f *finder) primary(word string) func(found) bool {
	yes := func(found) bool { return true }
	switch word {
	case "-maxdepth":
		f.max = f.number(f.take())
		return yes
	case "-mindepth":
		f.min = f.number(f.take())
		return yes
	case "-depth":
		f.depth = true
		return yes
	case "-xdev", "-mount":
		f.xdev = true
		return yes
	case "-true":
		return yes
	case "-name", "-iname", "-path", "-wholename":
		return nameTest(word, f.take())
	case "-type":
		kinds := f.take()
		return func(t found) bool {
			return strings.Contains(kinds, string(modeString(stMode(t.st))[0:1])) || strings.Contains(kinds, "f") && t.st.Mode().IsRegular()
		}
	case "-empty":
		return isEmpty
	case "-size":
		return f.sizeTest(f.take())
	case "-newer":
		ref := f.take()
		return func(t found) bool { return newer(t.path, ref) }
	case "-mtime", "-mmin":
		unit := map[string]time.Duration{"-mtime": 24 * time.Hour, "-mmin": time.Minute}[word]
		cmp := f.compare(f.take())
		return func(t found) bool { return cmp(int64(time.Since(t.st.ModTime()) / unit)) }
	case "-perm":
		return f.permTest(f.take())
	case "-user", "-group":
		return f.ownerTest(word, f.take())
	case "-prune":
		return func(t found) bool { *t.skip = true; return true }
	}
	return f.action(word)
}

func stMode(st fs.FileInfo) uint32 { return st.Sys().(*syscall.Stat_t).Mode }

func nameTest(word, pattern string) func(found) bool {
	return func(t found) bool {
		name := path.Base(t.path)
		switch word {
		case "-iname":
			name, pattern = strings.ToLower(name), strings.ToLower(pattern)
		case "-path", "-wholename": // there a star matches slashes too
			ok, _ := path.Match(strings.ReplaceAll(pattern, "/", "\x01"), strings.ReplaceAll(t.path, "/", "\x01"))
			return ok
		}
		ok, _ := path.Match(pattern, name)
		return ok
	}
}

func isEmpty(t found) bool {
	if t.st.IsDir() {
		entries, err := os.ReadDir(t.path)
		return err == nil && len(entries) == 0
	}
	return t.st.Mode().IsRegular() && t.st.Size() == 0
}

// compare reads "+n", "-n" or "n": more, less, exactly.
func (f *finder) compare(s string) func(int64) bool {
	n := int64(f.number(strings.TrimLeft(s, "+-")))
	switch {
	case strings.HasPrefix(s, "+"):
		return func(v int64) bool { return v > n }
	case strings.HasPrefix(s, "-"):
		return func(v int64) bool { return v < n }
	}
	return func(v int64) bool { return v == n }
}

func (f *finder) sizeTest(s string) func(found) bool {
	unit := int64(512)
	if n := len(s); n > 0 {
		if u, ok := map[byte]int64{'c': 1, 'k': 1 << 10, 'M': 1 << 20, 'G': 1 << 30, 'b': 512}[s[n-1]]; ok {
			unit, s = u, s[:n-1]
		}
	}
	cmp := f.compare(s)
	return func(t found) bool { return cmp((t.st.Size() + unit - 1) / unit) }
}

func (f *finder) permTest(s string) func(found) bool {
	want, err := newMode(strings.TrimLeft(s, "-/"), 0)
	if err != nil {
		f.err = err
	}
	return func(t found) bool {
		have := stMode(t.st) & 0o7777
		switch s[0] {
		case '-':
			return have&want == want
		case '/':
			return have&want != 0
		}
		return have == want
	}
}

func (f *finder) ownerTest(word, name string) func(found) bool {
	file := map[string]string{"-user": "/etc/passwd", "-group": "/etc/group"}[word]
	want, err := idOf(file, name)
	if err != nil {
		f.err = err
	}
	return func(t found) bool {
		uid, gid := ownerOf(t.st)
		return word == "-user" && int(uid) == want || word == "-group" && int(gid) == want
	}
}

func (f *finder) action(word string) func(found) bool {
	f.acts = true
	switch word {
	case "-print", "-print0":
		end := map[string]string{"-print": "\n", "-print0": "\x00"}[word]
		return func(t found) bool { f.p.Out.WriteString(t.path + end); return true }
	case "-delete":
		f.depth = true
		return func(t found) bool {
			if err := os.Remove(t.path); err != nil {
				f.p.warn(err)
				return false
			}
			return true
		}
	case "-exec":
		return f.exec()
	}
	f.err = fmt.Errorf("unknown %q", word)
	return nil
}

// exec reads a command up to ";", run for each file, or up to "{} +", run once for all.
func (f *finder) exec() func(found) bool {
	var command []string
	for f.err == nil {
		a := f.take()
		if a == ";" || a == "+" && len(command) > 0 && command[len(command)-1] == "{}" {
			return f.runner(command, a == "+")
		}
		command = append(command, a)
	}
	return nil
}

func (f *finder) runner(command []string, together bool) func(found) bool {
	run := func(args []string) bool {
		status, err := child(context.Background(), f.p, args)
		if err != nil {
			f.p.warn(err)
		}
		return err == nil && status == 0
	}
	if together {
		all := command[: len(command)-1 : len(command)-1]
		n := len(all)
		f.finishRuns = append(f.finishRuns, func() {
			if len(all) > n && !run(all) {
				f.p.failed = true
			}
		})
		return func(t found) bool { all = append(all, t.path); return true }
	}
	return func(t found) bool {
		args := make([]string, len(command))
		for i, a := range command {
			args[i] = strings.ReplaceAll(a, "{}", t.path)
		}
		return run(args)
	}
}
