package build

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/linter"

	"strata/internal/dockerfile"
	"strata/internal/errdef"
	"strata/internal/oci"
)

// NewPlan works out what building a target of f means: it finds the stages that are needed, resolves their bases with r in
// parallel, and expands every instruction. Stages that are not needed are never resolved, and what is wrong in them is no
// error. An error that has a place in the file is a *dockerfile.Error.
func NewPlan(ctx context.Context, f *dockerfile.File, r Resolver, o Options) (*Plan, error) {
	p, err := newPlanner(f, r, o)
	if err != nil {
		return nil, err
	}
	target, err := p.findTarget(o.Target)
	if err != nil {
		return nil, err
	}
	if err := p.resolve(ctx, target); err != nil {
		return nil, err
	}
	plan := &Plan{File: f, Platform: p.target, Epoch: p.epoch}
	needed := reachable(target)
	for _, s := range append(slices.Clone(p.images), p.stages...) {
		if !needed[s] || s.direct() {
			continue
		}
		if err := p.dispatchStage(s); err != nil {
			return nil, err
		}
		plan.Stages = append(plan.Stages, s.out)
	}
	p.finish(target)
	plan.Target = target.out
	plan.Annotations = baseAnnotations(target.out)
	plan.Warnings = withoutEcho(append(slices.Clone(f.Warnings), p.warnings...))
	if err := f.StrictError(plan.Warnings); err != nil {
		return nil, err
	}
	plan.Warnings = append(plan.Warnings, p.unusedArgs()...)
	slices.SortStableFunc(plan.Warnings, func(a, b dockerfile.Warning) int { return a.First - b.First })
	return plan, nil
}

// withoutEcho leaves out the advice to use JSON where a broken exec form has been complained of.
func withoutEcho(all []dockerfile.Warning) []dockerfile.Warning {
	broken := map[int]bool{}
	for _, w := range all {
		broken[w.First] = broken[w.First] || w.Rule == dockerfile.RuleExecForm
	}
	return slices.DeleteFunc(all, func(w dockerfile.Warning) bool {
		return broken[w.First] && w.Rule == linter.RuleJSONArgsRecommended.Name
	})
}

// finish is what happens to the target's image after its last instruction.
func (p *planner) finish(target *stage) {
	img := target.out.Image
	if len(p.opts.Labels) > 0 && img.Config.Labels == nil {
		img.Config.Labels = map[string]string{}
	}
	for k, v := range p.opts.Labels {
		img.Config.Labels[k] = v
	}
	if p.explicit {
		same := img.OS == p.target.OS && img.Architecture == p.target.Architecture
		img.OS, img.Architecture = p.target.OS, p.target.Architecture
		if p.target.Variant != "" || !same {
			img.Variant = p.target.Variant
		}
		if p.target.OSVersion != "" || !same {
			img.OSVersion = p.target.OSVersion
		}
	}
	n := platforms.Normalize(oci.Platform{OS: img.OS, Architecture: img.Architecture, Variant: img.Variant})
	img.OS, img.Architecture, img.Variant = n.OS, n.Architecture, n.Variant
}

// baseAnnotations name the image at the bottom of a chain of stages.
// See image-spec, annotations.md, "Pre-Defined Annotation Keys".
func baseAnnotations(s *Stage) map[string]string {
	for s.Parent != nil {
		s = s.Parent
	}
	if s.Base == nil || strings.HasPrefix(s.Base.Name, LayoutPrefix) {
		return nil
	}
	a := map[string]string{"org.opencontainers.image.base.name": s.Base.Name}
	if s.Base.Digest != "" {
		a["org.opencontainers.image.base.digest"] = s.Base.Digest.String()
	}
	return a
}

// planner is the state of one NewPlan.
type planner struct {
	file     *dockerfile.File
	resolver Resolver
	opts     Options
	target   oci.Platform
	explicit bool // the platform was asked for, so the image says it
	args     map[string]string
	global   *dockerfile.Env // the predefined platform arguments and the ARGs before the first FROM
	defaults *dockerfile.Env // global, without the build arguments
	declared map[string]bool // every name that an ARG of the file declares
	stages   []*stage
	byName   map[string]*stage
	images   []*stage // what only COPY --from names
	epoch    *time.Time
	warnings []dockerfile.Warning
	proxy    []string
}

