package build

import (
	"context"
	"maps"
	"slices"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"strata/internal/dockerfile"
)

// Outline is what may be given to a build of a target.
type Outline struct {
	Name, Description string
	Args              []OutlineArg
	Secrets, Agents   []OutlineNeed
}

// OutlineArg is a build argument that the target uses, and the value that it has.
type OutlineArg struct {
	Name, Value, Description string
	Lines                    Lines
}

// OutlineNeed is a secret or an ssh agent.
type OutlineNeed struct {
	Name     string
	Required bool
	Lines    Lines
}

// NewOutline finds what a target takes, as BuildKit does: the arguments that it declares or that its FROM lines name.
func NewOutline(ctx context.Context, f *dockerfile.File, r Resolver, o Options) (*Outline, error) {
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
	needed := reachable(target)
	for _, s := range append(slices.Clone(p.images), p.stages...) {
		if needed[s] && !s.direct() {
			if err := p.dispatchStage(s); err != nil {
				return nil, err
			}
		}
	}
	c := &outliner{p: p, global: map[string]globalArg{}, args: map[string]bool{}}
	if err := c.globals(); err != nil {
		return nil, err
	}
	c.out.Name, c.out.Description = target.src.Name, target.src.DocComment
	for _, s := range slices.Backward(c.p.stages) {
		if needed[s] {
			c.stage(s)
		}
	}
	c.out.sort()
	return &c.out, nil
}

func (o *Outline) sort() {
	slices.SortFunc(o.Args, func(a, b OutlineArg) int { return a.Lines.First - b.Lines.First })
	for _, needs := range [][]OutlineNeed{o.Secrets, o.Agents} {
		slices.SortFunc(needs, func(a, b OutlineNeed) int { return a.Lines.First - b.Lines.First })
	}
	o.Secrets, o.Agents = firstOfEach(o.Secrets), firstOfEach(o.Agents)
}

func firstOfEach(needs []OutlineNeed) []OutlineNeed {
	seen := map[string]bool{}
	return slices.DeleteFunc(needs, func(n OutlineNeed) bool {
		again := seen[n.Name]
		seen[n.Name] = true
		return again
	})
}

// outliner collects an Outline.
type outliner struct {
	p      *planner
	out    Outline
	global map[string]globalArg
	args   map[string]bool // that are in out
}

// globalArg is an ARG before the first FROM, and the arguments that its default names.
type globalArg struct {
	arg   OutlineArg
	needs map[string]struct{}
}

func (c *outliner) globals() error {
	_, metaArgs, err := c.p.file.Instructions()
	if err != nil {
		return err
	}
	for _, cmd := range metaArgs {
		first, last := dockerfile.Span(cmd.Location())
		for _, kv := range cmd.Args {
			value, _ := c.p.global.Get(kv.Key)
			g := globalArg{arg: OutlineArg{kv.Key, value, kv.DocComment, Lines{first, last}}, needs: map[string]struct{}{}}
			if _, given := c.p.args[kv.Key]; !given && kv.Value != nil {
				if x, err := c.p.file.Expand(dockerfile.Word, *kv.Value, c.p.global); err == nil {
					maps.Copy(g.needs, x.Matched)
				}
			}
			c.global[kv.Key] = g
		}
	}
	return nil
}

// use takes a global argument, and those that it is made of.
func (c *outliner) use(name string) {
	g, ok := c.global[name]
	if !ok || c.args[name] {
		return
	}
	c.args[name] = true
	c.out.Args = append(c.out.Args, g.arg)
	for n := range g.needs {
		c.use(n)
	}
}

func (c *outliner) stage(s *stage) {
	if s.out.Index < 0 {
		return
	}
	for _, word := range []string{s.src.BaseName, s.src.Platform} {
		if x, err := c.p.file.Expand(dockerfile.Word, word, c.p.global); err == nil {
			for name := range x.Matched {
				c.use(name)
			}
		}
	}
	for _, cmd := range s.commands {
		if arg, ok := cmd.Command.(*instructions.ArgCommand); ok {
			c.declared(s, arg)
		}
	}
	for _, step := range s.out.Steps {
		if step.Run == nil {
			continue
		}
		for _, m := range step.Run.Mounts {
			need := OutlineNeed{m.ID, m.Required, step.Lines}
			switch m.Type {
			case MountSecret:
				c.out.Secrets = append(c.out.Secrets, need)
			case MountSSH:
				c.out.Agents = append(c.out.Agents, need)
			}
		}
	}
}

// declared takes the arguments of an ARG. One that only repeats a global one stands where that does.
func (c *outliner) declared(s *stage, cmd *instructions.ArgCommand) {
	first, last := dockerfile.Span(cmd.Location())
	for _, kv := range cmd.Args {
		_, given := c.p.args[kv.Key]
		if _, global := c.global[kv.Key]; global && kv.Value == nil && !given {
			c.use(kv.Key)
			continue
		}
		if c.args[kv.Key] {
			continue
		}
		c.args[kv.Key] = true
		value := ""
		for _, a := range s.args {
			if a.Key == kv.Key {
				value = a.ValueString()
			}
		}
		c.out.Args = append(c.out.Args, OutlineArg{kv.Key, value, kv.DocComment, Lines{first, last}})
	}
}

// Target is a stage that may be built.
type Target struct {
	Name, Description, Base, Platform string
	Default                           bool
	Lines                             Lines
}

// Targets lists the stages of a file.
func Targets(f *dockerfile.File) ([]Target, error) {
	stages, _, err := f.Instructions()
	if err != nil {
		return nil, err
	}
	var all []Target
	for i, s := range stages {
		first, last := dockerfile.Span(s.Location)
		all = append(all, Target{s.Name, s.DocComment, s.BaseName, s.Platform, i == len(stages)-1, Lines{first, last}})
	}
	return all, nil
}
