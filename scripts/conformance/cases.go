package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/txtar"
)

// A group is a txtar file with cases. The members of a case stand under its name:
//
//	NAME/Dockerfile   what is built
//	NAME/args         flags of the build, one a line: --build-arg, --label, --target, --secret, --file, --network
//	NAME/setup        what a txtar cannot hold, one command a line: see setup.go
//	NAME/want         the result, as BuildKit gives it: see result.go. Written by -update
//	NAME/strata       lines of want that are strata's own on purpose, "KEY -" for one that it has not, all where BuildKit
//	                  fails; # gives the reason
//	NAME/…            any other is a file of the build context
type group struct {
	name    string
	file    string // "" for directories with a Dockerfile
	comment []byte
	cases   []*testCase
}

// testCase is one build.
type testCase struct {
	name    string
	files   []txtar.File // of the context, by name in it
	args    []string
	setup   []string
	want    result
	strata  []string // lines of NAME/strata
	members []txtar.File

	dir string // where the context lies
}

// findGroups finds all cases in dir.
func findGroups(dir string) ([]*group, error) {
	var groups []*group
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "bases":
			return fs.SkipDir
		case strings.HasSuffix(path, ".txtar"):
			g, err := readGroup(path)
			groups = append(groups, g)
			return err
		case d.Name() == "Dockerfile":
			in := filepath.Dir(path)
			groups = append(groups, &group{name: in, cases: []*testCase{{name: "Dockerfile", dir: in}}})
		}
		return nil
	})
	if err == nil && len(groups) == 0 {
		err = fmt.Errorf("%s: no Dockerfile and no *.txtar", dir)
	}
	return groups, err
}

func readGroup(path string) (*group, error) {
	ar, err := txtar.ParseFile(path)
	if err != nil {
		return nil, err
	}
	g := &group{name: strings.TrimSuffix(filepath.Base(path), ".txtar"), file: path, comment: ar.Comment}
	byName := map[string]*testCase{}
	for _, f := range ar.Files {
		name, member, ok := strings.Cut(f.Name, "/")
		if !ok {
			return nil, fmt.Errorf("%s: member %s: want CASE/FILE", path, f.Name)
		}
		c := byName[name]
		if c == nil {
			c = &testCase{name: name}
			byName[name], g.cases = c, append(g.cases, c)
		}
		if err := c.member(member, f); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", path, f.Name, err)
		}
	}
	return g, nil
}

// member takes one file of the group.
func (c *testCase) member(member string, f txtar.File) (err error) {
	if member == "want" {
		c.want, err = parseResult(lines(f.Data))
		return err
	}
	c.members = append(c.members, f)
	switch member {
	case "args":
		c.args = lines(f.Data)
	case "setup":
		c.setup = lines(f.Data)
	case "strata":
		c.strata = slices.DeleteFunc(lines(f.Data), func(l string) bool { return strings.HasPrefix(l, "#") })
	default:
		c.files = append(c.files, txtar.File{Name: member, Data: f.Data})
	}
	return nil
}

func lines(data []byte) []string {
	return slices.DeleteFunc(strings.Split(string(data), "\n"), func(l string) bool { return strings.TrimSpace(l) == "" })
}

// save writes the group with the results that changed.
func (g *group) save() error {
	ar := &txtar.Archive{Comment: g.comment}
	for _, c := range g.cases {
		ar.Files = append(ar.Files, c.members...)
		ar.Files = append(ar.Files, txtar.File{Name: c.name + "/want", Data: []byte(c.want.String())})
	}
	return os.WriteFile(g.file, txtar.Format(ar), 0o644)
}

// lay writes the context into dir. A directory with a Dockerfile is its own context and stays where it is.
func (c *testCase) lay(dir string) error {
	if c.members == nil {
		return nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	c.dir = dir
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, f := range c.files {
		if err := c.write(f.Name, f.Data); err != nil {
			return err
		}
	}
	for _, line := range c.setup {
		if err := c.prepare(line); err != nil {
			return fmt.Errorf("setup %q: %w", line, err)
		}
	}
	return nil
}

// write writes a file of the context, with modes that do not depend on the umask.
func (c *testCase) write(name string, data []byte) error {
	path := filepath.Join(c.dir, name)
	if err := c.parents(name); err != nil {
		return err
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		return err
	}
	return os.Chmod(path, 0o644)
}

func (c *testCase) parents(name string) error {
	for i, r := range name {
		if r != '/' {
			continue
		}
		dir := filepath.Join(c.dir, name[:i])
		if err := os.Mkdir(dir, 0o755); err != nil {
			if os.IsExist(err) {
				continue
			}
			return err
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// flags calls fn with each of the case's flags.
func (c *testCase) flags(fn func(flag, value string) error) error {
	for _, line := range c.args {
		flag, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if err := fn(flag, value); err != nil {
			return err
		}
	}
	return nil
}

// overlay is what strata must give where BuildKit gives want.
func (c *testCase) overlay(want result) result {
	if len(c.strata) == 0 {
		return want
	}
	out := slices.Clone(want)
	if want.failed() {
		out = nil
	}
	for _, line := range c.strata {
		l := parseLine(line)
		if l.key == failed {
			return fails()
		}
		out = slices.DeleteFunc(out, func(o entry) bool { return o.key == l.key })
		if l.value != "-" {
			out = append(out, l)
		}
	}
	return out
}
