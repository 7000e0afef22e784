package engine

import (
	"fmt"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// Builds that export their caches into one new directory at the same time, each under a tag of its own, lose none.
func TestLayoutCacheAtOnce(t *testing.T) {
	dir := t.TempDir() + "/cache"
	const many = 16
	var group errgroup.Group
	for i := range many {
		group.Go(func() error {
			l, err := openLayout(t.Context(), dir, fmt.Sprintf("t%d", i))
			if err != nil {
				return err
			}
			return l.publish(t.Context(), fmt.Appendf(nil, `{"schemaVersion":2,"annotations":{"n":"%d"}}`, i))
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	index, err := readLayoutIndex(dir)
	if err != nil {
		t.Fatal(err)
	}
	tags := map[string]bool{}
	for _, d := range index.Manifests {
		tags[d.Annotations[ocispec.AnnotationRefName]] = true
	}
	if len(tags) != many {
		t.Errorf("%d of %d caches are listed", len(tags), many)
	}
}
