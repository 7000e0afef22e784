package ship

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"strata/internal/errdef"
	"strata/internal/oci"
	"strata/internal/progress"
)

const (
	// maxDepth bounds indexes within indexes, and referrers of referrers.
	maxDepth = 5
	// maxDocuments bounds the documents of one copy.
	maxDocuments = 20_000
	// atOnce is how many blobs are under way at once.
	atOnce = 6
	// wide is how many documents of one index are under way at once.
	wide = 8
	// maxKept bounds the documents that are kept between the look at them and their copy, in bytes.
	maxKept = 16 << 20
)

// Copy copies the root of a source, all that it leads to, and if asked what refers to it.
func Copy(ctx context.Context, from Source, to Target, o Options) (Result, error) {
	if o.Sink == nil {
		o.Sink = progress.Discard
	}
	c := &copier{from: from, to: to, o: o, blobs: make(chan struct{}, atOnce), wide: wide,
		once: map[digest.Digest]*carried{}, looked: map[digest.Digest]bool{}, kept: map[digest.Digest]oci.Document{}}
	if o.Serial {
		c.blobs, c.wide = make(chan struct{}, 1), 1
	}
	root, err := c.root(ctx)
	if err != nil {
		return Result{}, err
	}
	if err := Same(o.Digest, root.Descriptor.Digest); err != nil && o.Compression == "" {
		return Result{}, err
	}
	if err := c.acceptable(ctx, root, 0); err != nil {
		return Result{}, err
	}
	c.result.Root, err = c.document(ctx, root, oci.Root, 0)
	if err == nil {
		err = Same(o.Digest, c.result.Root.Digest)
	}
	return c.result, err
}

// Same refuses an image that does not have the digest by which its destination is named, if it is.
func Same(want, got digest.Digest) error {
	if want == "" || got == want {
		return nil
	}
	return fmt.Errorf("the image has digest %s, and the destination another: %w", got, errdef.ErrInvalid)
}

// copier is one copy.
type copier struct {
	from  Source
	to    Target
	o     Options
	blobs chan struct{} // as many as may be under way
	wide  int           // documents of one index that may be

	mu     sync.Mutex
	result Result
	once   map[digest.Digest]*carried
	looked map[digest.Digest]bool // by acceptable
	kept   map[digest.Digest]oci.Document
	size   int64 // of what is kept
}

// carried is something that is copied once, however often it is referred to.
type carried struct {
	done  chan struct{}
	err   error
	waits map[*carried]int // for what, and how often; under the copier's mu
}

// needs reports whether it waits for other, by however many steps.
func (k *carried) needs(other *carried, seen map[*carried]bool) bool {
	if k == other {
		return true
	}
	seen[k] = true
	for next := range k.waits {
		if !seen[next] && next.needs(other, seen) {
			return true
		}
	}
	return false
}

// Choose gives the manifest of a source's image for a platform: one in the index that the root is, or the root itself. With
// strict, that has to be for the platform too.
func Choose(ctx context.Context, from Source, p oci.Platform, strict bool) (oci.Document, error) {
	doc, err := from.Document(ctx, ocispec.Descriptor{})
	for depth := 0; err == nil && oci.IsIndex(doc.Descriptor.MediaType); depth++ {
		if depth == maxDepth {
			return doc, tooDeep(doc.Descriptor.Digest)
		}
		x, err := oci.ParseIndex(doc.Raw)
		if err != nil {
			return doc, err
		}
		desc, err := oci.Choose(x.Manifests, p)
		if err != nil {
			return doc, err
		}
		if doc, err = from.Document(ctx, desc); err != nil {
			return doc, err
		}
		strict = false
	}
	if err == nil && strict {
		err = runs(ctx, from, doc, p)
	}
	return doc, err
}

