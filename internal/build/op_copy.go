package build

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/fetch"
	"strata/internal/graph"
	"strata/internal/layer"
)

// copyOp puts files from the context, from another stage, from elsewhere or from the Dockerfile itself into the tree: COPY
// and ADD.
type copyOp struct {
	op
	copy *Copy
}

func (o *copyOp) Define([]json.RawMessage) ([]graph.Line, error) {
	var sources []string
	for i := range o.copy.Sources {
		sources = append(sources, o.copy.Sources[i].key())
	}
	written, err := json.Marshal(sources)
	if err != nil {
		return nil, err
	}
	lines := o.lines(
		graph.Line{Name: "the sources", Value: string(written)},
		graph.Line{Name: "the destination", Value: o.copy.Dest},
		graph.Line{Name: "the owner", Value: o.copy.Chown},
	)
	if o.copy.Chmod != nil {
		lines = append(lines, graph.Line{Name: "the mode", Value: o.copy.Chmod.String()})
	}
	for _, pattern := range o.copy.Exclude {
		lines = append(lines, graph.Line{Name: "what is left out", Value: pattern})
	}
	for _, f := range o.copy.Inline {
		sum := sha256.Sum256([]byte(f.Data))
		lines = append(lines, graph.Line{Name: "file <<" + f.Name, Value: "sha256:" + hex.EncodeToString(sum[:])})
	}
	return lines, nil
}

// key is all that a source says.
func (s *Source) key() string {
	text := s.Path
	switch {
	case s.Repo != nil:
		text = s.Repo.String()
	case s.URL != "":
		text = fetch.Redact(s.URL)
	case s.Parents:
		text += "/./" + s.Include
	}
	if s.Unpack {
		text += " unpacked"
	}
	return text
}

// Content lists what is selected, here or elsewhere. Times do not count: they make no difference that anybody asks for. Owners
// count where they get into the layer.
func (o *copyOp) Content(ctx context.Context, inputs []json.RawMessage) ([]graph.Line, error) {
	if len(o.copy.Sources) == 0 {
		return nil, nil
	}
	lines, err := o.fetchedLines(ctx)
	if err == nil && o.copy.hasPaths() {
		err = o.withOrigin(ctx, nil, inputs, func(from *origin) error {
			more, err := o.content(ctx, from)
			lines = append(lines, more...)
			return err
		})
	}
	return lines, o.at(ctx, err)
}

// hasPaths: something is taken of From or of the context.
func (c *Copy) hasPaths() bool {
	return slices.ContainsFunc(c.Sources, func(s Source) bool { return s.URL == "" && s.Repo == nil })
}

func (o *copyOp) content(ctx context.Context, from *origin) ([]graph.Line, error) {
	var selected []selection
	for i := range o.copy.Sources {
		if src := &o.copy.Sources[i]; src.URL == "" && src.Repo == nil {
			found, err := o.find(from, src)
			if err != nil {
				return nil, err
			}
			selected = append(selected, found...)
		}
	}
	var files []*item
	for i := range selected {
		for _, it := range selected[i].items() {
			if it.kind() == unix.S_IFREG || it.isDir() {
				files = append(files, it)
			}
		}
	}
	sums, err := from.index.digests(ctx, from.root, from.stack, files)
	if err != nil {
		return nil, err
	}
	var lines []graph.Line
	for i := range selected {
		s := &selected[i]
		lines = append(lines, graph.Line{Name: "source " + s.name, Value: s.top.path})
		for _, it := range s.items() {
			line := contentLine(it, sums[it.path])
			if o.keepsOwner() {
				line.Value = fmt.Sprintf("%d:%d %s", it.stat.Uid, it.stat.Gid, line.Value)
			}
			lines = append(lines, line)
		}
	}
	return lines, nil
}

// keepsOwner: what is copied belongs to whom it belongs at its source.
func (o *copyOp) keepsOwner() bool { return o.copy.From != nil && o.copy.Chown == "" }

func contentLine(i *item, sum string) graph.Line {
	mode := fmt.Sprintf("%04o", i.perm())
	switch i.kind() {
	case unix.S_IFDIR:
		return graph.Line{Name: "directory " + i.path, Value: strings.TrimSpace(mode + " " + sum)}
	case unix.S_IFLNK:
		return graph.Line{Name: "link " + i.path, Value: i.link}
	case unix.S_IFREG:
		return graph.Line{Name: "file " + i.path, Value: mode + " " + sum}
	}
	return graph.Line{Name: "file " + i.path, Value: fmt.Sprintf("%s special %o %d", mode, i.kind(), i.stat.Rdev)}
}

