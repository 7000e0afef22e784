package archive

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"

	"strata/internal/image"
	"strata/internal/layer"
	"strata/internal/oci"
)

// LayerWriter takes layers: layer.Store.
type LayerWriter interface {
	layer.BlobTaker
	Stat(id oci.DiffID) (layer.Meta, error)
	Sync(ctx context.Context) error
}

// LayerReader gives layers: layer.Store.
type LayerReader interface {
	Tar(ctx context.Context, id oci.DiffID) (io.ReadCloser, error)
	Stat(id oci.DiffID) (layer.Meta, error)
}

// Images publishes images and names: image.Store.
type Images interface {
	Put(ctx context.Context, cfg *oci.Image, o image.PutOptions) (image.Image, error)
	Tag(ctx context.Context, name string, id digest.Digest, cause string) (digest.Digest, error)
}

// Deps are what loading works on.
type Deps struct {
	Layers LayerWriter
	Images Images
	// Hold keeps names from the sweep (record.Lease.Hold). Nil holds nothing.
	Hold func(ctx context.Context, names ...string) error
	// Platform to take of what is there for several; the zero Platform takes this machine's, and what there is for another one
	// only.
	Platform oci.Platform
	// TempDir is a directory for what is not finished, which goes with the process.
	TempDir func() (string, error)
}

func (d Deps) hold(ctx context.Context, names ...string) error {
	if d.Hold == nil {
		return nil
	}
	return d.Hold(ctx, names...)
}
