package image

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"strata/internal/errdef"
	"strata/internal/reference"
)

// RemoveOptions say how [Store.Remove] treats what stands in its way.
type RemoveOptions struct {
	// Force removes an image that has several tags or that a stopped container uses.
	Force bool
	// NoPrune keeps untagged parents.
	NoPrune bool
	// Untagged removes the image only if it has no tag by then, and nobody is busy with it.
	Untagged bool
	// Busy reports whether some process is just making the image: it may be about to tag it. Nil: nobody is.
	Busy func(id digest.Digest) (bool, error)
	// UsedBy lists the containers made from an image. Nil: there are none.
	UsedBy func(id digest.Digest) ([]Use, error)
}

// Use is one container's use of an image.
type Use struct {
	// Container is its id.
	Container string
	Running   bool
}

// Deleted is one thing that a removal did, in docker's JSON form: a name that was taken away or an image that is gone.
type Deleted struct {
	Untagged string `json:",omitempty"`
	Deleted  string `json:",omitempty"`
}

// Remove takes away a tag, or an image, by docker's rules. By name: the name goes, and with its last name the image. By
// id: the image goes with its name, but one in several repositories only with Force. An image that a container uses is
// kept: errdef.ErrConflict; Force overrides a stopped container, never a running one. What was done before an error is
// returned beside it. Layers and blobs are left to the sweep.
func (s *Store) Remove(ctx context.Context, nameOrID string, o RemoveOptions) ([]Deleted, error) {
	id, how, err := s.find(nameOrID)
	if err != nil {
		return nil, err
	}
	r := &removal{s: s, o: o}
	err = s.Images.Locked(ctx, id.Encoded(), func() error {
		if err := r.load(id); err != nil {
			return err
		}
		if o.Untagged {
			if err := r.idle(); err != nil {
				return err
			}
		}
		if how == byID {
			return r.byID(ctx)
		}
		return r.byName(ctx, nameOrID, how)
	})
	if err != nil {
		return r.done, err
	}
	if r.deleted && !o.NoPrune && r.rec.Parent != "" {
		err = s.pruneParent(ctx, r)
	}
	return r.done, err
}

// idle sees, under the lock of the record, that the image has no tag and is not about to get one: who makes an image holds
// its name before its record is there.
func (r *removal) idle() error {
	if len(r.tags) > 0 {
		return fmt.Errorf("image %s was tagged meanwhile: %w", short(r.rec.ID), errdef.ErrConflict)
	}
	if r.o.Busy == nil {
		return nil
	}
	busy, err := r.o.Busy(r.rec.ID)
	if err == nil && busy {
		err = fmt.Errorf("image %s is just being made: %w", short(r.rec.ID), errdef.ErrConflict)
	}
	return err
}

// removal is one image being removed, under the lock of its record.
type removal struct {
	s       *Store
	o       RemoveOptions
	rec     Record
	tags    []string
	uses    []Use
	done    []Deleted
	deleted bool
}

func (r *removal) load(id digest.Digest) (err error) {
	r.rec, err = r.s.Images.Get(id.Encoded())
	switch {
	case errors.Is(err, errdef.ErrNotFound):
		// A tag may be left without its image; taking it away must be possible.
		r.rec = Record{ID: id}
	case errors.Is(err, errdef.ErrCorrupt) && r.o.Force:
		r.rec = Record{ID: id}
	case err != nil:
		return err
	}
	if r.tags, err = r.s.TagsOf(id); err != nil {
		return err
	}
	if r.o.UsedBy != nil {
		r.uses, err = r.o.UsedBy(id)
	}
	return err
}

// names are all names of the image, docker's "references": tags and names with digest.
func (r *removal) names() []string { return append(slices.Clone(r.tags), r.rec.RepoDigests...) }

// single reports whether the image has one name, or one tag and a digest of the same repository.
func (r *removal) single() bool {
	if len(r.names()) <= 1 {
		return true
	}
	if len(r.tags) > 1 {
		return false
	}
	repositories := map[string]bool{}
	for _, name := range r.names() {
		repositories[repository(name)] = true
	}
	return len(repositories) == 1
}

func (r *removal) byName(ctx context.Context, name string, how match) error {
	if !r.o.Force && r.single() && len(r.uses) > 0 {
		return fmt.Errorf("conflict: unable to remove repository reference %q (must force) - container %s is using its referenced image %s: %w",
			name, shortText(r.uses[0].Container), short(r.rec.ID), errdef.ErrConflict)
	}
	ref, err := reference.Parse(name)
	if err != nil {
		return err
	}
	if how == byDigest {
		err = r.untagDigest(ctx, ref)
	} else {
		err = r.untag(ctx, ref.Latest().String())
	}
	if err != nil {
		return err
	}
	if how == byTag && !slices.ContainsFunc(r.tags, func(t string) bool { return repository(t) == ref.Name() }) {
		// The repository's last tag went: names by digest go with it.
		if err := r.dropDigests(func(d string) bool { return repository(d) == ref.Name() }); err != nil {
			return err
		}
	}
	if len(r.names()) > 0 || slices.ContainsFunc(r.uses, func(u Use) bool { return u.Running }) {
		return nil // what a running container was made of stays, without a name
	}
	return r.delete(ctx)
}

