package build

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"

	"strata/internal/dockerfile"
)

// Listed is a path of a context, and what the ignore file says of it.
type Listed struct {
	// Path is slash-separated, relative to the context. A directory that is left out is listed as one, with all that is in it;
	// other directories are not, unless nothing is in them.
	Path string
	// Type is "file", "directory", "link" or "special".
	Type string
	// Files and Size count the regular files: 1 for a file.
	Files int
	Size  int64
	// Taken: COPY and ADD see it. Rule is what decided; nil when no rule speaks of the path.
	Taken bool
	Rule  *dockerfile.Rule
}

// IgnoreFile is the name of the file with the context's rules, "" when it has none.
func (c *Context) IgnoreFile() string { return c.ignoreName }

// From is where the context is: a directory, or what it was fetched from.
func (c *Context) From() string {
	if c.from != "" {
		return c.from
	}
	return c.dir
}

// List calls fn for what is in the context, in the order of a walk.
func (c *Context) List(ctx context.Context, fn func(Listed) error) error {
	l := &lister{ctx, c, fn}
	return l.dir(".", dockerfile.Verdict{})
}

type lister struct {
	ctx context.Context
	c   *Context
	fn  func(Listed) error
}

func (l *lister) dir(name string, verdict dockerfile.Verdict) error {
	if err := context.Cause(l.ctx); err != nil {
		return err
	}
	entries, err := os.ReadDir(l.full(name))
	if err != nil {
		return err
	}
	if len(entries) == 0 && name != "." {
		return l.fn(Listed{Path: name, Type: "directory", Taken: !verdict.Ignored, Rule: verdict.Rule})
	}
	for _, e := range entries {
		child := path.Join(name, e.Name())
		v := l.c.ignore.Child(verdict, child)
		switch {
		case e.IsDir() && l.c.ignore.SkipDir(child, v):
			err = l.skipped(child, v)
		case e.IsDir():
			err = l.dir(child, v)
		default:
			err = l.one(child, e, v)
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = nil // gone while we walked
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *lister) full(name string) string { return filepath.Join(l.c.dir, filepath.FromSlash(name)) }

func (l *lister) one(name string, e fs.DirEntry, v dockerfile.Verdict) error {
	at := Listed{Path: name, Type: "special", Taken: !v.Ignored, Rule: v.Rule}
	switch e.Type() {
	case fs.ModeSymlink:
		at.Type = "link"
	case 0:
		var st unix.Stat_t
		if err := unix.Lstat(l.full(name), &st); err != nil {
			return &fs.PathError{Op: "lstat", Path: l.full(name), Err: err}
		}
		at.Type, at.Files, at.Size = "file", 1, st.Size
	}
	return l.fn(at)
}

// skipped adds up a directory that is left out as a whole. What in it cannot be read is not counted: it is not needed either.
func (l *lister) skipped(name string, v dockerfile.Verdict) error {
	at := Listed{Path: name, Type: "directory", Rule: v.Rule}
	err := filepath.WalkDir(l.full(name), func(_ string, d fs.DirEntry, err error) error {
		if err := context.Cause(l.ctx); err != nil {
			return err
		}
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			at.Files++
			at.Size += info.Size()
		}
		return nil
	})
	if err != nil {
		return err
	}
	return l.fn(at)
}
