package engine

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"strata/internal/build"
	"strata/internal/dockerfile"
	"strata/internal/errdef"
	"strata/internal/oci"
	"strata/internal/reference"
)

// Checked is what `build --check` finds.
type Checked struct {
	File     *dockerfile.File
	Warnings []dockerfile.Warning
}

// CheckBuild looks for what a Dockerfile should not do. Nothing is run, pulled or stored. What it found until an error is
// given beside that.
func (e *Engine) CheckBuild(ctx context.Context, o BuildOptions) (Checked, error) {
	file, _, err := e.readForCall(ctx, o)
	if err != nil {
		return Checked{File: file}, err
	}
	file.Strict = false // whether warnings are errors is the caller's question
	plan, err := build.NewPlan(ctx, file, absentResolver{e}, o.plan())
	c := Checked{file, file.Warnings}
	if err == nil {
		c.Warnings = plan.Warnings
	}
	c.Warnings = slices.DeleteFunc(slices.Clone(c.Warnings), func(w dockerfile.Warning) bool { return w.First == 0 })
	return c, err
}

// OutlineBuild tells what a target takes: arguments, secrets, agents.
func (e *Engine) OutlineBuild(ctx context.Context, o BuildOptions) (*build.Outline, *dockerfile.File, error) {
	file, _, err := e.readForCall(ctx, o)
	if err != nil {
		return nil, nil, err
	}
	outline, err := build.NewOutline(ctx, file, absentResolver{e}, o.plan())
	return outline, file, err
}

// BuildTargets lists the stages of a Dockerfile.
func (e *Engine) BuildTargets(ctx context.Context, o BuildOptions) ([]build.Target, *dockerfile.File, error) {
	file, _, err := e.readForCall(ctx, o)
	if err != nil {
		return nil, nil, err
	}
	targets, err := build.Targets(file)
	return targets, file, err
}

// BuildContext opens a build's context to be listed.
func (e *Engine) BuildContext(ctx context.Context, o BuildOptions) (*build.Context, error) {
	in, err := e.openContext(ctx, &o)
	if err == nil && in == nil {
		err = errdef.WithHint(errors.Join(errors.New("this build has no context"), errdef.ErrInvalid), "name a directory, an archive or a URL")
	}
	return in, err
}

func (e *Engine) readForCall(ctx context.Context, o BuildOptions) (*dockerfile.File, *build.Context, error) {
	in, err := e.openContext(ctx, &o)
	if err != nil {
		return nil, nil, err
	}
	file, err := dockerfile.Parse(bytes.NewReader(o.Dockerfile), o.Name)
	return file, in, err
}

// absentResolver gives an empty image in place of one that is not here: what is asked of the Dockerfile alone needs no
// network.
type absentResolver struct{ e *Engine }

// ResolveImage looks in the store only.
func (r absentResolver) ResolveImage(ctx context.Context, name string, p oci.Platform) (build.Base, error) {
	base, err := resolver{r.e, PullNever, false}.ResolveImage(ctx, name, p)
	if !errors.Is(err, errdef.ErrNotFound) {
		return base, err
	}
	if _, bad := reference.Parse(name); bad != nil {
		return base, err
	}
	cfg := &oci.Image{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}
	cfg.RootFS.Type = "layers"
	return build.Base{Name: name, Config: cfg}, nil
}
