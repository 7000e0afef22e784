package build

import (
	"fmt"
	"path"
	"strings"

	"github.com/moby/patternmatcher"

	"strata/internal/errdef"
)

// filter lets through what --parents includes and --exclude does not leave out, by the rules of .dockerignore, relative to
// the source.
type filter struct {
	include, exclude *patternmatcher.PatternMatcher
	required         string // a path that must be among what is taken
}

// newFilter is nil where everything is taken.
func newFilter(source *Source, exclude []string) (f *filter, err error) {
	if !source.Parents && len(exclude) == 0 {
		return nil, nil
	}
	f = &filter{}
	if len(exclude) > 0 {
		if f.exclude, err = patternmatcher.New(exclude); err != nil {
			return nil, fmt.Errorf("--exclude: %w: %w", err, errdef.ErrInvalid)
		}
	}
	if !source.Parents {
		return f, nil
	}
	if f.include, err = patternmatcher.New([]string{source.Include}); err != nil {
		return nil, fmt.Errorf("--parents %q: %w: %w", source.Include, err, errdef.ErrInvalid)
	}
	if !isPattern(source.Path) && !isPattern(source.Include) {
		f.required = path.Join("/", source.Path, source.Include)
	}
	return f, nil
}

// passage is a directory on the way to what is looked at.
type passage struct {
	rel              string
	include, exclude patternmatcher.MatchInfo
	item             item
	taken            bool // it is in the list
	closed           bool // nothing below it can be taken
}

// apply leaves of s what the filter lets through. The directories on the way to something that is taken come with it.
func (f *filter) apply(s *selection) error {
	if f == nil {
		return nil
	}
	var taken []item
	var way []*passage
	any := false
	for _, i := range s.all {
		rel := s.relative(&i)
		for len(way) > 0 && !strings.HasPrefix(rel, way[len(way)-1].rel+"/") {
			way = way[:len(way)-1]
		}
		in := &passage{}
		if len(way) > 0 {
			in = way[len(way)-1]
		}
		if in.closed {
			continue
		}
		here := &passage{rel: rel, item: i}
		include, err := f.judge(in, here)
		if err != nil {
			return err
		}
		if include {
			for _, p := range way {
				if !p.taken {
					p.item.implied = true
					taken = append(taken, p.item)
					p.taken = true
				}
			}
			taken = append(taken, i)
			here.taken, any = true, true
		}
		if i.isDir() {
			way = append(way, here)
		}
	}
	if f.required != "" && !any {
		return fmt.Errorf("%q: %w", f.required, errdef.ErrNotFound)
	}
	s.all = taken
	return nil
}

// judge tells whether what stands at here, in the directory in, is taken.
func (f *filter) judge(in, here *passage) (include bool, err error) {
	include = true
	if f.include != nil {
		if include, here.include, err = f.include.MatchesUsingParentResults(here.rel, in.include); err != nil {
			return false, fmt.Errorf("--parents: %w: %w", err, errdef.ErrInvalid)
		}
	}
	if f.exclude == nil {
		return include, nil
	}
	out, info, err := f.exclude.MatchesUsingParentResults(here.rel, in.exclude)
	if err != nil {
		return false, fmt.Errorf("--exclude: %w: %w", err, errdef.ErrInvalid)
	}
	here.exclude = info
	here.closed = out && !f.exclude.Exclusions()
	return include && !out, nil
}