// items are the top and all that is below it. The top of a copied directory is left out: only what is in it is copied.
func (s *selection) items() []*item {
	var items []*item
	if !s.top.isDir() {
		items = append(items, &s.top)
	}
	for i := range s.all {
		items = append(items, &s.all[i])
	}
	return items
}

func (o *copyOp) Run(ctx context.Context, inputs []json.RawMessage, out *graph.Output) (json.RawMessage, error) {
	result, err := o.changeset(ctx, inputs[0], out, func(t *mounted) error {
		c, err := o.copier(ctx, t, out)
		if err != nil {
			return err
		}
		if t.later, err = o.later(t); err != nil {
			return err
		}
		c.later = t.later
		if !o.copy.hasPaths() {
			return o.put(ctx, t, c, nil)
		}
		return o.withOrigin(ctx, t, inputs, func(from *origin) error { return o.put(ctx, t, c, from) })
	})
	return result, o.at(ctx, err)
}

// put copies the sources, then writes the inline files.
func (o *copyOp) put(ctx context.Context, t *mounted, c *copier, from *origin) error {
	for i := range o.copy.Sources {
		found, done, err := o.locate(ctx, t, from, &o.copy.Sources[i])
		if err == nil {
			err = o.selections(ctx, c, found)
		}
		done()
		if err != nil {
			return err
		}
	}
	for _, f := range o.copy.Inline {
		if err := c.inline(f); err != nil {
			return err
		}
	}
	return c.finish()
}

func (o *copyOp) selections(ctx context.Context, c *copier, found []selection) error {
	for i := range found {
		s := &found[i]
		c.from = s.root
		if s.unpack && s.top.kind() == unix.S_IFREG {
			done, err := o.unpack(ctx, c, s)
			if err != nil {
				return err
			}
			if done {
				continue
			}
		}
		if err := c.selection(s); err != nil {
			return err
		}
	}
	return nil
}

func (o *copyOp) copier(ctx context.Context, t *mounted, out *graph.Output) (*copier, error) {
	c := &copier{
		ctx: ctx.Err, to: t.root, dest: o.copy.Dest, chmod: o.copy.Chmod, epoch: o.x.plan.Epoch,
		keepOwner: o.keepsOwner(), capabilities: o.copy.From != nil, anyOwner: o.x.deps.SingleID,
	}
	if o.copy.Chown == "" {
		return c, nil
	}
	user, err := ownerOf(t, o.copy.Chown, out)
	c.uid, c.gid = int(user.UID), int(user.GID)
	return c, err
}

// unpack unpacks a selected file into the destination if it is an archive. Modes stay as they are in it.
func (o *copyOp) unpack(ctx context.Context, c *copier, s *selection) (bool, error) {
	f, err := openUnchanged(c.from, &s.top)
	if err != nil {
		return false, err
	}
	defer f.Close()
	if !isArchive(f) {
		return false, ctx.Err()
	}
	if _, err := f.Seek(0, 0); err != nil {
		return false, err
	}
	content, _, err := layer.Decompress(f)
	if err != nil {
		return false, fmt.Errorf("archive %q: %w", s.name, err)
	}
	defer content.Close()
	if err := c.allNow(); err != nil {
		return false, err
	}
	if err := c.mkdir(c.dest, 0o755); err != nil {
		return false, err
	}
	opts := layer.ExtractOptions{IgnoreOwner: c.anyOwner}
	if o.copy.Chown != "" {
		opts.UID, opts.GID = &c.uid, &c.gid
	}
	return true, layer.ExtractTree(ctx, content, c.to.File(), c.dest, opts)
}

// isArchive tells whether f, compressed once or not, begins with a tar's entry, as docker decides it: by content, never by
// name.
func isArchive(f io.Reader) bool {
	content, _, err := layer.Decompress(f)
	if err != nil {
		return false
	}
	defer content.Close()
	_, err = tar.NewReader(content).Next()
	return err == nil || errors.Is(err, tar.ErrInsecurePath)
}

// toDirectory tells whether a destination is written as a directory.
func toDirectory(dest string) bool {
	return strings.HasSuffix(dest, "/") || strings.HasSuffix(dest, "/.") || path.Clean(dest) == "/"
}

// orEpoch is a time clamped to the epoch of a reproducible build.
func orEpoch(at time.Time, epoch *time.Time) time.Time {
	if epoch != nil && at.After(*epoch) {
		return *epoch
	}
	return at
}
