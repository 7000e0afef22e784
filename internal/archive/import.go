package archive

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"time"

	"strata/internal/layer"
	"strata/internal/oci"
)

// ImportOptions describe an image made of a root file system.
type ImportOptions struct {
	// Message is the comment of its history entry.
	Message string
	// Platform that the files are for; zero is this machine's.
	Platform oci.Platform
	// Now is the creation time; zero is the clock's.
	Now time.Time
}

// Import stores the tar of a root file system, compressed or not, as a layer, flushed, and gives the config of the image
// that has this layer only. The caller changes the config as it likes, and puts and names the image.
func Import(ctx context.Context, r io.Reader, layers LayerWriter, o ImportOptions) (*oci.Image, layer.Meta, error) {
	tar, _, err := layer.Decompress(r)
	if err != nil {
		return nil, layer.Meta{}, fmt.Errorf("import: %w", err)
	}
	meta, err := layers.Ingest(ctx, tar, "")
	if e := tar.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = layers.Sync(ctx)
	}
	if err != nil {
		return nil, layer.Meta{}, fmt.Errorf("import: %w", err)
	}
	p := o.Platform
	if p.OS == "" && p.Architecture == "" {
		p = oci.Host()
	}
	now := o.Now
	if now.IsZero() {
		now = time.Now()
	}
	now = now.UTC()
	return &oci.Image{
		Created: &now, OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion,
		RootFS:  oci.RootFS{Type: "layers", DiffIDs: []oci.DiffID{meta.DiffID}},
		History: []oci.History{{Created: &now, Comment: cmp.Or(o.Message, "Imported from -")}},
	}, meta, nil
}
