package tool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// grepper is one grep: what is searched and how matches are shown.
type grepper struct {
	o     opts
	re    *regexp.Regexp
	named bool // lines are preceded by the file's name
	found bool
	p     *Proc
}

// grep prints the lines that match: -E -F -G -e -f -i -v -w -x -c -l -L -n -o -q -s -h -H -r -m. Status 1: none did.
func grep(p *Proc) error {
	o, args, err := p.opts("EFGe:f:ivwxclLnoqshHrRm:a", "extended-regexp=E", "fixed-strings=F", "regexp=e", "file=f", "ignore-case=i", "invert-match=v",
		"word-regexp=w", "line-regexp=x", "count=c", "files-with-matches=l", "files-without-match=L", "line-number=n", "only-matching=o", "quiet=q",
		"silent=q", "no-messages=s", "no-filename=h", "with-filename=H", "recursive=r", "max-count=m", "text=a")
	if err != nil {
		return grepFailed(p, err)
	}
	patterns := o['e']
	for _, file := range o['f'] {
		data, err := os.ReadFile(file)
		if err != nil {
			return grepFailed(p, err)
		}
		patterns = append(patterns, strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")...)
	}
	if len(patterns) == 0 {
		if len(args) == 0 {
			return grepFailed(p, errors.New("no pattern"))
		}
		patterns, args = strings.Split(args[0], "\n"), args[1:]
	}
	recursive := o.has('r') || o.has('R')
	if recursive && len(args) == 0 {
		args = []string{"."}
	}
	g := &grepper{o: o, p: p, named: o.has('H') || (!o.has('h') && (len(args) > 1 || recursive))}
	if g.re, err = grepPattern(o, patterns); err != nil {
		return grepFailed(p, err)
	}
	failed := false
	for _, name := range grepFiles(args, recursive) {
		if err := p.input(name, g.search); err != nil {
			failed = true
			if !o.has('s') {
				p.warn(err)
			}
		}
	}
	switch {
	case g.found && (o.has('q') || !failed):
		p.failed = false
		return nil
	case failed:
		return Status(2)
	}
	return Status(1)
}

func grepFailed(p *Proc, err error) error {
	p.warn(err)
	return Status(2)
}

func grepPattern(o opts, patterns []string) (*regexp.Regexp, error) {
	for i, pattern := range patterns {
		switch {
		case o.has('F'):
			pattern = regexp.QuoteMeta(pattern)
		case !o.has('E'):
			pattern = fromBasic(pattern)
		}
		patterns[i] = "(?:" + pattern + ")"
	}
	all := "(?:" + strings.Join(patterns, "|") + ")"
	if o.has('w') {
		all = `\b` + all + `\b`
	}
	if o.has('x') {
		all = "^" + all + "$"
	}
	return compile(all, true, o.has('i'))
}

// grepFiles are the files to search: those named, or all below those named.
func grepFiles(args []string, recursive bool) []string {
	if len(args) == 0 {
		return []string{"-"}
	}
	if !recursive {
		return args
	}
	var files []string
	for _, arg := range args {
		_ = filepath.WalkDir(arg, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.Type().IsRegular() || path == arg && !d.IsDir() {
				files = append(files, path) // opening it will say what is wrong
			}
			return nil
		})
	}
	return files
}

func (g *grepper) search(name string, r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	o, out, count, number := g.o, g.p.Out, 0, 0
	binary := !o.has('a') && bytes.IndexByte(data[:min(len(data), 8192)], 0) >= 0
	prefix := ""
	if g.named {
		prefix = strings.Replace(name, "-", "(standard input)", boolInt(name == "-")) + ":"
	}
	most := -1
	if o.has('m') {
		if _, err := fmt.Sscan(o.last('m', ""), &most); err != nil {
			return err
		}
	}
	err = lines(bytes.NewReader(data), func(line string) error {
		number++
		if g.re.MatchString(line) == o.has('v') || count == most {
			return nil
		}
		count++
		g.found = true
		if o.has('q') || o.has('c') || o.has('l') || o.has('L') || binary {
			return nil
		}
		at := prefix
		if o.has('n') {
			at += fmt.Sprint(number) + ":"
		}
		if !o.has('o') {
			_, err := fmt.Fprintln(out, at+line)
			return err
		}
		for _, m := range g.re.FindAllString(line, -1) {
			fmt.Fprintln(out, at+m)
		}
		return nil
	})
	switch {
	case o.has('q'):
	case o.has('l') && count > 0, o.has('L') && count == 0:
		fmt.Fprintln(out, name)
	case o.has('c'):
		fmt.Fprintf(out, "%s%d\n", prefix, count)
	case binary && count > 0 && !o.has('l') && !o.has('L'):
		fmt.Fprintf(out, "%s: binary file matches\n", name)
	}
	return err
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
