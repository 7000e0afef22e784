package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"

	"github.com/opencontainers/go-digest"

	"strata/internal/content"
	"strata/internal/errdef"
	"strata/internal/image"
	"strata/internal/layer"
	"strata/internal/oci"
)

// blobCapVariable bounds the compressed layers that are kept, before strata.toml does.
const blobCapVariable = "STRATA_BLOB_CACHE_MAX"

// The bound on compressed layers where nobody set one.
const (
	blobCapPercent = 5
	leastBlobCap   = 1 << 30
)

// blobCap is how many bytes of compressed layers are kept beside the layers; 0 is none of them, -1 is all.
func (e *Engine) blobCap() (int64, error) {
	c, err := e.Config()
	if err != nil {
		return 0, err
	}
	value := os.Getenv(blobCapVariable)
	fault := func(err error) error { return fmt.Errorf("%s=%q: %w", blobCapVariable, value, err) }
	if value == "" {
		value = c.Store.BlobCacheMax
		fault = func(err error) error { return c.Fault("store.blob-cache-max", err) }
	}
	if value == "0" {
		return 0, nil
	}
	limit, err := ParseCap(value)
	if err != nil {
		return 0, fault(err)
	}
	if limit.None {
		return -1, nil
	}
	return limit.bytes(e.opts.Root, blobCapPercent, leastBlobCap)
}

// keeper is the layer store with compressed layers kept beside it.
type keeper struct {
	*layer.Store
	e *Engine
}

// keeping is where layers go that images bring, in the form that their registry has.
func (e *Engine) keeping() keeper { return keeper{e.layers, e} }

// Keep keeps the blob if it is within the bound and not here yet.
func (k keeper) Keep(id oci.DiffID, b layer.Blob) layer.BlobSink {
	limit, ok := k.e.keeps(id, b)
	if !ok {
		return &keptBlob{}
	}
	w, err := k.e.content.Create()
	if err != nil {
		return &keptBlob{}
	}
	return &keptBlob{e: k.e, w: w, limit: limit, left: limit}
}

// keeps decides whether a blob is to be kept, and how large it may be. Any doubt is a no: it is kept to save work only.
func (e *Engine) keeps(id oci.DiffID, b layer.Blob) (limit int64, ok bool) {
	limit, err := e.blobCap()
	if limit < 0 {
		limit = math.MaxInt64
	}
	if err != nil || limit == 0 || b.Size > limit || b.Digest == digest.Digest(id) || compressedAs(b.MediaType, "") {
		return 0, false
	}
	if b.Digest != "" {
		_, err = e.content.Stat(b.Digest)
		return limit, errors.Is(err, errdef.ErrNotFound)
	}
	return limit, true
}

// adopt keeps what has arrived of a pull as the blob that it is, or lets it go.
func (e *Engine) adopt(ctx context.Context, part *content.Partial, id oci.DiffID, b layer.Blob) error {
	if _, ok := e.keeps(id, b); !ok || e.hold(ctx, image.BlobName(b.Digest)) != nil {
		return part.Remove()
	}
	return e.content.Adopt(part, b.Digest)
}

// keptBlob is a compressed layer on its way into the store, for as long as nothing goes wrong with it.
type keptBlob struct {
	e           *Engine
	w           *content.Writer // nil: it is not kept
	limit, left int64
}

// Write takes what comes, and never fails.
func (k *keptBlob) Write(p []byte) (int, error) {
	if k.w == nil {
		return len(p), nil
	}
	k.left -= int64(len(p))
	if _, err := k.w.Write(p); err != nil || k.left < 0 {
		k.drop()
	}
	return len(p), nil
}

// Restart forgets what was written: the same bytes come again.
func (k *keptBlob) Restart() {
	if k.left = k.limit; k.w != nil && k.w.Restart() != nil {
		k.drop()
	}
}

// Done gives the blob its name, held until an image has it.
func (k *keptBlob) Done(ctx context.Context, b layer.Blob) {
	if k.w != nil && k.e.hold(ctx, image.BlobName(b.Digest)) == nil {
		_ = k.w.Publish(b.Digest) // what cannot be kept is made or fetched again
	}
}

// Close ends it.
func (k *keptBlob) Close() error {
	k.drop()
	return nil
}

func (k *keptBlob) drop() {
	if k.w != nil {
		k.w.Close()
		k.w = nil
	}
}

// capBlobs removes compressed layers that were used longest ago until they are within nine tenths of their bound, if they had
// grown beyond it. What pulls, pushes and loads is done calls it.
func (e *Engine) capBlobs(ctx context.Context) error {
	limit, err := e.blobCap()
	if err != nil || limit < 0 {
		return err
	}
	if over, err := e.blobsOver(limit); err != nil || !over {
		return err
	}
	kept, total, err := e.keptBlobs(ctx)
	if err != nil || total <= limit {
		return err
	}
	trash, err := e.trash()
	if err != nil {
		return err
	}
	for _, b := range kept {
		if total <= limit/10*9 {
			break
		}
		if err := e.content.Trash(b.Digest, trash); err != nil && !errors.Is(err, errdef.ErrNotFound) {
			return err
		}
		total -= b.Size
	}
	return emptyDir(trash)
}

// blobsOver reports whether all blobs together, documents too, have more than limit bytes: looking at their files is quick.
func (e *Engine) blobsOver(limit int64) (bool, error) {
	var total int64
	err := e.content.Walk(func(b content.Info) error { total += b.Size; return nil })
	return total > limit, err
}

// keptBlobs lists the compressed layers that are kept, what was used longest ago first. What is a document of an image is
// none, whatever a layer's record says of it.
func (e *Engine) keptBlobs(ctx context.Context) (kept []content.Info, total int64, err error) {
	documents, err := e.images.Documents(ctx)
	if err != nil {
		return nil, 0, err
	}
	packed := map[digest.Digest]bool{}
	err = e.layers.Walk(func(m layer.Meta) error {
		for _, b := range m.Blobs {
			packed[b.Digest] = !documents[b.Digest]
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	err = e.content.Walk(func(b content.Info) error {
		if packed[b.Digest] {
			kept, total = append(kept, b), total+b.Size
		}
		return nil
	})
	slices.SortFunc(kept, func(a, b content.Info) int { return cmp.Or(a.Used.Compare(b.Used), cmp.Compare(a.Digest, b.Digest)) })
	return kept, total, err
}
