package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"strata/internal/errdef"
	"strata/internal/remote"
)

// SearchOptions bound what a search gives. The zero value bounds nothing but the number.
type SearchOptions struct {
	// Limit is how many are asked for, 1 to 100; 0 is 25.
	Limit int
	// Official and Automated, if not nil, must be as they say; Stars is the least number.
	Official, Automated *bool
	Stars               int
}

// Searcher asks a registry for repositories by a word; *remote.Client is one.
type Searcher interface {
	Search(ctx context.Context, registry, term string, limit int) ([]remote.Found, error)
}

// Search finds repositories by a word, those with most stars first. A registry may stand before the word: quay.io/word. No
// store is needed.
func Search(ctx context.Context, in Searcher, term string, o SearchOptions) ([]remote.Found, error) {
	switch {
	case o.Limit == 0:
		o.Limit = 25
	case o.Limit < 1 || o.Limit > 100:
		return nil, fmt.Errorf("limit %d is outside the range of [1, 100]: %w", o.Limit, errdef.ErrInvalid)
	}
	registry, word := searchTerm(term)
	if strings.Contains(word, "://") || strings.Contains(registry, "://") {
		return nil, fmt.Errorf("search %q: a word or REGISTRY/word, without ://: %w", term, errdef.ErrInvalid)
	}
	found, err := in.Search(ctx, registry, word, o.Limit)
	if err != nil {
		return nil, err
	}
	found = slices.DeleteFunc(found, func(f remote.Found) bool {
		return f.Stars < o.Stars || o.Official != nil && f.Official != *o.Official || o.Automated != nil && f.Automated != *o.Automated
	})
	slices.SortStableFunc(found, func(a, b remote.Found) int { return cmp.Compare(b.Stars, a.Stars) })
	return found[:min(len(found), o.Limit)], nil
}

// searchTerm splits the registry off: what has a dot, a colon, or is localhost.
func searchTerm(term string) (registry, word string) {
	first, rest, ok := strings.Cut(term, "/")
	if !ok || !strings.ContainsAny(first, ".:") && first != "localhost" {
		return "docker.io", term
	}
	if first == "index.docker.io" {
		first = "docker.io"
	}
	return first, rest
}
