package image

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"strata/internal/errdef"
	"strata/internal/reference"
)

// Filter is what `images --filter` and `image prune --filter` select. The zero Filter selects everything. Different keys
// must all match; of several reference patterns one.
type Filter struct {
	tests      []func(Image) bool
	references []string
}

// ParseFilter reads filters of the form key=value. Keys: dangling, label, label!, before, since, reference, until.
// before and since name images; until is a time, a date, or how long ago ("24h").
func (s *Store) ParseFilter(ctx context.Context, exprs []string) (*Filter, error) {
	f := &Filter{}
	for _, expr := range exprs {
		name, value, ok := strings.Cut(expr, "=")
		if negated, yes := strings.CutSuffix(name, "!"); yes && negated == "label" {
			name = "label!"
		}
		if !ok {
			return nil, fmt.Errorf("filter %.100q: want key=value: %w", expr, errdef.ErrInvalid)
		}
		if err := s.addFilter(ctx, f, strings.TrimSpace(name), strings.TrimSpace(value)); err != nil {
			return nil, fmt.Errorf("filter %.100q: %w", expr, err)
		}
	}
	return f, nil
}

func (s *Store) addFilter(ctx context.Context, f *Filter, name, value string) error {
	add := func(test func(Image) bool) { f.tests = append(f.tests, test) }
	switch name {
	case "dangling":
		want, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("want true or false: %w", errdef.ErrInvalid)
		}
		add(func(i Image) bool { return (len(i.Tags) == 0) == want })
	case "label":
		add(func(i Image) bool { return hasLabel(i, value) })
	case "label!":
		add(func(i Image) bool { return !hasLabel(i, value) })
	case "before", "since":
		other, err := s.Resolve(ctx, value)
		if err != nil {
			return err
		}
		if name == "before" {
			add(func(i Image) bool { return i.Created.Before(other.Created) })
		} else {
			add(func(i Image) bool { return i.Created.After(other.Created) })
		}
	case "until":
		limit, err := ParseTime(value, s.now())
		if err != nil {
			return err
		}
		add(func(i Image) bool { return i.Created.Before(limit) })
	case "reference":
		if _, err := path.Match(value, ""); err != nil {
			return fmt.Errorf("bad pattern: %w", errdef.ErrInvalid)
		}
		f.references = append(f.references, value)
	default:
		return fmt.Errorf("unknown key; there are dangling, label, label!, before, since, reference, until: %w", errdef.ErrInvalid)
	}
	return nil
}

// hasLabel takes "key" or "key=value".
func hasLabel(i Image, want string) bool {
	name, value, exact := strings.Cut(want, "=")
	got, ok := i.Config.Config.Labels[name]
	return ok && (!exact || got == value)
}

// ParseTime reads docker's forms of a moment: a duration before now, seconds since 1970, RFC 3339 or parts of it in
// local time.
func ParseTime(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	if sec, err := strconv.ParseFloat(s, 64); err == nil {
		return time.UnixMilli(int64(sec * 1000)), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02T15", "2006-01-02Z07:00", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("want a time, a date or a duration like 24h: %w", errdef.ErrInvalid)
}

// Match reports whether the filter selects img, whose Tags are filled.
func (f *Filter) Match(img Image) bool {
	for _, test := range f.tests {
		if !test(img) {
			return false
		}
	}
	return len(f.references) == 0 || len(f.matching(img.Tags)) > 0
}

// Apply gives the images that the filter selects; with a reference filter each has only the tags that match.
func (f *Filter) Apply(images []Image) []Image {
	var selected []Image
	for _, img := range images {
		if !f.Match(img) {
			continue
		}
		if len(f.references) > 0 {
			img.Tags = f.matching(img.Tags)
		}
		selected = append(selected, img)
	}
	return selected
}

func (f *Filter) matching(tags []string) []string {
	var matching []string
	for _, tag := range tags {
		if slices.ContainsFunc(f.references, func(pattern string) bool { return matchName(pattern, tag) }) {
			matching = append(matching, tag)
		}
	}
	return matching
}

// matchName compares a pattern with the familiar name, with and without its tag, and with the full name.
func matchName(pattern, full string) bool {
	ref, err := reference.Parse(full)
	if err != nil {
		return false
	}
	for _, form := range []string{ref.Familiar(), ref.FamiliarName(), ref.String(), ref.Name()} {
		if ok, _ := path.Match(pattern, form); ok {
			return true
		}
	}
	return false
}
