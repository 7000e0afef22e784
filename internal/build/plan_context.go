package build

import (
	"fmt"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"strata/internal/dockerfile"
	"strata/internal/errdef"
	"strata/internal/reference"
)

// How the value of a --build-context begins that is no tree of files.
const (
	contextImage  = "docker-image://"
	contextTarget = "target:"
	// LayoutPrefix begins the name of an image in an OCI layout: "oci-layout://DIR[:TAG][@DIGEST]".
	LayoutPrefix = "oci-layout://"
)

// ContextName is the name under which --build-context and FROM find each other: an image's as docker shortens it, without
// ":latest".
func ContextName(name string) (string, error) {
	ref, err := reference.Parse(name)
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(ref.Familiar(), ":latest"), nil
}

// named is a --build-context.
type named struct{ name, value string }

// tree: it is files, not an image or a stage.
func (n *named) tree() bool {
	return n != nil && !strings.HasPrefix(n.value, contextImage) && !strings.HasPrefix(n.value, LayoutPrefix) && !strings.HasPrefix(n.value, contextTarget)
}

// context gives the --build-context that takes the place of a stage or an image called name; nil when there is none.
func (p *planner) context(name string) *named {
	if len(p.opts.Contexts) == 0 || name == "" || strings.EqualFold(name, "scratch") || strings.EqualFold(name, "context") {
		return nil
	}
	short, err := ContextName(name)
	if err != nil {
		return nil // what is wrong with it is said when it is asked for
	}
	value, ok := p.opts.Contexts[short]
	if !ok {
		return nil
	}
	return &named{short, value}
}

// replace makes s what a --build-context says, if one has its name or that of its base. A stage of that name does nothing of
// what stands in the file.
func (p *planner) replace(s *stage) {
	if s.context = p.context(s.src.Name); s.context != nil {
		s.err, s.parent, s.src.Commands = nil, nil, nil
	} else if s.parent == nil {
		s.context = p.context(s.base)
	}
	p.useContext(s)
}

// useContext gives s the base that its context means.
func (p *planner) useContext(s *stage) {
	if s.context == nil {
		return
	}
	value := s.context.value
	if name, ok := strings.CutPrefix(value, contextTarget); ok {
		if s.parent = p.byName[strings.ToLower(name)]; s.parent == nil {
			s.err = fmt.Errorf("context %q is %s: no stage of that name stands before it: %w", s.context.name, value, errdef.ErrNotFound)
		}
		return
	}
	s.base = strings.TrimPrefix(value, contextImage)
}

// direct: s only stands for the files of a context, in a COPY or a mount, and is no stage.
func (s *stage) direct() bool { return s != nil && s.out.Index < 0 && s.context.tree() }

// fromContext makes a context's files the first step of a stage: FROM names the context, as BuildKit has it.
func (p *planner) fromContext(s *stage) {
	name := s.name("FROM "+s.context.name, false)
	at := s.out.Lines
	cp := &Copy{Context: s.context.name, Sources: []Source{{Written: ".", Path: "."}}, Dest: "/"}
	p.step(s, Step{Kind: KindCopy, Copy: cp}, command{}, at, name, "[context "+s.context.name+"] load from client")
}

// takeFrom says of which stage, image or context the sources are.
func (c *Copy) takeFrom(from *stage) {
	switch {
	case from == nil:
	case from.direct():
		c.Context = from.context.name
	default:
		c.From = from.out
	}
}

// namedStage is the stage that COPY --from or a mount calls by its name, or through a --build-context.
func (p *planner) namedStage(from string) (*stage, bool) {
	if found, ok := p.byName[strings.ToLower(from)]; ok {
		return found, true
	}
	c := p.context(from)
	if c == nil {
		return nil, false
	}
	target, ok := strings.CutPrefix(c.value, contextTarget)
	if !ok {
		return nil, false
	}
	found, ok := p.byName[strings.ToLower(target)]
	return found, ok
}

// contextStage is the stage that stands for an image or a context that only a COPY or a mount names.
func (p *planner) contextStage(c instructions.Command, from string) *stage {
	first, last := dockerfile.Span(c.Location())
	s := &stage{base: from, src: instructions.Stage{Location: c.Location(), BaseName: from}, context: p.context(from)}
	s.out = &Stage{Index: -1, ID: "image:" + from, Lines: Lines{first, last}, NoCache: p.opts.NoCache}
	p.useContext(s)
	return s
}
