package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/go-digest"

	"strata/internal/archive"
	"strata/internal/errdef"
	"strata/internal/layer"
	"strata/internal/oci"
	"strata/internal/progress"
	"strata/internal/reference"
	"strata/internal/remote"
	"strata/internal/ship"
)

// ImageCopyOptions are those of `image copy`.
type ImageCopyOptions struct {
	// Platform to take of an image for several. The zero Platform takes all where the destination can hold them, and the one
	// for this machine where it cannot.
	Platform oci.Platform
	// NoReferrers leaves out what refers to the image: signatures, inventories.
	NoReferrers bool
}

// Copied is what a copy gave.
type Copied struct {
	// Name of the destination, as it is written there.
	Name   string
	Digest digest.Digest
	// Referrers that came along; Sent counts the blobs that were not there before, Bytes theirs.
	Referrers, Sent int
	Bytes           int64
}

// Carrier copies images between places. Store may be nil where no place is a store.
type Carrier struct {
	Client *remote.Client
	Store  *Engine
	Sink   progress.Sink
}

// Copy copies an image from one place to another. [ParsePlace] says how places are written.
func (c Carrier) Copy(ctx context.Context, from, to Place, o ImageCopyOptions) (Copied, error) {
	if to.Kind == KindStorage {
		return Copied{}, fmt.Errorf("%s: podman's storage is only read: %w", to, errdef.ErrUnsupported)
	}
	to = to.after(from)
	res, err := c.copy(ctx, from, to, o)
	if err != nil {
		if from.Kind == KindRegistry {
			err = c.missing(ctx, from.ref, err, func(name string) string { return fmt.Sprintf("image copy %s %s", name, to) })
		}
		return res, fmt.Errorf("copy %s to %s: %w", from, to, err)
	}
	if to.Kind == KindRegistry && to.ref.Tag == "" {
		to.ref = to.ref.WithDigest(res.Digest)
	}
	res.Name = to.String()
	return res, nil
}

// missing explains an error where the registry does not have what is to be copied.
func (c Carrier) missing(ctx context.Context, ref reference.Ref, cause error, example func(name string) string) error {
	if !errors.Is(cause, errdef.ErrNotFound) {
		return cause
	}
	if _, err := c.Client.Head(ctx, ref.Latest()); errors.Is(err, errdef.ErrNotFound) {
		return notThere(ctx, c.Client, ref.Latest(), err, example)
	}
	return cause
}

func (c Carrier) copy(ctx context.Context, from, to Place, o ImageCopyOptions) (Copied, error) {
	switch {
	case from.Kind == KindStore && to.Kind == KindStore:
		return c.Store.copyWithin(ctx, from, to, o)
	case from.Kind == KindStore && to.Kind == KindRegistry:
		return c.Store.copyOut(ctx, from, to, o)
	case from.Kind == KindRegistry && to.Kind == KindStore:
		return c.Store.copyIn(ctx, from, to, o)
	}
	var res Copied
	err := c.source(ctx, from, o, func(src ship.Source) error {
		if to.Kind == KindStore {
			var err error
			res, err = c.Store.take(ctx, src, to, o)
			return err
		}
		return c.target(ctx, to, func(dst ship.Target) error {
			var err error
			res, err = c.ship(ctx, src, dst, from, to, o)
			return err
		})
	})
	return res, err
}

// ship copies between two places that are no store.
func (c Carrier) ship(ctx context.Context, src ship.Source, dst ship.Target, from, to Place, o ImageCopyOptions) (Copied, error) {
	so := ship.Options{Referrers: !o.NoReferrers && to.holdsReferrers(), Serial: to.isTar(), Digest: to.ref.Digest, Sink: c.Sink}
	switch {
	case o.Platform.OS != "":
		so.Platform, so.Strict = &o.Platform, true
	case !to.holdsIndex():
		host := oci.Host()
		so.Platform = &host
	}
	if from.plain() {
		so.Compression = layer.Gzip
	}
	if r, ok := dst.(*ship.Repository); ok && from.Kind == KindRegistry {
		r.Near(from.ref)
	}
	res, err := ship.Copy(ctx, src, dst, so)
	return Copied{Digest: res.Root.Digest, Referrers: res.Referrers, Sent: res.Sent, Bytes: res.Bytes}, err
}

// source opens a place to read from, for as long as fn runs.
func (c Carrier) source(ctx context.Context, p Place, o ImageCopyOptions, fn func(ship.Source) error) error {
	switch p.Kind {
	case KindRegistry:
		return fn(ship.NewRepository(c.Client, p.ref))
	case KindStore:
		src, err := c.Store.storeSource(ctx, p.Name, o.Platform)
		if err != nil {
			return err
		}
		return fn(src)
	case KindDaemon:
		return ship.Daemon(p.Path).Save(ctx, p.Name, func(tar io.Reader) error {
			place, err := archive.ReadPlace(ctx, tar, spoolDir)
			if err != nil {
				return err
			}
			return c.placed(place, Place{Kind: KindDockerArchive}, fn)
		})
	case KindStorage:
		src, err := ship.OpenStorage(p.Path, p.Name)
		if err != nil {
			return err
		}
		return fn(src)
	}
	place, err := archive.OpenPlace(ctx, p.Path, spoolDir)
	if err != nil {
		return err
	}
	return c.placed(place, p, fn)
}

// placed finds the image in an archive or layout.
func (c Carrier) placed(in *archive.Place, p Place, fn func(ship.Source) error) error {
	find := in.Layout
	if p.Kind == KindDockerArchive {
		find = in.Docker
	}
	img, err := find(p.Name)
	if err == nil {
		err = fn(img)
	}
	return errors.Join(err, in.Close())
}

// target opens a place to write to; it is complete when fn has done its part without an error.
func (c Carrier) target(ctx context.Context, p Place, fn func(ship.Target) error) error {
	switch p.Kind {
	case KindRegistry:
		if err := owned(p.ref); err != nil {
			return err
		}
		return fn(ship.NewRepository(c.Client, p.ref))
	case KindLayout:
		all, err := archive.OpenCollection(ctx, p.Path)
		if err != nil {
			return err
		}
		return collect(all, p, fn)
	case KindDaemon:
		return ship.Daemon(p.Path).Load(ctx, func(w io.Writer) error { return writeArchive(w, p, fn) })
	}
	return replaceFile(p.Path, func(w io.Writer) error { return writeArchive(w, p, fn) })
}

// writeArchive writes a tar with one image.
func writeArchive(w io.Writer, p Place, fn func(ship.Target) error) error {
	all, err := archive.NewCollection(w, p.Kind != KindArchive)
	if err != nil {
		return err
	}
	return collect(all, p, fn)
}

// collect has fn write one image into a collection.
func collect(all *archive.Collection, p Place, fn func(ship.Target) error) error {
	image := all.Tagged(p.Name)
	if ref, err := reference.Parse(p.Name); err == nil && p.named() {
		image = all.Image(ref.Latest().String())
	}
	if err := fn(image); err != nil {
		all.Abandon()
		return err
	}
	return all.Close()
}

// spoolDir is where an archive lies that cannot be read in place: not in /tmp, which may be memory.
func spoolDir() (string, error) {
	if dir := os.Getenv("TMPDIR"); dir != "" {
		return dir, nil
	}
	return "/var/tmp", nil
}
