package build

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"strata/internal/dockerfile"
	"strata/internal/errdef"
)

// missing is the error for a source that is not in the context, with the reason where there is one. written is how the
// Dockerfile writes it.
func (c *Context) missing(source, written string) error {
	if up := path.Clean(written); up == ".." || strings.HasPrefix(up, "../") {
		return c.outside(written, up)
	}
	err := fmt.Errorf("%q: %w", "/"+source, errdef.ErrNotFound)
	_, absent := os.Lstat(filepath.Join(c.dir, filepath.FromSlash(source)))
	if v := c.ignore.Match(source); absent == nil && v.Ignored && v.Rule != nil {
		return errdef.WithHint(err, fmt.Sprintf("%s:%d: %q leaves it out; add the line \"!%s\" after it", c.ignoreName, v.Rule.Line, v.Rule.Text, source))
	}
	if hint := c.hostPath(written); hint != "" && c.from == "" {
		return errdef.WithHint(err, hint)
	}
	if near := c.near(source); near != "" {
		return errdef.WithHint(err, fmt.Sprintf("did you mean %q?", near))
	}
	if c.from != "" {
		return errdef.WithHint(err, "sources are looked for in the build context, "+c.from)
	}
	return errdef.WithHint(err, fmt.Sprintf("sources are looked for in the build context, %s: ls %s", c.dir, filepath.Join(c.dir, path.Dir(source))))
}

// outside is the error for a source above the context.
func (c *Context) outside(written, up string) error {
	if c.from != "" {
		return fmt.Errorf("%q is outside of the build context %s, of which alone COPY and ADD take files: %w", written, c.from, errdef.ErrInvalid)
	}
	err := fmt.Errorf("%q is outside of the build context %s, of which alone COPY and ADD take files: %w", written, c.dir, errdef.ErrInvalid)
	top, below := filepath.Dir(c.dir), strings.TrimPrefix(up, "..")
	for below = strings.TrimPrefix(below, "/"); strings.HasPrefix(below+"/", "../"); below = strings.TrimPrefix(strings.TrimPrefix(below, ".."), "/") {
		top = filepath.Dir(top)
	}
	if below == "" {
		return err
	}
	file := filepath.Join(c.dir, c.dockerfile)
	if _, gone := os.Lstat(file); gone != nil {
		file = "DOCKERFILE"
	}
	return errdef.WithHint(err, fmt.Sprintf("build from %s: strata build -f %s %s, and write all paths as they are from there: COPY %s …", top, file, top, below))
}

// hostPath answers a source that is written as a path of this machine.
func (c *Context) hostPath(written string) string {
	if !path.IsAbs(written) {
		return ""
	}
	if _, err := os.Lstat(filepath.FromSlash(written)); err != nil {
		return ""
	}
	inside, err := filepath.Rel(c.dir, written)
	if err != nil || strings.HasPrefix(inside, "..") {
		return fmt.Sprintf("paths begin at the build context: copy %s into %s first", written, c.dir)
	}
	return fmt.Sprintf("paths begin at the build context: write %q", inside)
}

// near finds the path that source most likely means: one that differs in a letter or two, in case only, or that has its name
// in another directory.
func (c *Context) near(source string) string {
	dir, base := path.Dir(source), path.Base(source)
	var names, elsewhere []string
	for i := range c.tree.items {
		name := c.tree.items[i].path
		if strings.EqualFold(name, source) {
			return name
		}
		if path.Dir(name) == dir {
			names = append(names, name)
		}
		if path.Base(name) == base && c.tree.items[i].kind() == unix.S_IFREG {
			elsewhere = append(elsewhere, name)
		}
	}
	if near := dockerfile.Closest(source, names); near != "" || len(elsewhere) != 1 {
		return near
	}
	return elsewhere[0]
}
