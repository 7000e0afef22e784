package engine

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/content"
	"strata/internal/errdef"
	"strata/internal/image"
	"strata/internal/oci"
	"strata/internal/record"
	"strata/internal/reference"
)

// mendRecord makes an image's record anew: of what can still be read of it, if the documents that it names agree, else of a
// manifest in the store that is of this image. A record without either is dropped: nothing leads from it to an image.
func (c *checker) mendRecord(ctx context.Context, id digest.Digest) (string, error) {
	rec, err := c.images.Images.Salvage(id.Encoded())
	if err == nil && rec.ID == id && c.describes(rec.Manifest.Digest, id) {
		rec.Size = 0 // the layers tell
		return "its documents prove it: record written anew", rewrite(ctx, c.images.Images, id.Encoded(), rec)
	}
	var found []digest.Digest
	err = c.content.Walk(func(b content.Info) error {
		if b.Size <= oci.MaxManifest && b.Digest != id && c.describes(b.Digest, id) {
			found = append(found, b.Digest)
		}
		return ctx.Err()
	})
	if err != nil {
		return "", err
	}
	if len(found) > 0 {
		raw, err := c.content.ReadAll(found[0], oci.MaxManifest)
		if err != nil {
			return "", err
		}
		m, err := oci.ParseManifest(raw)
		if err != nil {
			return "", err
		}
		desc := ocispec.Descriptor{MediaType: m.MediaType, Digest: found[0], Size: int64(len(raw))}
		rec = image.Record{ID: id, Manifest: desc, Foreign: true, Created: time.Now().UTC(), RepoDigests: parsed(rec.RepoDigests)}
		return "record made anew from manifest " + shortDigest(found[0]), rewrite(ctx, c.images.Images, id.Encoded(), rec)
	}
	return "dropped: no document of the image is left", whileBroken(ctx, c.images.Images, id.Encoded(), func() error {
		return c.images.Images.Delete(id.Encoded())
	})
}

// whileBroken runs mend under a record's lock, unless the record was written anew or removed since it was found broken.
func whileBroken[T any](ctx context.Context, d *record.Dir[T], key string, mend func() error) error {
	return d.Locked(ctx, key, func() error {
		if _, err := d.Get(key); err == nil || errors.Is(err, errdef.ErrNotFound) {
			return nil
		}
		return mend()
	})
}

// rewrite puts rec in the place of a broken record.
func rewrite[T any](ctx context.Context, d *record.Dir[T], key string, rec T) error {
	return whileBroken(ctx, d, key, func() error { return d.Put(key, rec) })
}

// parsed are those of the names that still are some.
func parsed(names []string) []string {
	return slices.DeleteFunc(names, func(name string) bool { ref, err := reference.Parse(name); return err != nil || ref.Digest == "" })
}

// describes reports whether blob d is a whole manifest of the image, whose config is whole too.
func (c *checker) describes(d, id digest.Digest) bool {
	raw, err := c.content.ReadAll(d, oci.MaxManifest)
	if err != nil {
		return false
	}
	m, err := oci.ParseManifest(raw)
	if err != nil || m.Config.Digest != id {
		return false
	}
	_, err = c.content.ReadAll(id, oci.MaxConfig)
	return err == nil
}

// mendDocuments gets back what an image's record names and the store has not, or not whole.
func (c *checker) mendDocuments(ctx context.Context, id digest.Digest) (string, error) {
	rec, err := c.images.Images.Get(id.Encoded())
	if err != nil {
		return "", err
	}
	done := "whole again"
	for _, d := range []digest.Digest{id, rec.Manifest.Digest} {
		if c.checkBlobWhole(ctx, d) == nil {
			continue
		}
		if done, err = c.mendBlob(ctx, d); err != nil {
			return "", err
		}
	}
	if _, err := c.images.Get(ctx, id); err != nil {
		return "", err
	}
	return done, nil
}

