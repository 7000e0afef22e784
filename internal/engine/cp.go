package engine

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"

	"strata/internal/container"
)

// CopyOptions are a copy between a container and this machine. One of Source and Dest is CONTAINER:PATH, the other a path of
// this machine, or "-" for a tar from In or to Out.
type CopyOptions struct {
	Source, Dest string
	// Follow copies what a link at the source leads to; Archive keeps owners.
	Follow, Archive bool
	In              io.Reader
	Out             io.Writer
	// Moved counts the bytes that have passed.
	Moved *atomic.Int64
}

// Copy copies files into or out of a container, running or not.
func (e *Engine) Copy(ctx context.Context, o CopyOptions) (container.Copied, error) {
	from, src := container.SplitCopyArg(o.Source)
	to, dest := container.SplitCopyArg(o.Dest)
	switch {
	case from != "" && to != "":
		return container.Copied{}, errors.New("copying between containers is not supported")
	case from == "" && to == "":
		return container.Copied{}, errors.New("must specify at least one container source")
	}
	c := container.CopyOptions{Ref: from + to, Follow: o.Follow, Archive: o.Archive, Moved: o.Moved}
	s, err := e.Containers()
	if err != nil {
		return container.Copied{}, err
	}
	rec, err := s.Lookup(ctx, c.Ref)
	if err != nil {
		return container.Copied{}, err
	}
	if c.Dir, err = e.treeDir(ctx); err != nil {
		return container.Copied{}, err
	}
	done, err := copyFiles(ctx, s, rec, src, dest, from != "", o, c)
	if err != nil {
		return done, err
	}
	if from != "" {
		s.Emit(rec, "archive-path", "path", src)
	} else {
		s.Emit(rec, "extract-to-dir", "path", dest)
	}
	return done, nil
}

func copyFiles(ctx context.Context, s *container.Store, rec container.Record, src, dest string, out bool, o CopyOptions, c container.CopyOptions) (container.Copied, error) {
	switch {
	case out && dest == "-":
		return container.Copied{}, s.CopyOutTar(ctx, rec, src, o.Out, c)
	case out:
		return s.CopyOut(ctx, rec, src, dest, c)
	case src == "-":
		return container.Copied{Dest: c.Ref + ":" + dest}, s.CopyInTar(ctx, rec, o.In, dest, c)
	}
	return s.CopyIn(ctx, rec, src, dest, c)
}

// treeDir is an empty directory to mount a container's tree on.
func (e *Engine) treeDir(ctx context.Context) (string, error) {
	dir, err := e.runTemp(ctx)
	if err != nil {
		return "", err
	}
	dir = filepath.Join(dir, "tree")
	return dir, os.MkdirAll(dir, 0o700)
}