func (r *removal) byID(ctx context.Context) error {
	if !r.single() && !r.o.Force {
		return r.conflict(false, "image is referenced in multiple repositories")
	}
	return r.delete(ctx)
}

// delete removes the record and all names that are left, unless a container uses the image.
func (r *removal) delete(ctx context.Context) error {
	if err := r.checkUse(); err != nil {
		return err
	}
	for _, tag := range slices.Clone(r.tags) {
		if err := r.untag(ctx, tag); err != nil {
			return err
		}
	}
	for _, d := range r.rec.RepoDigests {
		r.done = append(r.done, Deleted{Untagged: reference.Familiarize(d)})
	}
	err := r.s.Images.Delete(r.rec.ID.Encoded())
	if errors.Is(err, errdef.ErrNotFound) {
		return nil
	}
	if err == nil {
		r.done = append(r.done, Deleted{Deleted: string(r.rec.ID)})
		r.deleted = true
	}
	return err
}

func (r *removal) checkUse() error {
	for _, u := range r.uses {
		if u.Running {
			return r.conflict(true, "image is being used by running container "+shortText(u.Container))
		}
	}
	if len(r.uses) > 0 && !r.o.Force {
		return r.conflict(false, "image is being used by stopped container "+shortText(r.uses[0].Container))
	}
	return nil
}

func (r *removal) conflict(hard bool, why string) error {
	force := "must be forced"
	if hard {
		force = "cannot be forced"
	}
	return fmt.Errorf("conflict: unable to delete %s (%s) - %s: %w", short(r.rec.ID), force, why, errdef.ErrConflict)
}

// untag removes the tag if it still points to the image.
func (r *removal) untag(ctx context.Context, full string) error {
	err := r.s.Tags.Locked(ctx, key(full), func() error {
		t, err := r.s.Tags.Get(key(full))
		if err != nil {
			return err
		}
		if t.Image != r.rec.ID {
			return fmt.Errorf("tag %q was moved meanwhile: %w", reference.Familiarize(full), errdef.ErrConflict)
		}
		return r.s.Tags.Delete(key(full))
	})
	if err != nil && !errors.Is(err, errdef.ErrNotFound) {
		return err
	}
	r.tags = slices.DeleteFunc(r.tags, func(t string) bool { return t == full })
	if err == nil {
		r.done = append(r.done, Deleted{Untagged: reference.Familiarize(full)})
	}
	return nil
}

// untagDigest takes away a name with digest; for an image that no registry has, which is found by the digest of its
// manifest, the tags of the repository.
func (r *removal) untagDigest(ctx context.Context, ref reference.Ref) error {
	full := ref.WithDigest(ref.Digest).String()
	if slices.Contains(r.rec.RepoDigests, full) {
		return r.dropDigests(func(d string) bool { return d == full })
	}
	for _, tag := range slices.Clone(r.tags) {
		if repository(tag) != ref.Name() {
			continue
		}
		if err := r.untag(ctx, tag); err != nil {
			return err
		}
	}
	return nil
}

// dropDigests takes names with digest off the record.
func (r *removal) dropDigests(drop func(string) bool) error {
	kept := r.rec.RepoDigests[:0:0]
	for _, d := range r.rec.RepoDigests {
		if drop(d) {
			r.done = append(r.done, Deleted{Untagged: reference.Familiarize(d)})
			continue
		}
		kept = append(kept, d)
	}
	if len(kept) == len(r.rec.RepoDigests) {
		return nil
	}
	r.rec.RepoDigests = kept
	return r.s.Images.Put(r.rec.ID.Encoded(), r.rec)
}

// pruneParent removes the parent of a deleted image if nobody has a name for it, and its parent, and so on.
func (s *Store) pruneParent(ctx context.Context, child *removal) error {
	for child.deleted && child.rec.Parent != "" {
		parent := &removal{s: s, o: child.o}
		id := child.rec.Parent
		err := s.Images.Locked(ctx, id.Encoded(), func() error {
			if _, err := s.Images.Get(id.Encoded()); err != nil {
				return err
			}
			if err := parent.load(id); err != nil {
				return err
			}
			children, err := s.hasChildren(id)
			if err != nil || children || len(parent.names()) > 0 || len(parent.uses) > 0 {
				return err
			}
			if err := parent.idle(); err != nil {
				return nil //nolint:nilerr // it is somebody's: it stays
			}
			return parent.delete(ctx)
		})
		child.done, child.deleted = append(child.done, parent.done...), parent.deleted
		child.rec.Parent = parent.rec.Parent
		if errors.Is(err, errdef.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) hasChildren(id digest.Digest) (bool, error) {
	records, err := s.Images.All()
	if err != nil {
		return false, err
	}
	for _, rec := range records {
		if rec.Parent == id {
			return true, nil
		}
	}
	return false, nil
}

func shortText(id string) string { return id[:min(12, len(id))] }
