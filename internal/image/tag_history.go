package image

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"strata/internal/errdef"
	"strata/internal/reference"
)

// causeUndo is the cause of an event that takes a tag back.
const causeUndo = "undo"

// TagNamed is the tag of a name.
func (s *Store) TagNamed(name string) (Tag, error) {
	full, err := fullName(name)
	if err != nil {
		return Tag{}, err
	}
	t, err := s.Tags.Get(key(full))
	if errors.Is(err, errdef.ErrNotFound) {
		err = fmt.Errorf("tag %q: %w", reference.Familiarize(full), errdef.ErrNotFound)
	}
	return t, err
}

// TagsIn lists the tags of a repository, sorted by name.
func (s *Store) TagsIn(repository reference.Ref) ([]Tag, error) {
	all, err := s.Tags.All()
	if err != nil {
		return nil, err
	}
	var tags []Tag
	for _, t := range all {
		if ref, err := reference.Parse(t.Name); err == nil && ref.Name() == repository.Name() {
			tags = append(tags, t)
		}
	}
	slices.SortFunc(tags, func(a, b Tag) int { return strings.Compare(a.Name, b.Name) })
	return tags, nil
}

// Undo points a tag to what it pointed to before its last move, which comes back; undone again, to what it was before
// that. errdef.ErrConflict where nothing is known from before, errdef.ErrNotFound where that image is no longer here.
func (s *Store) Undo(ctx context.Context, name string) (Tag, error) {
	t, err := s.TagNamed(name)
	if err != nil {
		return t, err
	}
	before, ok := t.Before()
	if !ok {
		return t, fmt.Errorf("tag %q: it has not pointed to anything else before: %w", reference.Familiarize(t.Name), errdef.ErrConflict)
	}
	if before.Index != "" {
		if _, err := s.pinIndex(ctx, before.Index); err != nil {
			before.Index = "" // images for other platforms have gone; the one for this machine may be here
		}
	}
	if _, err := s.TagIndex(ctx, t.Name, before.Image, before.Index, causeUndo); err != nil {
		return t, fmt.Errorf("tag %q: before, it pointed to another image: %w", reference.Familiarize(t.Name), err)
	}
	return s.TagNamed(t.Name)
}

// Before is the event to which an undo leads.
func (t Tag) Before() (TagEvent, bool) {
	var stack []TagEvent
	for _, e := range t.History {
		if n := len(stack); e.Cause == causeUndo && n > 1 && stack[n-2].Image == e.Image {
			stack = stack[:n-1]
			continue
		}
		stack = append(stack, e)
	}
	if len(stack) < 2 {
		return TagEvent{}, false
	}
	return stack[len(stack)-2], true
}
