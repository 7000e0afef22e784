package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"strata/internal/errdef"
	"strata/internal/image"
	"strata/internal/layer"
	"strata/internal/oci"
	"strata/internal/progress"
)

// Loaded is one image that was loaded.
type Loaded struct {
	// Names in full; none for an image without one.
	Names []string
	ID    digest.Digest
}

// Load takes the images of a docker archive or of the tar of an OCI layout, compressed or not, into the store. Given the
// *os.File of a plain tar it reads that in place; anything else goes through a temporary file. sink hears of each layer.
//
// Errors: errdef.ErrInvalid for what is no image archive, errdef.ErrCorrupt for a missing member or a wrong digest,
// errdef.ErrLimit for documents or indexes beyond the bounds. After an error no image and no tag was made.
func Load(ctx context.Context, r io.Reader, d Deps, sink progress.Sink) ([]Loaded, error) {
	src, err := openTar(ctx, r, d.TempDir)
	if err != nil {
		return nil, err
	}
	return loadAndClose(ctx, src, d, sink)
}

// LoadDir is [Load] from an OCI layout in a directory.
func LoadDir(ctx context.Context, dir string, d Deps, sink progress.Sink) ([]Loaded, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return loadAndClose(ctx, dirSource{root}, d, sink)
}

func loadAndClose(ctx context.Context, src source, d Deps, sink progress.Sink) ([]Loaded, error) {
	loaded, err := load(ctx, src, d, sink)
	if e := src.close(); err == nil {
		err = e
	}
	return loaded, err
}

func load(ctx context.Context, src source, d Deps, sink progress.Sink) ([]Loaded, error) {
	images, err := plan(src, d.Platform)
	if err != nil {
		return nil, err
	}
	l := &loader{src: src, d: d, sink: sink}
	if err := l.layers(ctx, images); err != nil {
		return nil, err
	}
	if err := d.Layers.Sync(ctx); err != nil {
		return nil, err
	}
	return publish(ctx, images, d.Images)
}

// publish makes the records of all images, then the tags.
func publish(ctx context.Context, images []plannedImage, to Images) ([]Loaded, error) {
	var loaded []Loaded
	for _, p := range images {
		img, err := to.Put(ctx, p.config, image.PutOptions{RawConfig: p.rawConfig, RawManifest: p.rawManifest})
		if err != nil {
			return nil, err
		}
		loaded = append(loaded, Loaded{Names: p.names, ID: img.ID})
	}
	for _, l := range loaded {
		for _, name := range l.Names {
			if _, err := to.Tag(ctx, name, l.ID, "load"); err != nil {
				return nil, err
			}
		}
	}
	return loaded, nil
}

// loader stores the layers of one archive.
type loader struct {
	src  source
	d    Deps
	sink progress.Sink
}

// layers stores every layer of the images once, a few at a time.
func (l *loader) layers(ctx context.Context, images []plannedImage) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(min(4, runtime.GOMAXPROCS(0)))
	seen := map[oci.DiffID]bool{}
	for _, img := range images {
		for _, p := range img.layers {
			if seen[p.diffID] {
				continue
			}
			seen[p.diffID] = true
			group.Go(func() error { return l.layer(ctx, p) })
		}
	}
	return group.Wait()
}

// layer stores one layer unless it is there, and reports.
func (l *loader) layer(ctx context.Context, p plannedLayer) error {
	task := progress.Begin(l.sink, string(p.diffID), "layer "+p.diffID.Hex()[:12])
	cached, err := l.store(ctx, p, task)
	task.End(ctx, cached, err)
	return err
}

func (l *loader) store(ctx context.Context, p plannedLayer, task *progress.Task) (cached bool, err error) {
	if err := l.d.hold(ctx, image.LayerName(p.diffID)); err != nil {
		return false, err
	}
	if _, err := l.d.Layers.Stat(p.diffID); !errors.Is(err, errdef.ErrNotFound) {
		return err == nil, err
	}
	r, size, err := l.src.open(p.member)
	if err != nil {
		return false, err
	}
	defer r.Close()
	task.Note, task.Total = "reading", size
	if _, err := layer.IngestBlob(ctx, l.d.Layers, io.TeeReader(r, task), p.blob, p.diffID); err != nil {
		return false, fmt.Errorf("archive member %s: %w", p.member, err)
	}
	return false, nil
}
