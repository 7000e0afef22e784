package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"strata/internal/base"
	"strata/internal/build"
	"strata/internal/dockerfile"
	"strata/internal/errdef"
	"strata/internal/image"
	"strata/internal/oci"
	"strata/internal/reference"
)

// Pull says when a named image is fetched from its registry.
type Pull string

// The pull policies, docker's words. The zero Pull is PullMissing.
const (
	PullMissing Pull = "missing"
	PullAlways  Pull = "always"
	PullNever   Pull = "never"
)

// ParsePull reads the value of --pull; "" and the booleans that docker's build takes are understood.
func ParsePull(s string) (Pull, error) {
	switch s {
	case "", "missing", "false":
		return PullMissing, nil
	case "always", "true":
		return PullAlways, nil
	case "never":
		return PullNever, nil
	}
	return "", fmt.Errorf("pull policy %q (always, missing or never): %w", s, errdef.ErrInvalid)
}

// Resolve finds an image by tag, name@digest, id or unique prefix of an id, and holds it while the engine is open. The
// built-in bases are made on the spot; what is not here is pulled when the policy says so.
func (e *Engine) Resolve(ctx context.Context, name string, pull Pull) (image.Image, error) {
	if base.Is(name) {
		return e.builtin(ctx, name)
	}
	if pull == PullAlways {
		return e.pullOne(ctx, name, PullOptions{})
	}
	img, err := e.images.Pin(ctx, name)
	switch {
	case errors.Is(err, errdef.ErrNotFound) && pull != PullNever && !image.IsID(name):
		return e.pullMissing(ctx, name, PullOptions{}, err)
	case errors.Is(err, errdef.ErrNotFound), errors.Is(err, errdef.ErrInvalid):
		return img, e.elsewhere(name, missing(name, err))
	}
	return img, err
}

// pullMissing fetches an image that somebody needs and that is not here, as the error absent says.
func (e *Engine) pullMissing(ctx context.Context, name string, o PullOptions, absent error) (image.Image, error) {
	if e.opts.Missing != nil {
		e.opts.Missing(name)
	}
	img, err := e.pullOne(ctx, name, o)
	if err == nil {
		return img, nil
	}
	if wrong := notImage(name); wrong != nil {
		return img, wrong
	}
	if other := e.elsewhere(name, absent); other != absent {
		return img, other
	}
	return img, err
}

func (e *Engine) pullOne(ctx context.Context, name string, o PullOptions) (image.Image, error) {
	pulled, err := e.Pull(ctx, name, o)
	if err != nil {
		return image.Image{}, err
	}
	return pulled[0].Image, nil
}

// missing adds to "not found", or to a name that no image can have, what a person most likely meant.
func missing(name string, err error) error {
	if wrong := notImage(name); wrong != nil {
		return wrong
	}
	if errdef.Hint(err) != "" || errors.Is(err, errdef.ErrInvalid) {
		return err
	}
	return errdef.WithHint(err, "see what is here with 'strata images'; bring an image in with 'strata pull', 'strata load' or 'strata build'")
}

// Tag gives an image a further name.
func (e *Engine) Tag(ctx context.Context, source, name string) error {
	img, err := e.Resolve(ctx, source, PullNever)
	if err != nil {
		return err
	}
	b, err := e.withIndex(ctx, source, img)
	if err != nil {
		return err
	}
	return e.taggedBuilt(ctx, name, b, "tag")
}

// RemoveImageOptions are those of rmi.
type RemoveImageOptions struct{ Force, NoPrune bool }

// RemoveImages removes images by docker's rules, each as far as it goes, then frees what nothing refers to any more.
// What was done is returned beside an error too.
func (e *Engine) RemoveImages(ctx context.Context, names []string, o RemoveImageOptions) ([]image.Deleted, error) {
	used, err := e.usedBy(ctx, nil)
	if err != nil {
		return nil, err
	}
	var done []image.Deleted
	var errs []error
	for _, name := range names {
		d, err := e.removeImage(ctx, name, image.RemoveOptions{Force: o.Force, NoPrune: o.NoPrune, UsedBy: used, Busy: e.busy})
		done = append(done, d...)
		if err != nil {
			errs = append(errs, err)
		}
	}
	if len(done) > 0 {
		if _, err := e.Sweep(ctx); err != nil {
			errs = append(errs, err)
		}
	}
	return done, errors.Join(errs...)
}

// busy reports whether another living process holds the image: it may have put it just now, and be about to tag it.
func (e *Engine) busy(id digest.Digest) (bool, error) { return e.leases.Holds(image.ImageName(id)) }

// applyChanges applies Dockerfile instructions that only change the config, as commit and import take them, in order.
func applyChanges(ctx context.Context, img *oci.Image, changes []string) error {
	for _, change := range changes {
		f, err := dockerfile.Parse(strings.NewReader("FROM base\n"+change+"\n"), "--change")
		if err != nil {
			return err
		}
		if err := changesConfig(f); err != nil {
			return fmt.Errorf("--change %q: %w", change, err)
		}
		plan, err := build.NewPlan(ctx, f, given{img}, build.Options{})
		if err != nil {
			return err
		}
		// A WORKDIR is a step of a build because it makes the directory; a container's is made when it starts.
		makes := func(s *build.Step) bool { return s.Kind != build.KindWorkdir }
		if slices.ContainsFunc(plan.Target.Steps, makes) {
			return fmt.Errorf("--change %q: it changes more than the config: %w", change, errdef.ErrInvalid)
		}
		img.Config = plan.Target.Image.Config
	}
	return nil
}

// changeable are the instructions that commit and import take.
const changeable = "CMD ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL ONBUILD STOPSIGNAL USER VOLUME WORKDIR"

// changesConfig refuses, behind the base, all but instructions that only change the config.
func changesConfig(f *dockerfile.File) error {
	words := f.Words()[1:]
	if len(words) == 0 {
		return fmt.Errorf("no instruction: %w", errdef.ErrInvalid)
	}
	for _, word := range words {
		if !slices.Contains(strings.Fields(changeable), strings.ToUpper(word)) {
			return errdef.WithHint(fmt.Errorf("%s is not a valid change command: %w", strings.ToLower(word), errdef.ErrInvalid), "these can be changed: "+changeable)
		}
	}
	return nil
}

// given resolves every name to one config.
type given struct{ img *oci.Image }

func (g given) ResolveImage(context.Context, string, oci.Platform) (build.Base, error) {
	return build.Base{Name: "base", Config: g.img}, nil
}

// fullName checks a tag that a verb was given and writes it in full.
func fullName(name string) (string, error) {
	ref, err := reference.Parse(name)
	if err != nil {
		return "", err
	}
	if ref.Digest != "" {
		return "", fmt.Errorf("tag %q: a digest cannot be given to an image: %w", name, errdef.ErrInvalid)
	}
	return ref.Latest().String(), nil
}
