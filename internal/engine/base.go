package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"strata/internal/base"
	"strata/internal/errdef"
	"strata/internal/image"
	"strata/internal/layer"
	"strata/internal/oci"
	"strata/internal/record"
)

// madeBase remembers which image a built-in base gave, and of which helper program.
type madeBase struct {
	Key   string
	Image string
}

// builtin gives a built-in base's image: the one made before as long as the helper is the same, else a new one, whose
// digests change only if the helper's contents do.
func (e *Engine) builtin(ctx context.Context, name string) (image.Image, error) {
	src, err := base.Find()
	if err != nil {
		return image.Image{}, err
	}
	key, err := src.Key()
	if err != nil {
		return image.Image{}, err
	}
	made, err := e.madeBases()
	if err != nil {
		return image.Image{}, err
	}
	if m, err := made.Get(name); err == nil && m.Key == key {
		if img, err := e.images.Pin(ctx, m.Image); err == nil {
			return img, nil
		} else if !errors.Is(err, errdef.ErrNotFound) {
			return img, err
		}
	}
	img, err := e.makeBase(ctx, src, name)
	if err != nil {
		return img, fmt.Errorf("base %s: %w", name, err)
	}
	return img, made.PutVolatile(name, madeBase{key, img.ID.String()})
}

func (e *Engine) madeBases() (*record.Dir[madeBase], error) {
	return record.OpenDir[madeBase](filepath.Join(e.opts.Root, "bases"), "built-in base")
}

func (e *Engine) makeBase(ctx context.Context, src base.Source, name string) (image.Image, error) {
	cfg, err := base.Config(name)
	if err != nil {
		return image.Image{}, err
	}
	for _, part := range base.Layers(name) {
		id, err := e.baseLayer(ctx, src, part, func(tar io.Reader) (layer.Meta, error) { return e.layers.Ingest(ctx, tar, "") })
		if err != nil {
			return image.Image{}, err
		}
		cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, id)
	}
	if err := e.layers.Sync(ctx); err != nil {
		return image.Image{}, err
	}
	img, err := e.images.Put(ctx, cfg, image.PutOptions{})
	if err != nil {
		return img, err
	}
	_, err = e.images.Tag(ctx, name, img.ID, "built in")
	return img, err
}

// baseLayer ingests one layer as the helper writes it.
func (e *Engine) baseLayer(ctx context.Context, src base.Source, part string, ingest func(tar io.Reader) (layer.Meta, error)) (oci.DiffID, error) {
	r, w := io.Pipe()
	wrote := make(chan error, 1)
	go func() {
		err := src.Tar(ctx, part, w)
		w.CloseWithError(err)
		wrote <- err
	}()
	meta, err := ingest(r)
	r.CloseWithError(err)
	werr := <-wrote
	if err != nil { // the helper's own error came through the pipe; that of a broken pipe is no cause
		return "", err
	}
	return meta.DiffID, werr
}
