package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sort"

	"github.com/opencontainers/go-digest"

	"strata/internal/errdef"
	"strata/internal/graph"
	"strata/internal/image"
	"strata/internal/oci"
	"strata/internal/record"
)

// sorted gives keys in order: a report reads the same twice.
func sorted(keys []string, err error) ([]string, error) {
	sort.Strings(keys)
	return keys, err
}

func checkImages(ctx context.Context, c *checker) error {
	keys, err := sorted(c.images.Images.Keys())
	if err != nil {
		return err
	}
	for _, key := range keys {
		c.report.Images++
		id := digest.Digest("sha256:" + key)
		object := "image " + id.String() + c.named(id)
		still := func() bool { _, err := c.images.Images.Get(key); return !errors.Is(err, errdef.ErrNotFound) }
		if _, err := c.images.Images.Get(key); err != nil {
			if still() {
				c.report.fault(object, err, func(ctx context.Context) (string, error) { return c.mendRecord(ctx, id) })
			}
			continue
		}
		img, err := c.images.Get(ctx, id)
		if err != nil {
			if still() {
				c.report.fault(object, err, func(ctx context.Context) (string, error) { return c.mendDocuments(ctx, id) })
			}
			continue
		}
		c.checkStack(object, img, still)
	}
	return ctx.Err()
}

func checkTags(ctx context.Context, c *checker) error {
	keys, err := sorted(c.images.Tags.Keys())
	if err != nil {
		return err
	}
	for _, key := range keys {
		c.report.Tags++
		object := "tag " + key
		tag, err := c.images.Tags.Get(key)
		if err == nil {
			_, err = c.images.Images.Get(tag.Image.Encoded())
		}
		if err == nil && tag.Index != "" {
			err = c.checkIndex(object, key, tag.Index)
		}
		if err == nil || errors.Is(err, errdef.ErrCorrupt) && c.knownBroken(tag.Image) {
			continue
		}
		if now, gone := c.images.Tags.Get(key); errors.Is(gone, errdef.ErrNotFound) || gone == nil && now.Image != tag.Image {
			continue // removed or moved meanwhile
		}
		c.report.fault(object, err, func(ctx context.Context) (string, error) { return c.mendTag(ctx, key) })
	}
	return ctx.Err()
}

// knownBroken reports whether the image's own record was found damaged: then its tags are as good as it will be.
func (c *checker) knownBroken(id digest.Digest) bool {
	if id == "" {
		return false
	}
	_, err := c.images.Images.Get(id.Encoded())
	return errors.Is(err, errdef.ErrCorrupt)
}

// checkIndex sees that an index, its members and their layers are there.
func (c *checker) checkIndex(object, key string, d digest.Digest) error {
	x, err := c.images.Index(d)
	still := func() bool { t, err := c.images.Tags.Get(key); return err == nil && t.Index == d }
	for _, m := range x.Members {
		c.checkStack(object+", "+oci.Format(m.Platform()), m, still)
	}
	return err
}

func checkContainers(ctx context.Context, c *checker) error {
	s, err := c.Containers()
	if err != nil {
		return err
	}
	keys, err := sorted(s.Records().Keys())
	if err != nil {
		return err
	}
	for _, key := range keys {
		c.report.Containers++
		rec, err := s.Records().Get(key)
		if errors.Is(err, errdef.ErrNotFound) {
			continue
		}
		if err == nil && rec.ID != key {
			err = fmt.Errorf("its record is of %q: %w", rec.ID, errdef.ErrCorrupt)
		}
		if err != nil {
			c.report.fault("container "+key, err, func(ctx context.Context) (string, error) { return c.mendContainer(ctx, key) })
			continue
		}
		still := func() bool { _, err := s.Records().Get(key); return err == nil }
		stack := &oci.Image{}
		stack.RootFS.DiffIDs = rec.Layers
		c.checkStack("container "+rec.Name, image.Image{Config: stack}, still)
	}
	return ctx.Err()
}

func checkVolumes(ctx context.Context, c *checker) error {
	s, err := c.Containers()
	if err != nil {
		return err
	}
	damaged, err := s.DamagedVolumes()
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(damaged)) {
		c.report.fault("volume "+name, damaged[name], func(ctx context.Context) (string, error) {
			return "the bit that rotted is known: record written anew", s.MendVolume(ctx, name)
		})
	}
	if _, err := s.Volumes(ctx); err != nil && len(damaged) == 0 {
		c.report.fault("volumes", err, func(ctx context.Context) (string, error) { // a container's record may have been in the way
			_, err := s.Volumes(ctx)
			return "readable again", err
		})
	}
	return ctx.Err()
}

// checkCache reads the build cache, and what built-in bases were made of. Who needs an entry that is damaged passes over it, so
// that it can go.
func checkCache(ctx context.Context, c *checker) error {
	cache, err := c.cache()
	if err != nil {
		return err
	}
	err = cache.Damaged(func(key graph.Key, err error) error {
		c.report.fault("cache entry "+string(key), err, func(context.Context) (string, error) { return "dropped: its step runs again", cache.Remove(key) })
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	bases, err := c.madeBases()
	if err != nil {
		return err
	}
	keys, err := sorted(bases.Keys())
	for _, key := range keys {
		if _, err := bases.Get(key); errors.Is(err, errdef.ErrCorrupt) {
			c.report.fault("built-in base "+key, err, func(context.Context) (string, error) {
				return "dropped: it is made anew when it is needed", ignoreMissing(bases.Delete(key))
			})
		}
	}
	return err
}

// checkNetworks reads the records of networks. What they mean is not asked here.
func checkNetworks(_ context.Context, c *checker) error {
	dir := filepath.Join(c.opts.Root, "networks")
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	records, err := record.OpenDir[json.RawMessage](dir, "network")
	if err != nil {
		return err
	}
	keys, err := sorted(records.Keys())
	for _, key := range keys {
		if _, err := records.Get(key); errors.Is(err, errdef.ErrCorrupt) {
			c.report.fault("network "+key, err, func(ctx context.Context) (string, error) {
				return correct(ctx, records, key, "make the network again")
			})
		}
	}
	return err
}
