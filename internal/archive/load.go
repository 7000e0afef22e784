package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

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
	images, err := plan(src)
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
	report := reporter{sink: l.sink, id: string(p.diffID), name: "layer " + p.diffID.Hex()[:12]}
	report.emit(progress.Started, nil)
	cached, err := l.store(ctx, p, &report)
	switch {
	case err != nil && ctx.Err() != nil:
		report.emit(progress.Canceled, nil)
	case err != nil:
		report.emit(progress.Failed, err)
	case cached:
		report.emit(progress.Cached, nil)
	default:
		report.emit(progress.Done, nil)
	}
	return err
}

func (l *loader) store(ctx context.Context, p plannedLayer, report *reporter) (cached bool, err error) {
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
	report.total = size
	if err := l.ingest(ctx, io.TeeReader(r, report), p); err != nil {
		return false, fmt.Errorf("archive member %s: %w", p.member, err)
	}
	if p.blob.Digest == "" || p.blob.Digest == digest.Digest(p.diffID) {
		return false, nil
	}
	return false, l.d.Layers.AddBlob(ctx, p.diffID, p.blob)
}

// ingest stores a layer from its member's bytes, which must be the blob that p describes, if it does, and decompress to
// the layer.
func (l *loader) ingest(ctx context.Context, r io.Reader, p plannedLayer) error {
	// An uncompressed blob's digest is the diffID, which the layer store checks.
	check := p.blob.Digest != "" && p.blob.Digest != digest.Digest(p.diffID)
	hash := digest.SHA256.Hash()
	if check {
		r = io.TeeReader(r, hash)
	}
	tar, _, err := layer.Decompress(r)
	if err != nil {
		return err
	}
	_, err = l.d.Layers.Ingest(ctx, tar, p.diffID)
	if e := tar.Close(); err == nil {
		err = e
	}
	if !check || ctx.Err() != nil {
		return err
	}
	// After a failure too: that the blob is not the one that was meant says more than what is wrong inside it.
	if _, e := io.Copy(io.Discard, r); e != nil {
		return errors.Join(err, e)
	}
	if got := digest.NewDigest(digest.SHA256, hash); got != p.blob.Digest {
		return fmt.Errorf("blob has digest %s, not %s: %w", got, p.blob.Digest, errdef.ErrCorrupt)
	}
	return err
}

// reporter emits the events of one layer. As a Writer it counts the bytes that were read.
type reporter struct {
	sink           progress.Sink
	id, name       string
	current, total int64
	told           int64
}

// reportEvery is how many bytes pass between two Status events.
const reportEvery = 1 << 20

func (p *reporter) Write(b []byte) (int, error) {
	p.current += int64(len(b))
	if p.current-p.told >= reportEvery {
		p.told = p.current
		p.emit(progress.Status, nil)
	}
	return len(b), nil
}

func (p *reporter) emit(state progress.State, err error) {
	e := progress.Event{Time: time.Now(), Vertex: p.id, Name: p.name, State: state, Current: p.current, Total: p.total}
	if err != nil {
		e.Error = err.Error()
	}
	p.sink.Emit(e)
}
