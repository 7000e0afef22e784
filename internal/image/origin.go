package image

import (
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"strata/internal/reference"
)

// Origin is a name that an image has or had here, and how it came by it.
type Origin struct {
	// Name in full, with the tag; without one where only the registry's digest is known.
	Name string
	// Digest that the registry of the name knows the image by; "" if none does.
	Digest digest.Digest
	// Cause is the verb that gave the name, Time when; empty where only the registry's digest is known.
	Cause string
	Time  time.Time
	// Official: Docker itself gives out the image under the name, or checks it. A name that was only given here is none.
	Official bool
}

// Origins lists what an image was called, here and in registries, the oldest name first.
func (s *Store) Origins(img Image) ([]Origin, error) {
	all, err := s.Tags.All()
	if err != nil {
		return nil, err
	}
	known := map[string]digest.Digest{} // by repository
	for _, name := range img.RepoDigests {
		if ref, err := reference.Parse(name); err == nil {
			known[ref.Name()] = ref.Digest
		}
	}
	var origins []Origin
	named := map[string]bool{}
	for _, t := range all {
		i := slices.IndexFunc(t.History, func(e TagEvent) bool { return e.Image == img.ID })
		ref, err := reference.Parse(t.Name)
		if i < 0 || err != nil {
			continue
		}
		named[ref.Name()] = true
		d := known[ref.Name()]
		origins = append(origins, Origin{t.Name, d, t.History[i].Cause, t.History[i].Time, d != "" && ref.Official()})
	}
	slices.SortFunc(origins, func(a, b Origin) int {
		if c := a.Time.Compare(b.Time); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	for _, name := range img.RepoDigests {
		if ref, err := reference.Parse(name); err == nil && !named[ref.Name()] {
			origins = append(origins, Origin{Name: ref.Name(), Digest: ref.Digest, Official: ref.Official()})
		}
	}
	return origins, nil
}
