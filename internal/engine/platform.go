package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/platforms"

	"strata/internal/base"
	"strata/internal/errdef"
	"strata/internal/image"
	"strata/internal/oci"
	"strata/internal/reference"
)

// ResolveFor is [Engine.Resolve] for a platform: what the name stands for here if it is an image for it; else another
// platform's image under the same name; else what its registry has. The name keeps pointing to what it pointed to.
func (e *Engine) ResolveFor(ctx context.Context, name string, p oci.Platform, pull Pull) (image.Image, error) {
	if base.Is(name) {
		img, err := e.builtin(ctx, name)
		if err == nil && !isFor(p, img) {
			err = fmt.Errorf("base %s: there is only %s, not %s: %w", name, oci.Format(img.Platform()), oci.Format(p), errdef.ErrUnsupported)
			err = errdef.WithHint(err, "build that stage on this machine's platform: FROM --platform=$BUILDPLATFORM "+name)
		}
		return img, err
	}
	o := PullOptions{Platform: p, Unnamed: !isFor(p, image.Image{Config: hostConfig()})}
	if pull == PullAlways {
		return e.pullOne(ctx, name, o)
	}
	img, err := e.images.Pin(ctx, name)
	switch {
	case err == nil && isFor(p, img):
		return img, nil
	case err == nil:
		return e.otherPlatform(ctx, name, img, p, pull)
	case errors.Is(err, errdef.ErrNotFound) && pull != PullNever && !image.IsID(name):
		return e.pullMissing(ctx, name, o, err)
	case errors.Is(err, errdef.ErrNotFound), errors.Is(err, errdef.ErrInvalid):
		return img, e.elsewhere(name, missing(name, err))
	}
	return img, err
}

// otherPlatform finds the image for a platform where the name stands for img, which is for another one.
func (e *Engine) otherPlatform(ctx context.Context, name string, img image.Image, p oci.Platform, pull Pull) (image.Image, error) {
	if other, ok, err := e.sibling(ctx, name, img, p); ok || err != nil {
		return other, err
	}
	absent := fmt.Errorf("image %q is here for %s only, and not for %s: %w", name, oci.Format(img.Platform()), oci.Format(p), errdef.ErrNotFound)
	if pull == PullNever {
		return image.Image{}, absent
	}
	other, err := e.pullOne(ctx, name, PullOptions{Platform: p, Unnamed: true})
	if err != nil {
		err = fmt.Errorf("%w; %w", absent, err)
	}
	return other, err
}

// sibling finds the image for a platform among those that belong to img: members of the index that name stands for, and
// what a registry has under the same name with digest.
func (e *Engine) sibling(ctx context.Context, name string, img image.Image, p oci.Platform) (image.Image, bool, error) {
	x, ok, err := e.images.PinIndex(ctx, name)
	if err != nil {
		return img, false, err
	}
	if ok {
		if i := slices.IndexFunc(x.Members, func(m image.Image) bool { return isFor(p, m) }); i >= 0 {
			return x.Members[i], true, nil
		}
	}
	records, err := e.images.Images.All()
	if err != nil {
		return img, false, err
	}
	for _, rec := range records {
		shared := func(d string) bool { return slices.Contains(img.RepoDigests, d) }
		if rec.ID == img.ID || !slices.ContainsFunc(rec.RepoDigests, shared) {
			continue
		}
		other, err := e.images.Pin(ctx, rec.ID.String())
		if err == nil && isFor(p, other) {
			return other, true, nil
		}
		if err != nil && !errors.Is(err, errdef.ErrNotFound) {
			return img, false, err
		}
	}
	return img, false, nil
}

// isFor reports whether an image is one for the platform: that it would run there is not enough.
func isFor(p oci.Platform, img image.Image) bool {
	return platforms.OnlyStrict(platforms.Normalize(p)).Match(platforms.Normalize(oci.Platform{
		OS: img.Config.OS, Architecture: img.Config.Architecture, Variant: img.Config.Variant,
	}))
}

func hostConfig() *oci.Image {
	h := oci.Host()
	return &oci.Image{OS: h.OS, Architecture: h.Architecture, Variant: h.Variant}
}

// built is what a build gave or a name stands for: one image, or an index of several and the one of these that stands for
// it on this machine.
type built struct {
	main  image.Image
	index *image.Index
}

// withIndex adds to the image that name was resolved to the index that it stands for, if it does.
func (e *Engine) withIndex(ctx context.Context, name string, img image.Image) (built, error) {
	b := built{main: img}
	if _, err := reference.Parse(name); err != nil {
		return b, nil //nolint:nilerr // an id
	}
	x, ok, err := e.images.PinIndex(ctx, name)
	if ok {
		b.index = &x
	}
	return b, err
}
