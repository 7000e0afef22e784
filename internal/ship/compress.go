package ship

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"strata/internal/layer"
	"strata/internal/oci"
	"strata/internal/progress"
)

// compressed copies the parts of an image's manifest, layers that are plain tars compressed, and gives the manifest of
// what the target has then.
func (c *copier) compressed(ctx context.Context, to Compressor, doc oci.Document) (oci.Document, error) {
	m, err := oci.ParseManifest(doc.Raw)
	if err != nil {
		return doc, err
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(c.wide)
	group.Go(func() error { return c.blob(gctx, m.Config) })
	layers := map[digest.Digest]ocispec.Descriptor{}
	for _, l := range m.Layers {
		if _, seen := layers[l.Digest]; seen {
			continue
		}
		layers[l.Digest] = l
		group.Go(func() error {
			if l.MediaType != ocispec.MediaTypeImageLayer {
				return c.blob(gctx, l)
			}
			desc, err := c.compress(gctx, to, l)
			c.mu.Lock()
			defer c.mu.Unlock()
			layers[l.Digest] = desc
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return doc, err
	}
	for i, l := range m.Layers {
		m.Layers[i] = layers[l.Digest]
	}
	if doc.Raw, err = oci.Marshal(m); err != nil {
		return doc, err
	}
	doc.Descriptor.Digest, doc.Descriptor.Size = digest.FromBytes(doc.Raw), int64(len(doc.Raw))
	return doc, nil
}

// compress sends one layer and tells what became of it.
func (c *copier) compress(ctx context.Context, to Compressor, l ocispec.Descriptor) (ocispec.Descriptor, error) {
	out := ocispec.Descriptor{MediaType: l.MediaType + layer.MediaSuffix(c.o.Compression)}
	err := c.carry(ctx, l, func(task *progress.Task) (there bool, err error) {
		known := &places{}
		defer known.close()
		out.Digest, out.Size, err = to.PutStream(ctx, func(w io.Writer) error {
			r, err := c.open(ctx, l, task, known)
			if err != nil {
				return err
			}
			defer r.Close()
			z, err := layer.Compress(w, c.o.Compression, 0, atOnce)
			if err != nil {
				return err
			}
			if _, err := io.Copy(z, r); err != nil {
				z.Close()
				return err
			}
			return z.Close()
		})
		return false, err
	})
	return out, err
}