func newPlanner(f *dockerfile.File, r Resolver, o Options) (*planner, error) {
	p := &planner{file: f, resolver: r, opts: o, byName: map[string]*stage{}, declared: map[string]bool{}, args: map[string]string{}}
	for k, v := range o.BuildArgs {
		if v != nil {
			p.args[k] = *v
		}
	}
	switch o.Network {
	case "", "default", "none", "host":
	default:
		return nil, fmt.Errorf("network %q for the build (default, none or host): %w", o.Network, errdef.ErrInvalid)
	}
	if ref := p.args["BUILDKIT_SYNTAX"]; ref != "" {
		if err := dockerfile.CheckSyntax(ref); err != nil {
			return nil, fmt.Errorf("build argument BUILDKIT_SYNTAX: %w", err)
		}
	}
	p.target, p.explicit = platforms.Normalize(oci.Host()), false
	if o.Platform.OS != "" || o.Platform.Architecture != "" {
		p.target, p.explicit = platforms.Normalize(o.Platform), true
	}
	p.proxy = proxyEnv(p.args)
	stages, metaArgs, err := f.Instructions()
	if err != nil {
		return nil, err
	}
	last := ""
	if len(stages) > 0 {
		last = stages[len(stages)-1].Name
	}
	if err := p.setGlobal(metaArgs, last); err != nil {
		return nil, err
	}
	if err := p.setEpoch(); err != nil {
		return nil, err
	}
	p.addStages(stages)
	p.linkStages()
	p.markUncached()
	return p, nil
}

// findTarget finds the stage that is asked for.
func (p *planner) findTarget(name string) (*stage, error) {
	if name == "" {
		return p.stages[len(p.stages)-1], nil
	}
	if s, ok := p.byName[strings.ToLower(name)]; ok {
		return s, nil
	}
	if i, err := strconv.Atoi(name); err == nil && i >= 0 && i < len(p.stages) {
		return p.stages[i], nil
	}
	err := fmt.Errorf("target stage %q: %s has no such stage: %w", name, p.file.Name, errdef.ErrNotFound)
	if near := dockerfile.Closest(strings.ToLower(name), p.stageNames()); near != "" {
		return nil, errdef.WithHint(err, "--target "+near)
	}
	return nil, err
}

func (p *planner) stageNames() []string {
	names := make([]string, 0, len(p.byName))
	for n := range p.byName {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// setEpoch takes SOURCE_DATE_EPOCH from the build arguments, else from a global ARG.
func (p *planner) setEpoch() error {
	const name = "SOURCE_DATE_EPOCH"
	text, ok := p.args[name]
	if !ok {
		text, _ = p.global.Get(name)
	}
	if text == "" {
		return nil
	}
	sec, err := strconv.ParseInt(text, 10, 64)
	if err != nil || sec < 0 {
		return fmt.Errorf("%s %.40q: want seconds since 1970: %w", name, text, errdef.ErrInvalid)
	}
	t := time.Unix(sec, 0).UTC()
	p.epoch = &t
	return nil
}

// unusedArgs warns of build arguments that nothing declares: most often they are misspelt.
func (p *planner) unusedArgs() []dockerfile.Warning {
	var unused []string
	for k := range p.args {
		if !p.declared[k] && !predefinedArg(k) {
			unused = append(unused, k)
		}
	}
	slices.Sort(unused)
	var out []dockerfile.Warning
	for _, k := range unused {
		text := fmt.Sprintf("Build argument %s is not declared by any ARG", k)
		names := make([]string, 0, len(p.declared))
		for n := range p.declared {
			names = append(names, n)
		}
		if near := dockerfile.Closest(k, names); near != "" {
			text += fmt.Sprintf(" (did you mean %s?)", near)
		}
		out = append(out, dockerfile.Warning{Rule: "UnusedBuildArg", Text: text})
	}
	return out
}

func (p *planner) warn(w dockerfile.Warning) { p.warnings = append(p.warnings, w) }
