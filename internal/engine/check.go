package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"

	"github.com/opencontainers/go-digest"

	"strata/internal/layer"
	"strata/internal/oci"
)

// Fault is one thing that a check found broken.
type Fault struct {
	// Object in words: "image sha256:…", "layer sha256:…", "tag docker.io/library/x:latest".
	Object string `json:"object"`
	// Problem says what is wrong with it.
	Problem string `json:"problem"`
}

// CheckReport is what a check looked at and found.
type CheckReport struct {
	Blobs      int     `json:"blobs"`
	Layers     int     `json:"layers"`
	Images     int     `json:"images"`
	Tags       int     `json:"tags"`
	Containers int     `json:"containers"`
	Faults     []Fault `json:"faults"`
}

// Check proves the store: every blob and layer has its digest, every record can be read and what it refers to is there,
// nothing of a dead process lies about (that is removed first: it is no fault).
func (e *Engine) Check(ctx context.Context) (CheckReport, error) {
	var r CheckReport
	if _, err := e.Sweep(ctx); err != nil {
		r.fault("store "+e.opts.Root, err)
	}
	for _, part := range []func(context.Context, *CheckReport) error{e.checkBlobs, e.checkLayers, e.checkImages, e.checkContainers} {
		if err := part(ctx, &r); err != nil {
			return r, err
		}
	}
	return r, nil
}

func (r *CheckReport) fault(object string, err error) {
	r.Faults = append(r.Faults, Fault{object, err.Error()})
}

func (e *Engine) checkBlobs(ctx context.Context, r *CheckReport) error {
	return e.content.Walk(func(d digest.Digest, _ int64) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		r.Blobs++
		blob, _, err := e.content.Open(d)
		if err == nil {
			_, err = io.Copy(io.Discard, blob)
			err = errors.Join(err, blob.Close())
		}
		if err != nil {
			r.fault("blob "+d.String(), err)
		}
		return nil
	})
}

func (e *Engine) checkLayers(ctx context.Context, r *CheckReport) error {
	return e.layers.Walk(func(m layer.Meta) error {
		r.Layers++
		err := e.layers.Verify(ctx, m.DiffID)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			r.fault("layer "+m.DiffID.String(), err)
		}
		return nil
	})
}

func (e *Engine) checkImages(ctx context.Context, r *CheckReport) error {
	keys, err := e.images.Images.Keys()
	if err != nil {
		return err
	}
	sort.Strings(keys)
	for _, key := range keys {
		r.Images++
		object := "image sha256:" + key
		img, err := e.images.Get(ctx, digest.Digest("sha256:"+key))
		if err != nil {
			r.fault(object, err)
			continue
		}
		e.checkStack(r, object, img.DiffIDs())
	}
	tags, err := e.images.Tags.Keys()
	if err != nil {
		return err
	}
	sort.Strings(tags)
	for _, key := range tags {
		r.Tags++
		tag, err := e.images.Tags.Get(key)
		if err == nil {
			_, err = e.images.Images.Get(tag.Image.Encoded())
		}
		if err == nil && tag.Index != "" {
			err = e.checkIndex(r, "tag "+key, tag.Index)
		}
		if err != nil {
			r.fault("tag "+key, err)
		}
	}
	return nil
}

// checkIndex sees that an index, its members and their layers are there.
func (e *Engine) checkIndex(r *CheckReport, object string, d digest.Digest) error {
	x, err := e.images.Index(d)
	for _, m := range x.Members {
		e.checkStack(r, object+", "+oci.Format(m.Platform()), m.DiffIDs())
	}
	return err
}

func (e *Engine) checkContainers(_ context.Context, r *CheckReport) error {
	s, err := e.Containers()
	if err != nil {
		return err
	}
	keys, err := s.Records().Keys()
	if err != nil {
		return err
	}
	sort.Strings(keys)
	for _, key := range keys {
		r.Containers++
		rec, err := s.Records().Get(key)
		if err != nil {
			r.fault("container "+key, err)
			continue
		}
		e.checkStack(r, "container "+rec.Name, rec.Layers)
	}
	return nil
}

func (e *Engine) checkStack(r *CheckReport, object string, stack []oci.DiffID) {
	for _, id := range stack {
		if _, err := e.layers.Stat(id); err != nil {
			r.fault(object, fmt.Errorf("its layer %s: %w", id, err))
		}
	}
}

// Reset removes the whole store and the running state. Containers must be gone.
func (e *Engine) Reset(ctx context.Context) error {
	s, err := e.Containers()
	if err != nil {
		return err
	}
	all, err := s.List(ctx)
	if err != nil {
		return err
	}
	if len(all) > 0 {
		return conflictf("store %s has %d containers", e.opts.Root, len(all))
	}
	if err := e.Close(); err != nil {
		return err
	}
	e.lease = nil
	var errs []error
	for name := range storeDirs {
		errs = append(errs, os.RemoveAll(filepath.Join(e.opts.Root, name)))
	}
	return errors.Join(errs...)
}