// checkBlobWhole is checkBlob that reads, however quick the check is.
func (c *checker) checkBlobWhole(ctx context.Context, d digest.Digest) error {
	_, err := c.content.ReadAll(d, max(oci.MaxConfig, oci.MaxManifest))
	return errors.Join(err, ctx.Err())
}

// mendTag writes a tag anew if what can be read of it leads to an image, and drops it otherwise.
func (c *checker) mendTag(ctx context.Context, key string) (string, error) {
	tag, err := c.images.Tags.Get(key)
	if errors.Is(err, errdef.ErrNotFound) {
		return "gone meanwhile", nil
	}
	salvaged := false
	if err != nil {
		tag, err = c.images.Tags.Salvage(key)
		salvaged = err == nil
	}
	if err == nil && !c.leads(&tag) {
		err = errdef.ErrNotFound
	}
	if err != nil || !c.images.IsKey(tag.Name, key) {
		return c.dropTag(ctx, key)
	}
	if tag.Index != "" {
		if _, err := c.images.Index(tag.Index); err != nil {
			if digests(tag.Index) {
				if done, err := c.mendBlob(ctx, tag.Index); err == nil && c.checkBlobWhole(ctx, tag.Index) == nil {
					return done, nil
				}
			}
			return c.dropIndex(ctx, key, tag, salvaged)
		}
	}
	if !salvaged {
		return "whole again", nil
	}
	return "the image that it names is here: record written anew", rewrite(ctx, c.images.Tags, key, tag)
}

// dropTag removes a tag that leads to no image, unless it was pointed to one meanwhile.
func (c *checker) dropTag(ctx context.Context, key string) (string, error) {
	done := "dropped: it leads to no image"
	err := c.images.Tags.Locked(ctx, key, func() error {
		if tag, err := c.images.Tags.Get(key); err == nil && c.leads(&tag) && c.images.IsKey(tag.Name, key) {
			done = "pointed to another image meanwhile"
			return nil
		}
		return ignoreMissing(c.images.Tags.Delete(key))
	})
	return done, err
}

// dropIndex makes of a tag for several platforms one for this machine.
func (c *checker) dropIndex(ctx context.Context, key string, tag image.Tag, salvaged bool) (string, error) {
	lost := tag.Index
	tag.Index = ""
	err := c.images.Tags.Locked(ctx, key, func() error {
		if now, err := c.images.Tags.Get(key); err == nil && (salvaged || now.Image != tag.Image || now.Index != lost) {
			return nil // pointed to something else meanwhile
		}
		return c.images.Tags.Put(key, tag)
	})
	return "its index is lost: " + reference.Familiarize(tag.Name) + " is the image for this machine alone now", err
}

// leads reports whether the tag leads to an image. Its history says a second time to which.
func (c *checker) leads(tag *image.Tag) bool {
	there := func(id digest.Digest) bool {
		if _, err := oci.ParseDigest(string(id)); err != nil {
			return false
		}
		_, err := c.images.Images.Get(id.Encoded())
		return err == nil
	}
	if n := len(tag.History); n > 0 && !there(tag.Image) {
		tag.Image = tag.History[n-1].Image
	}
	return there(tag.Image)
}

// mendContainer writes a container's record anew if it can be told how it was. Its files are somebody's work, so that it is
// never dropped.
func (c *checker) mendContainer(ctx context.Context, key string) (string, error) {
	s, err := c.Containers()
	if err != nil {
		return "", err
	}
	return correct(ctx, s.Records(), key, "what it wrote is in "+s.Upper(key))
}

// correct writes a record anew in which one bit rotted. Nothing proves what another says: a word less in it may be a right
// more.
func correct[T any](ctx context.Context, d *record.Dir[T], key, hint string) (string, error) {
	rec, err := d.Correct(key)
	if err != nil {
		return "", errdef.WithHint(err, hint+"; removing "+filepath.Join(d.Path(), key+".json")+" gives it up")
	}
	return "the bit that rotted is known: record written anew", rewrite(ctx, d, key, rec)
}

func ignoreMissing(err error) error {
	if errors.Is(err, errdef.ErrNotFound) {
		return nil
	}
	return err
}