// runs looks into the config of a lone image whether it is one for the platform.
func runs(ctx context.Context, from Source, doc oci.Document, p oci.Platform) error {
	m, err := oci.ParseManifest(doc.Raw)
	if err != nil {
		return err
	}
	if err := oci.CheckConfigType(m.Config.MediaType); err != nil {
		return err
	}
	raw, err := ReadBlob(ctx, from, m.Config, oci.MaxConfig)
	if err != nil {
		return err
	}
	cfg, err := oci.ParseImage(raw)
	if err == nil && !oci.Runs(p, cfg) {
		err = fmt.Errorf("no image for %s; there is %s/%s: %w", oci.Format(p), cfg.OS, cfg.Architecture, errdef.ErrUnsupported)
	}
	return err
}

// ReadBlob reads a small blob of at most limit bytes, and verifies it.
func ReadBlob(ctx context.Context, from Source, desc ocispec.Descriptor, limit int64) ([]byte, error) {
	if desc.Size > limit {
		return nil, fmt.Errorf("blob %s of %d bytes (at most %d): %w", desc.Digest, desc.Size, limit, errdef.ErrLimit)
	}
	r, err := from.Blob(ctx, desc)
	if err != nil {
		return nil, err
	}
	v := &verified{r: r, desc: desc, hash: digest.SHA256.Hash()}
	defer v.Close()
	return io.ReadAll(v)
}

func tooDeep(d digest.Digest) error {
	return fmt.Errorf("index %s: more than %d documents within each other: %w", d, maxDepth, errdef.ErrLimit)
}

func (c *copier) root(ctx context.Context) (oci.Document, error) {
	if c.o.Platform != nil {
		return Choose(ctx, c.from, *c.o.Platform, c.o.Strict)
	}
	return c.from.Document(ctx, ocispec.Descriptor{})
}

// acceptable looks, before anything is written, whether all layers are where their manifests are.
func (c *copier) acceptable(ctx context.Context, doc oci.Document, depth int) error {
	links, err := oci.ParseLinks(doc.Raw)
	if err != nil {
		return err
	}
	for _, l := range links.Blobs {
		if oci.Elsewhere(l) {
			err := fmt.Errorf("layer %s (%.80s) does not lie in the registry and must not be copied: %w", l.Digest, l.MediaType, errdef.ErrUnsupported)
			if depth > 0 {
				err = errdef.WithHint(err, "take a platform without such layers: --platform linux/amd64")
			}
			return err
		}
	}
	if depth == maxDepth && len(links.Manifests) > 0 {
		return tooDeep(doc.Descriptor.Digest)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(c.wide)
	for _, m := range links.Manifests {
		if !oci.IsDocument(m) {
			continue
		}
		group.Go(func() error {
			if first, err := c.look(m.Digest); !first || err != nil {
				return err
			}
			part, err := c.read(ctx, m)
			if err != nil {
				return err
			}
			return c.acceptable(ctx, part, depth+1)
		})
	}
	return group.Wait()
}

// look notes that acceptable looks at a document, and bounds how many. false: it has done so before.
func (c *copier) look(d digest.Digest) (first bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.looked[d] {
		return false, nil
	}
	c.looked[d] = true
	if len(c.looked) > maxDocuments {
		return false, tooMany()
	}
	return true, nil
}

func tooMany() error {
	return fmt.Errorf("more than %d documents: %w", maxDocuments, errdef.ErrLimit)
}

// read gets a document, from what is kept if it is there.
func (c *copier) read(ctx context.Context, desc ocispec.Descriptor) (oci.Document, error) {
	c.mu.Lock()
	doc, ok := c.kept[desc.Digest]
	c.mu.Unlock()
	if ok {
		return doc, nil
	}
	doc, err := c.from.Document(ctx, desc)
	if err != nil {
		return doc, err
	}
	if got := digest.FromBytes(doc.Raw); got != desc.Digest {
		return doc, fmt.Errorf("manifest %s: its bytes have digest %s: %w", desc.Digest, got, errdef.ErrCorrupt)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.size += int64(len(doc.Raw)); c.size <= maxKept {
		c.kept[desc.Digest] = doc
	}
	return doc, nil
}
