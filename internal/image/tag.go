package image

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"strata/internal/errdef"
	"strata/internal/reference"
)

// maxHistory bounds a tag's history: the oldest events fall off.
const maxHistory = 50

// maxKey is the longest escaped name that is its own record key; a longer one is kept under its digest.
const maxKey = 200

// Tag is a name that points to an image.
type Tag struct {
	// Name in full: "docker.io/library/x:latest".
	Name string `json:"name"`
	// Image is the id that it points to.
	Image digest.Digest `json:"image"`
	// Index is what the name stands for when it is for several platforms; Image is one of its members then.
	Index digest.Digest `json:"index,omitempty"`
	// History of the tag, oldest first; the last event is the present state.
	History []TagEvent `json:"history,omitempty"`
}

// TagEvent is one move of a tag.
type TagEvent struct {
	Image digest.Digest `json:"image"`
	// Index that the name stood for, if it did.
	Index digest.Digest `json:"index,omitempty"`
	Time  time.Time     `json:"time"`
	// Cause is the verb: "build", "pull", "load", "tag", "commit", "import", "copy", "undo".
	Cause string `json:"cause,omitempty"`
}

// key is the record key of a full name.
func key(name string) string {
	if len(url.PathEscape(name)) <= maxKey {
		return name
	}
	return "long-" + digest.FromString(name).Encoded()
}

// IsKey reports whether the tag of that full name is kept under key.
func (s *Store) IsKey(name, want string) bool { return name != "" && key(name) == want }

// fullName is the full form of a name that is to be a tag: with ":latest" unless it says otherwise, without digest.
func fullName(name string) (string, error) {
	ref, err := reference.Parse(name)
	if err != nil {
		return "", err
	}
	if ref.Digest != "" {
		return "", fmt.Errorf("tag %.300q: a tag cannot have a digest: %w", name, errdef.ErrInvalid)
	}
	if ref.FamiliarName() == digest.SHA256.String() { // sha256:abc would be an id wherever it is typed
		return "", fmt.Errorf("tag %.300q: refusing to create an ambiguous tag using digest algorithm as name: %w", name, errdef.ErrInvalid)
	}
	return ref.Latest().String(), nil
}

// Tag points name to the image id, which must exist, and returns the id that it pointed to before, if any.
func (s *Store) Tag(ctx context.Context, name string, id digest.Digest, cause string) (digest.Digest, error) {
	return s.TagIndex(ctx, name, id, "", cause)
}

// TagIndex is Tag for an image for several platforms: id is the member that stands for it on this machine. The empty index
// is none.
func (s *Store) TagIndex(ctx context.Context, name string, id, index digest.Digest, cause string) (digest.Digest, error) {
	full, err := fullName(name)
	if err != nil {
		return "", err
	}
	if err := s.hold(ctx, ImageName(id)); err != nil {
		return "", err
	}
	var old digest.Digest
	err = s.Images.Locked(ctx, id.Encoded(), func() error {
		rec, err := s.Images.Get(id.Encoded())
		if errors.Is(err, errdef.ErrNotFound) {
			return fmt.Errorf("image %s: %w", short(id), errdef.ErrNotFound)
		}
		if err != nil {
			return err
		}
		event := TagEvent{Image: id, Index: index, Time: s.now(), Cause: cause}
		if old, err = s.move(ctx, full, event); err != nil {
			return err
		}
		rec.LastTagged = event.Time
		return s.Images.Put(id.Encoded(), rec)
	})
	return old, err
}

// move writes the tag's new state.
func (s *Store) move(ctx context.Context, full string, event TagEvent) (old digest.Digest, err error) {
	err = s.Tags.Update(ctx, key(full), func(t *Tag, _ bool) error {
		old = t.Image
		t.Name, t.Image, t.Index = full, event.Image, event.Index
		if n := len(t.History); n == 0 || t.History[n-1].Image != event.Image || t.History[n-1].Index != event.Index {
			t.History = append(t.History, event)
		}
		t.History = t.History[max(0, len(t.History)-maxHistory):]
		return nil
	})
	return old, err
}

// Untag removes the name and returns the id that it pointed to. The image stays.
func (s *Store) Untag(ctx context.Context, name string) (digest.Digest, error) {
	full, err := fullName(name)
	if err != nil {
		return "", err
	}
	var id digest.Digest
	err = s.Tags.Locked(ctx, key(full), func() error {
		t, err := s.Tags.Get(key(full))
		if errors.Is(err, errdef.ErrNotFound) {
			return fmt.Errorf("tag %q: %w", reference.Familiarize(full), errdef.ErrNotFound)
		}
		if err != nil {
			return err
		}
		id = t.Image
		return s.Tags.Delete(key(full))
	})
	return id, err
}

// TagsOf lists the full names that point to id, sorted.
func (s *Store) TagsOf(id digest.Digest) ([]string, error) {
	all, err := s.Tags.All()
	return namesByImage(all)[id], err
}

// namesByImage sorts the names of tags by what they point to.
func namesByImage(all map[string]Tag) map[digest.Digest][]string {
	byImage := map[digest.Digest][]string{}
	for _, t := range all {
		byImage[t.Image] = append(byImage[t.Image], t.Name)
	}
	for _, names := range byImage {
		slices.Sort(names)
	}
	return byImage
}
