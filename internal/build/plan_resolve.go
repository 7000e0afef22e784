package build

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"golang.org/x/sync/errgroup"

	"strata/internal/dockerfile"
	"strata/internal/errdef"
	"strata/internal/oci"
	"strata/internal/reference"
)

// resolveAtOnce bounds the images that are resolved at the same time.
const resolveAtOnce = 8

// resolve gives every stage that target needs its base and the base's ONBUILD triggers, which may need further images.
func (p *planner) resolve(ctx context.Context, target *stage) error {
	for {
		needed := reachable(target)
		var order []*stage
		for _, s := range append(slices.Clone(p.images), p.stages...) {
			if needed[s] {
				order = append(order, s)
			}
		}
		if err := p.resolveBases(ctx, order); err != nil {
			return err
		}
		more := false
		for _, s := range order {
			added, err := p.addTriggers(s)
			if err != nil {
				return err
			}
			more = more || added
		}
		if !more {
			return nil
		}
	}
}

// resolveBases asks the resolver once for each name and platform, in parallel.
func (p *planner) resolveBases(ctx context.Context, stages []*stage) error {
	asked := map[string][]*stage{}
	var keys []string
	for _, s := range stages {
		if s.resolved {
			continue
		}
		if s.err != nil {
			return p.at(s.out.Lines, s.err)
		}
		s.resolved = true
		s.out.Platform = p.target
		if s.platform != nil {
			s.out.Platform = *s.platform
		}
		if s.out.Platform.OS == "windows" {
			return p.at(s.out.Lines, fmt.Errorf("platform %s: Windows images cannot be built: %w", platforms.FormatAll(s.out.Platform), errdef.ErrUnsupported))
		}
		switch {
		case s.parent != nil:
			s.out.Parent = s.parent.out
		case s.base == "scratch" || s.context.tree():
			s.out.Scratch = true
			s.out.Platform = p.target
			s.out.Image = emptyImage(p.target)
		default:
			key := s.base + " " + platforms.FormatAll(s.out.Platform)
			if asked[key] == nil {
				keys = append(keys, key)
			}
			asked[key] = append(asked[key], s)
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(resolveAtOnce)
	for _, key := range keys {
		g.Go(func() error { return p.resolveBase(ctx, asked[key]) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, s := range stages {
		p.lintBase(s)
	}
	return nil
}

// resolveBase resolves the one base that all of stages have.
func (p *planner) resolveBase(ctx context.Context, stages []*stage) error {
	s := stages[0]
	base, err := p.resolver.ResolveImage(ctx, s.base, s.out.Platform)
	if err == nil && base.Config == nil {
		err = fmt.Errorf("image %q: has no config: %w", s.base, errdef.ErrInvalid)
	}
	if err != nil {
		return p.at(s.out.Lines, p.suggestStage(s, err))
	}
	for _, s := range stages {
		b := base
		s.out.Base = &b
		s.out.Image = base.Config.Clone()
		s.out.Image.Created = nil
	}
	return nil
}

// suggestStage: whoever names an image that does not exist may have meant a stage.
func (p *planner) suggestStage(s *stage, err error) error {
	if !errors.Is(err, errdef.ErrNotFound) && !errors.Is(err, errdef.ErrInvalid) {
		return err
	}
	var upper *reference.CaseError
	if errors.As(err, &upper) && upper.Lower != "" {
		return errdef.WithHint(err, strings.Replace(p.file.Text(s.out.Lines.First, s.out.Lines.Last), upper.Name, upper.Lower, 1))
	}
	lower := strings.ToLower(s.base)
	if _, ok := p.byName[lower]; ok && lower != s.base {
		return errdef.WithHint(err, "FROM "+lower)
	}
	if near := dockerfile.Closest(lower, p.stageNames()); near != "" && near != s.src.Name {
		if s.out.Index < 0 {
			return errdef.WithHint(err, "COPY --from="+near)
		}
		return errdef.WithHint(err, "FROM "+near)
	}
	return err
}

func (p *planner) lintBase(s *stage) {
	if s.out.Base == nil || s.onbuild {
		return
	}
	img := s.out.Base.Config
	want, got := platforms.Normalize(s.out.Platform), platforms.Normalize(oci.Platform{OS: img.OS, Architecture: img.Architecture, Variant: img.Variant})
	if want.OS != got.OS || want.Architecture != got.Architecture {
		p.file.Linter(p.warn).Run(&linter.RuleInvalidBaseImagePlatform, s.src.Location,
			linter.RuleInvalidBaseImagePlatform.Format(s.base, platforms.FormatAll(want), platforms.FormatAll(got)))
	}
}

// addTriggers puts the base's ONBUILD triggers in front of the stage's own instructions, once. It tells whether they
// need a stage or an image.
func (p *planner) addTriggers(s *stage) (bool, error) {
	if s.onbuild || s.out.Index < 0 {
		return false, nil
	}
	s.onbuild = true
	var triggers []string
	if s.out.Image != nil {
		triggers = s.out.Image.Config.OnBuild
		s.out.Image.Config.OnBuild = nil
	}
	if s.parent != nil {
		for _, c := range s.parent.commands {
			if ob, ok := c.Command.(*instructions.OnbuildCommand); ok {
				triggers = append(triggers, ob.Expression)
			}
		}
	}
	var commands []command
	needs := false
	for _, t := range triggers {
		ic, err := p.file.Trigger(t, s.out.Lines.First, s.out.Lines.Last)
		if err != nil {
			return false, err
		}
		c := command{Command: ic, onbuild: true}
		p.link(s, &c)
		needs = needs || slices.ContainsFunc(c.needs(), func(s *stage) bool { return s != nil })
		commands = append(commands, c)
	}
	s.commands = append(commands, s.commands...)
	s.total += len(commands)
	return needs, nil
}

// emptyImage is what FROM scratch starts with.
func emptyImage(p oci.Platform) *oci.Image {
	img := &oci.Image{Architecture: p.Architecture, Variant: p.Variant, OS: p.OS, OSVersion: p.OSVersion, OSFeatures: slices.Clone(p.OSFeatures)}
	img.RootFS.Type = "layers"
	img.Config.WorkingDir = "/"
	return img
}

// at places an error in the file.
func (p *planner) at(l Lines, err error) error { return p.file.At(l.First, l.Last, err) }
