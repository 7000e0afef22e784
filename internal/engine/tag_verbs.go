package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"strata/internal/errdef"
	"strata/internal/image"
	"strata/internal/oci"
	"strata/internal/reference"
	"strata/internal/remote"
)

// askAtOnce is how many tags a registry is asked about at the same time.
const askAtOnce = 8

// TagsIn lists the tags that a repository has here, sorted by version, the highest first.
func (e *Engine) TagsIn(name string) ([]image.Tag, error) {
	ref, err := repository(name)
	if err != nil {
		return nil, err
	}
	tags, err := e.images.TagsIn(ref)
	if err == nil && len(tags) == 0 {
		err = errdef.WithHint(fmt.Errorf("repository %q has no tag here: %w", ref.FamiliarName(), errdef.ErrNotFound), "what its registry has: strata tags ls --remote "+ref.FamiliarName())
	}
	slices.SortStableFunc(tags, func(a, b image.Tag) int { return compareTags(TagOf(a.Name), TagOf(b.Name)) })
	return tags, err
}

// repository is a name without tag and digest.
func repository(name string) (reference.Ref, error) {
	ref, err := reference.Parse(name)
	if err == nil && (ref.Tag != "" || ref.Digest != "") {
		err = fmt.Errorf("name %q: want a repository, without a tag: %w", name, errdef.ErrInvalid)
	}
	return ref, err
}

// TagOf is the tag in a full name.
func TagOf(name string) string { return name[strings.LastIndexByte(name, ':')+1:] }

// RemoteTag is a tag that a registry has. Digest is of what it stands for, if that was asked for.
type RemoteTag struct {
	Tag    string
	Digest digest.Digest
}

// RemoteTags lists the tags of a repository in its registry, sorted by version, the highest first. No store is needed.
func RemoteTags(ctx context.Context, c *remote.Client, name string, digests bool) ([]RemoteTag, error) {
	ref, err := repository(name)
	if err != nil {
		return nil, err
	}
	tags, err := c.Tags(ctx, ref, 0)
	if err != nil {
		return nil, err
	}
	all := make([]RemoteTag, len(tags))
	for i, tag := range sortTags(tags) {
		all[i].Tag = tag
	}
	if !digests {
		return all, nil
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(askAtOnce)
	for i := range all {
		group.Go(func() error {
			tagged, err := ref.WithTag(all[i].Tag)
			if err != nil {
				return err
			}
			desc, err := c.Head(ctx, tagged)
			all[i].Digest = desc.Digest
			if errors.Is(err, errdef.ErrUnsupported) {
				return nil // something of old: it is listed all the same
			}
			return err
		})
	}
	return all, group.Wait()
}

// UndoTag points a tag to what it pointed to before.
func (e *Engine) UndoTag(ctx context.Context, name string) (image.Tag, error) {
	t, err := e.images.Undo(ctx, name)
	if err == nil {
		e.emitImage("tag", t.Image.String(), reference.Familiarize(t.Name), nil)
	}
	return t, err
}

// RemoveTag takes a name away here. The image stays.
func (e *Engine) RemoveTag(ctx context.Context, name string) error {
	if _, err := tagged(name); err != nil {
		return err
	}
	id, err := e.images.Untag(ctx, name)
	if err == nil {
		err = e.settle()
	}
	if err == nil {
		e.emitImage("untag", id.String(), name, nil)
	}
	return err
}

// tagged is a name with a tag, which has to be said: who forgets it does not mean latest.
func tagged(name string) (reference.Ref, error) {
	ref, err := reference.Parse(name)
	if err == nil && (ref.Tag == "" || ref.Digest != "") {
		err = fmt.Errorf("name %q: it is not said which tag: NAME:TAG: %w", name, errdef.ErrInvalid)
	}
	return ref, err
}

// RemoveRemoteTag takes a tag away in its registry. Many registries remove a manifest with all its tags only: that is done
// where no other tag has it, alone or in an index, or with force. No store is needed.
func RemoveRemoteTag(ctx context.Context, c *remote.Client, name string, force bool) error {
	ref, err := tagged(name)
	if err != nil {
		return err
	}
	refused := c.Remove(ctx, ref)
	if !errors.Is(refused, errdef.ErrUnsupported) && !errors.Is(refused, errdef.ErrInvalid) {
		return refused
	}
	desc, err := c.Head(ctx, ref)
	if err != nil {
		return err
	}
	others, err := tagsWith(ctx, c, ref, desc.Digest)
	if err != nil {
		return err
	}
	if len(others) > 0 && !force {
		err := fmt.Errorf("tag %s: its registry removes no single tag, and these have the same image: %s: %w", ref.Familiar(), strings.Join(others, ", "), errdef.ErrConflict)
		return errdef.WithHint(err, "to remove the image from all of them: strata tags rm --remote --force "+ref.Familiar())
	}
	err = c.Remove(ctx, ref.WithDigest(desc.Digest))
	if errors.Is(err, errdef.ErrUnsupported) {
		err = errdef.WithHint(err, "docker's registry removes nothing unless it runs with REGISTRY_STORAGE_DELETE_ENABLED=true")
	}
	return err
}

// tagsWith lists the other tags of ref's repository that stand for the manifest d, or for an index that has it.
func tagsWith(ctx context.Context, c *remote.Client, ref reference.Ref, d digest.Digest) ([]string, error) {
	all, err := c.Tags(ctx, ref.Repository(), 0)
	if err != nil {
		return nil, err
	}
	has := make([]bool, len(all))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(askAtOnce)
	for i, tag := range all {
		if tag == ref.Tag || isReferrersTag(tag) {
			continue
		}
		group.Go(func() error {
			tagged, err := ref.WithTag(tag)
			if err != nil {
				return err
			}
			doc, err := c.Any(ctx, tagged)
			if err != nil {
				return err
			}
			links, err := oci.ParseLinks(doc.Raw)
			has[i] = doc.Descriptor.Digest == d || slices.ContainsFunc(links.Manifests, func(m ocispec.Descriptor) bool { return m.Digest == d })
			return err
		})
	}
	err = group.Wait()
	var tags []string
	for i, tag := range all {
		if has[i] {
			tags = append(tags, tag)
		}
	}
	return sortTags(tags), err
}
