package engine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"strata/internal/archive"
	"strata/internal/errdef"
	"strata/internal/oci"
	"strata/internal/reference"
	"strata/internal/ship"
)

// SyncOptions are those of `image sync`.
type SyncOptions struct {
	ImageCopyOptions
	// To is HOST[:PORT][/PATH] that takes the place of the registry in the names of destinations; "" leaves them.
	To string
	// Done is told of each image that has arrived.
	Done func(Copied) error
}

const (
	maxSyncLine  = 64 << 10
	maxSyncLines = 100_000
)

// syncLine is one line of a list: what to copy, and under which name.
type syncLine struct {
	number   int
	from, to string
}

// synced is one image of a list.
type synced struct{ from, to reference.Ref }

// SyncRegistries copies what a list names from registry to registry. One that fails does not keep the others back.
func (c Carrier) SyncRegistries(ctx context.Context, list io.Reader, o SyncOptions) error {
	all, err := c.readList(ctx, list, o.To)
	if err != nil {
		return err
	}
	var failed []error
	for _, s := range all {
		if s.from.String() == s.to.String() {
			return errdef.WithHint(fmt.Errorf("image %s: it is not said where to: %w", s.from.Familiar(), errdef.ErrInvalid),
				"write the destination behind it, or give all to one registry: --to HOST[/PATH]")
		}
		err := c.syncOne(ctx, ship.NewRepository(c.Client, s.from), s, o)
		if ctx.Err() != nil {
			return err
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// syncOne copies one image to a registry.
func (c Carrier) syncOne(ctx context.Context, from ship.Source, s synced, o SyncOptions) error {
	if err := owned(s.to); err != nil {
		return err
	}
	to := ship.NewRepository(c.Client, s.to).Near(s.from)
	return c.syncTo(ctx, from, to, s, o, false)
}

func (c Carrier) syncTo(ctx context.Context, from ship.Source, to ship.Target, s synced, o SyncOptions, serial bool) error {
	so := ship.Options{Referrers: !o.NoReferrers, Serial: serial, Sink: c.Sink}
	if o.Platform.OS != "" {
		so.Platform, so.Strict = &o.Platform, true
	}
	res, err := ship.Copy(ctx, from, to, so)
	if err != nil {
		if _, ok := from.(*ship.Repository); ok {
			err = c.missing(ctx, s.from, err, func(name string) string { return fmt.Sprintf("image copy %s %s", name, s.to.Familiar()) })
		}
		return fmt.Errorf("copy %s to %s: %w", s.from.Familiar(), s.to.Familiar(), err)
	}
	return o.Done(Copied{Name: s.to.Familiar(), Digest: res.Root.Digest, Referrers: res.Referrers, Sent: res.Sent, Bytes: res.Bytes})
}

// SyncOut writes what a list names into one archive, an OCI layout, which is whole or absent. What images share stands in
// it once.
func (c Carrier) SyncOut(ctx context.Context, list io.Reader, file string, o SyncOptions) error {
	all, err := c.readList(ctx, list, o.To)
	if err != nil {
		return err
	}
	return replaceFile(file, func(w io.Writer) error {
		bundle, err := archive.NewCollection(w, false)
		if err != nil {
			return err
		}
		for _, s := range all {
			if err := c.syncTo(ctx, ship.NewRepository(c.Client, s.from), bundle.Image(s.to.String()), s, o, true); err != nil {
				return err
			}
		}
		return bundle.Close()
	})
}

// IsBundle reports whether a file is an archive, and no list of names.
func IsBundle(file string) bool {
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, 512)
	n, _ := io.ReadFull(f, head)
	head = head[:n]
	return n > 262 && string(head[257:262]) == "ustar" || n > 4 && (string(head[:2]) == "\x1f\x8b" || string(head[:4]) == "\x28\xb5\x2f\xfd")
}

// SyncIn gives the images of an archive to the registries that their names say.
func (c Carrier) SyncIn(ctx context.Context, file string, o SyncOptions) error {
	bundle, err := archive.OpenPlace(ctx, file, spoolDir)
	if err != nil {
		return err
	}
	defer bundle.Close()
	names, err := bundle.Names()
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	var failed []error
	for _, name := range names {
		if err := c.syncBack(ctx, bundle, name, o); err != nil {
			failed = append(failed, err)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	if len(names) == 0 {
		return fmt.Errorf("%s: no image in it has a name: %w", file, errdef.ErrInvalid)
	}
	return errors.Join(failed...)
}

func (c Carrier) syncBack(ctx context.Context, bundle *archive.Place, name string, o SyncOptions) error {
	ref, err := reference.Parse(name)
	if err == nil && ref.Latest().String() != name {
		err = fmt.Errorf("name %.200q: it names no registry: %w", name, errdef.ErrInvalid)
	}
	if err != nil {
		return err
	}
	s := synced{from: ref}
	if s.to, err = moved(ref, o.To); err != nil {
		return err
	}
	img, err := bundle.Layout(name)
	if err != nil {
		return err
	}
	return c.syncOne(ctx, img, s, o)
}

// moved is a name in another registry, or below another path.
func moved(ref reference.Ref, to string) (reference.Ref, error) {
	if to == "" {
		return ref, nil
	}
	at, err := reference.Parse(strings.TrimRight(to, "/") + "/" + ref.Path)
	if err != nil {
		return ref, fmt.Errorf("--to: %w", err)
	}
	at.Tag, at.Digest = ref.Tag, ref.Digest
	return at, nil
}

// readList reads the lines and asks registries for the tags that patterns stand for.
func (c Carrier) readList(ctx context.Context, list io.Reader, to string) ([]synced, error) {
	lines, err := parseList(list)
	if err != nil {
		return nil, err
	}
	var all []synced
	for _, l := range lines {
		more, err := c.expand(ctx, l, to)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", l.number, err)
		}
		all = append(all, more...)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("the list names no image: %w", errdef.ErrInvalid)
	}
	return all, nil
}

// parseList reads lines of NAME[:TAG|:PATTERN|@DIGEST] [DESTINATION]; what follows # is a comment.
func parseList(r io.Reader) ([]syncLine, error) {
	var lines []syncLine
	in := bufio.NewScanner(r)
	in.Buffer(nil, maxSyncLine)
	for n := 1; in.Scan(); n++ {
		text, _, _ := strings.Cut(in.Text(), "#")
		words := strings.Fields(text)
		if len(words) == 0 {
			continue
		}
		if len(words) > 2 {
			return nil, fmt.Errorf("line %d: want NAME[:TAG or PATTERN] [DESTINATION]: %w", n, errdef.ErrInvalid)
		}
		if len(lines) == maxSyncLines {
			return nil, fmt.Errorf("more than %d lines: %w", maxSyncLines, errdef.ErrLimit)
		}
		lines = append(lines, syncLine{n, words[0], strings.Join(words[1:], "")})
	}
	return lines, in.Err()
}

// expand gives the images of one line.
func (c Carrier) expand(ctx context.Context, l syncLine, to string) ([]synced, error) {
	name, pattern := splitPattern(l.from)
	ref, err := reference.Parse(name)
	if err != nil {
		return nil, err
	}
	if pattern == "" {
		ref = ref.Latest()
	}
	dst, err := moved(ref, to)
	if l.to != "" {
		dst, err = reference.Parse(l.to)
	}
	if err != nil {
		return nil, err
	}
	if pattern == "" {
		if dst.Tag == "" {
			dst.Tag, dst.Digest = ref.Tag, ref.Digest
		}
		return []synced{{ref, dst}}, nil
	}
	if dst.Tag != "" || dst.Digest != "" {
		return nil, fmt.Errorf("%s: a destination for a pattern of tags has no tag itself: %w", l.to, errdef.ErrInvalid)
	}
	tags, err := c.Client.Tags(ctx, ref, 0)
	if err != nil {
		return nil, err
	}
	var all []synced
	for _, tag := range sortTags(tags) {
		if fits, err := path.Match(pattern, tag); err != nil || !fits || isReferrersTag(tag) {
			continue
		}
		from, err := ref.WithTag(tag)
		if err != nil {
			return nil, fmt.Errorf("repository %s: %w", ref.FamiliarName(), err)
		}
		dst.Tag = tag
		all = append(all, synced{from, dst})
	}
	if len(all) == 0 {
		return nil, errdef.WithHint(fmt.Errorf("no tag of %s is like %q: %w", ref.FamiliarName(), pattern, errdef.ErrNotFound), "strata tags ls --remote "+ref.FamiliarName())
	}
	return all, nil
}

// splitPattern takes a tag with one of * ? [ in it off a name.
func splitPattern(name string) (repository, pattern string) {
	i := strings.LastIndexByte(name, ':')
	if i < 0 || !strings.ContainsAny(name[i:], "*?[") || strings.Contains(name[i:], "/") {
		return name, ""
	}
	return name[:i], name[i+1:]
}

// isReferrersTag reports whether a tag is the one under which clients keep a list of referrers: that is made anew where it
// is needed.
func isReferrersTag(tag string) bool {
	hex, ok := strings.CutPrefix(tag, "sha256-")
	return ok && len(hex) == 64 && oci.IsHex(hex)
}
