package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/graph"
	"strata/internal/layer"
	"strata/internal/rootfs"
	"strata/internal/runtime"
)

// copyOp puts files from the context, from another stage or from the Dockerfile itself into the tree: COPY and ADD.
type copyOp struct {
	op
	copy *Copy
}

func (o *copyOp) Define([]json.RawMessage) ([]graph.Line, error) {
	sources, err := json.Marshal(o.copy.Sources)
	if err != nil {
		return nil, err
	}
	lines := o.lines(
		graph.Line{Name: "the sources", Value: string(sources)},
		graph.Line{Name: "the destination", Value: o.copy.Dest},
		graph.Line{Name: "the owner", Value: o.copy.Chown},
		graph.Line{Name: "the unpacking", Value: strconv.FormatBool(o.copy.Unpack)},
	)
	if o.copy.Chmod != nil {
		lines = append(lines, graph.Line{Name: "the mode", Value: fmt.Sprintf("%04o", *o.copy.Chmod)})
	}
	for _, f := range o.copy.Inline {
		sum := sha256.Sum256([]byte(f.Data))
		lines = append(lines, graph.Line{Name: "file <<" + f.Name, Value: "sha256:" + hex.EncodeToString(sum[:])})
	}
	return lines, nil
}

// Content lists what is selected of the context. Times and owners do not count: times make no difference that anybody
// asks for, and owners do not get into the layer. The results of other stages are inputs already.
func (o *copyOp) Content(ctx context.Context, _ []json.RawMessage) ([]graph.Line, error) {
	if o.copy.From != nil || len(o.copy.Sources) == 0 {
		return nil, nil
	}
	lines, err := o.content(ctx)
	return lines, o.at(ctx, err)
}

func (o *copyOp) content(ctx context.Context) ([]graph.Line, error) {
	c := o.x.deps.Context
	selected, err := o.fromContext()
	if err != nil {
		return nil, err
	}
	var files []*item
	for i := range selected {
		for _, it := range selected[i].items() {
			if it.kind() == unix.S_IFREG {
				files = append(files, it)
			}
		}
	}
	sums, err := c.digests(ctx, files)
	if err != nil {
		return nil, err
	}
	lines := []graph.Line{}
	for i := range selected {
		s := &selected[i]
		lines = append(lines, graph.Line{Name: "source " + s.name, Value: s.top.path})
		for _, it := range s.items() {
			lines = append(lines, contentLine(it, sums[it.path]))
		}
	}
	return lines, nil
}

func contentLine(i *item, sum string) graph.Line {
	mode := fmt.Sprintf("%04o", i.perm())
	switch i.kind() {
	case unix.S_IFDIR:
		return graph.Line{Name: "directory " + i.path, Value: mode}
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

func (o *copyOp) fromContext() ([]selection, error) {
	c := o.x.deps.Context
	if c == nil {
		return nil, noContext()
	}
	if err := c.walk(); err != nil {
		return nil, err
	}
	return c.selectFrom(o.copy.Sources)
}

func (o *copyOp) Run(ctx context.Context, inputs []json.RawMessage, out *graph.Output) (json.RawMessage, error) {
	result, err := o.changeset(ctx, inputs[0], out, func(t *mounted) error {
		if o.copy.From == nil {
			return o.copyContext(ctx, t)
		}
		from, err := decodeState(inputs[1])
		if err != nil {
			return err
		}
		return t.readOnly(from.Layers, func(root *rootfs.Root) error {
			selected, err := selectIn(root, o.copy.Sources)
			if err != nil {
				return err
			}
			return o.put(ctx, t, root, selected)
		})
	})
	return result, o.at(ctx, err)
}

func (o *copyOp) copyContext(ctx context.Context, t *mounted) error {
	if len(o.copy.Sources) == 0 {
		return o.put(ctx, t, nil, nil)
	}
	selected, err := o.fromContext()
	if err != nil {
		return err
	}
	return o.put(ctx, t, o.x.deps.Context.root, selected)
}

// put copies the selections, then writes the inline files.
func (o *copyOp) put(ctx context.Context, t *mounted, from *rootfs.Root, selected []selection) error {
	c, err := o.copier(ctx, t, from)
	if err != nil {
		return err
	}
	for i := range selected {
		s := &selected[i]
		if o.copy.Unpack && s.top.kind() == unix.S_IFREG {
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
	for _, f := range o.copy.Inline {
		if err := c.inline(f); err != nil {
			return err
		}
	}
	return c.finish()
}

func (o *copyOp) copier(ctx context.Context, t *mounted, from *rootfs.Root) (*copier, error) {
	c := &copier{
		ctx: ctx.Err, from: from, to: t.root, dest: o.copy.Dest, chmod: o.copy.Chmod, epoch: o.x.plan.Epoch,
		keepOwner: o.copy.From != nil && o.copy.Chown == "", xattrs: o.copy.From != nil, anyOwner: o.x.deps.SingleID,
		links: map[fileID]string{},
	}
	if o.copy.Chown == "" {
		return c, nil
	}
	user, err := ownerOf(t.root, o.copy.Chown)
	c.uid, c.gid = int(user.UID), int(user.GID)
	return c, err
}

// ownerOf resolves --chown. Without a group it is the number of the user, as docker has it for numbers, or the user's own.
func ownerOf(root *rootfs.Root, spec string) (runtime.User, error) {
	name, group, _ := strings.Cut(spec, ":")
	if group == "" {
		if uid, err := strconv.ParseUint(name, 10, 32); err == nil {
			return runtime.User{UID: uint32(uid), GID: uint32(uid)}, nil
		}
		spec = name
	}
	user, err := runtime.LookupUser(root, spec, nil)
	if err != nil {
		return user, fmt.Errorf("--chown=%s: %w", spec, err)
	}
	return user, nil
}

// unpack unpacks a selected file into the destination if it is an archive.
func (o *copyOp) unpack(ctx context.Context, c *copier, s *selection) (bool, error) {
	f, err := openUnchanged(c.from, &s.top)
	if err != nil {
		return false, err
	}
	defer f.Close()
	archive, err := isArchive(f)
	if err != nil || !archive {
		return false, err
	}
	if _, err := f.Seek(0, 0); err != nil {
		return false, err
	}
	tar, _, err := layer.Decompress(f)
	if err != nil {
		return false, fmt.Errorf("archive %q: %w", s.top.path, err)
	}
	defer tar.Close()
	if err := c.mkdir(c.dest); err != nil {
		return false, err
	}
	opts := layer.ExtractOptions{IgnoreOwner: c.anyOwner}
	if o.copy.Chown != "" {
		opts.UID, opts.GID = &c.uid, &c.gid
	}
	return true, layer.ExtractTree(ctx, tar, c.to.File(), c.dest, opts)
}

// isArchive tells whether f, compressed or not, begins with a tar header, as docker decides it: by content, never by name.
func isArchive(f interface{ Read([]byte) (int, error) }) (bool, error) {
	tar, _, err := layer.Decompress(f)
	if errors.Is(err, errdef.ErrInvalid) || errors.Is(err, errdef.ErrCorrupt) || errors.Is(err, errdef.ErrUnsupported) {
		return false, nil
	}
	if err != nil {
		return false, nil
	}
	defer tar.Close()
	var block [512]byte
	for n := 0; n < len(block); {
		m, err := tar.Read(block[n:])
		n += m
		if err != nil && n < len(block) {
			return false, nil // too short, or not what the first bytes promised
		}
	}
	return tarHeader(block[:]), nil
}

// tarHeader checks the header checksum, which every kind of tar has: the sum of all bytes with the field itself as spaces.
func tarHeader(block []byte) bool {
	field := strings.Trim(string(block[148:156]), " \x00")
	want, err := strconv.ParseInt(field, 8, 64)
	if err != nil || bytes.Equal(block, make([]byte, len(block))) {
		return false
	}
	var sum int64
	for i, b := range block {
		if i >= 148 && i < 156 {
			b = ' '
		}
		sum += int64(b)
	}
	return sum == want
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
