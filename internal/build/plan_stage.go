package build

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"strata/internal/dockerfile"
	"strata/internal/errdef"
	"strata/internal/oci"
)

// stage is a [Stage] in the making.
type stage struct {
	out      *Stage
	src      instructions.Stage
	base     string        // what FROM names, expanded
	platform *oci.Platform // what FROM --platform asks for
	err      error         // what is wrong with FROM: told when the stage is needed
	parent   *stage
	context  *named // the --build-context that it stands for, or its base does
	commands []command
	resolved bool // the base is known
	onbuild  bool // the base's triggers have been put in front of the commands

	display  string // name in step names; empty in a file of one stage
	total    int    // of the numbered steps, as buildx counts them
	numbered int    // steps that have their number

	env        *dockerfile.Env // variables in scope: ENV and ARG
	args       []instructions.KeyValuePairOptional
	workdirSet bool
	seen       map[string][]parser.Range // where CMD, ENTRYPOINT and HEALTHCHECK stood last
}

// command is an instruction of a stage.
type command struct {
	instructions.Command
	from    *stage   // of COPY --from
	mounts  []*stage // of each RUN --mount: what its "from" means, nil without one
	err     error    // what is wrong with --from: told when the stage is needed
	onbuild bool
}

// addStages makes a stage of each FROM.
func (p *planner) addStages(stages []instructions.Stage) {
	for i, src := range stages {
		first, last := dockerfile.Span(src.Location)
		s := &stage{src: src, seen: map[string][]parser.Range{}, display: src.Name}
		if s.display == "" {
			s.display = fmt.Sprintf("stage-%d", i)
		}
		s.out = &Stage{Index: i, ID: p.stageID(s.display), Name: src.Name, Lines: Lines{first, last}, NoCache: p.opts.NoCache}
		s.err = p.expandFrom(s)
		if parent, ok := p.byName[s.base]; ok {
			s.parent = parent
		}
		p.replace(s)
		if s.base != "scratch" && s.parent == nil {
			s.total = 1
		}
		for _, c := range s.src.Commands {
			switch c.(type) {
			case *instructions.AddCommand, *instructions.CopyCommand, *instructions.RunCommand, *instructions.WorkdirCommand:
				s.total++
			}
			s.commands = append(s.commands, command{Command: c})
		}
		p.stages = append(p.stages, s)
		if src.Name != "" {
			p.byName[src.Name] = s
		}
	}
}

// stageID makes a name unique: a file may have two stages of one name.
func (p *planner) stageID(name string) string {
	id := name
	for n := 2; ; n++ {
		taken := false
		for _, s := range p.stages {
			taken = taken || s.out.ID == id
		}
		if !taken {
			return id
		}
		id = fmt.Sprintf("%s#%d", name, n)
	}
}

// expandFrom works out what FROM names and for which platform.
func (p *planner) expandFrom(s *stage) error {
	name, err := p.file.Expand(dockerfile.Word, s.src.BaseName, p.global)
	if err != nil {
		return err
	}
	lint := p.lintFrom(s, name)
	if name.Text == "" {
		return fmt.Errorf("FROM %s names nothing: its arguments are empty", s.src.BaseName)
	}
	s.base = name.Text
	if s.src.Platform == "" {
		return nil
	}
	plat, err := p.file.Expand(dockerfile.Word, s.src.Platform, p.global)
	if err != nil {
		return err
	}
	if plat.Text == "" {
		return fmt.Errorf("--platform=%s is empty: its arguments are", s.src.Platform)
	}
	parsed, err := platforms.Parse(plat.Text)
	if err != nil {
		return fmt.Errorf("--platform=%s: %w: %w", s.src.Platform, err, errdef.ErrInvalid)
	}
	s.platform = &parsed
	p.lintPlatform(s, plat, parsed, lint)
	return nil
}

func (p *planner) lintFrom(s *stage, name dockerfile.Expansion) *linter.Linter {
	lint := p.file.Linter(p.warn).WithMergedConfigFromComments(s.src.Comments)
	for v := range name.Unmatched {
		if !p.declared[v] {
			lint.Run(&linter.RuleUndefinedArgInFrom, s.src.Location, linter.RuleUndefinedArgInFrom.Format(v, dockerfile.Closest(v, p.global.Keys())))
		}
	}
	if x, err := p.file.Expand(dockerfile.Word, s.src.BaseName, p.defaults); err == nil && !plausibleName(x.Text) {
		lint.Run(&linter.RuleInvalidDefaultArgInFrom, s.src.Location, linter.RuleInvalidDefaultArgInFrom.Format(s.src.BaseName))
	}
	return lint
}

// plausibleName tells whether a name has no part that an empty argument left blank.
func plausibleName(name string) bool {
	return name != "" && !strings.HasPrefix(name, ":") && !strings.HasPrefix(name, "/") && !strings.Contains(name, "//") &&
		!strings.ContainsRune(":/@-._", rune(name[len(name)-1])) && !strings.Contains(name, ":@") && !strings.Contains(name, "/:")
}

func (p *planner) lintPlatform(s *stage, text dockerfile.Expansion, parsed oci.Platform, lint *linter.Linter) {
	if len(text.Matched)+len(text.Unmatched) == 0 {
		if !strings.Contains(s.src.Name, parsed.OS) && !strings.Contains(s.src.Name, parsed.Architecture) {
			lint.Run(&linter.RuleFromPlatformFlagConstDisallowed, s.src.Location, linter.RuleFromPlatformFlagConstDisallowed.Format(text.Text))
		}
		return
	}
	target, _ := p.global.Get("TARGETPLATFORM")
	if _, ok := text.Matched["TARGETPLATFORM"]; ok && len(text.Matched) == 1 && len(text.Unmatched) == 0 && text.Text == target {
		lint.Run(&linter.RuleRedundantTargetPlatform, s.src.Location, linter.RuleRedundantTargetPlatform.Format(s.src.Platform))
	}
}

// linkStages finds what each COPY --from means and what each ARG declares, in every stage, needed or not: names of later
// stages count.
func (p *planner) linkStages() {
	for _, s := range p.stages {
		for i := range s.commands {
			p.link(s, &s.commands[i])
			if c, ok := s.commands[i].Command.(*instructions.ArgCommand); ok {
				p.declare(c)
			}
		}
	}
	if len(p.stages)+len(p.images) == 1 {
		p.stages[0].display = ""
	}
}

// declare remembers the names that an ARG declares.
func (p *planner) declare(c *instructions.ArgCommand) {
	for _, a := range c.Args {
		p.declared[a.Key] = true
	}
}

// link finds the stages or images that COPY --from and RUN --mount=from mean.
func (p *planner) link(s *stage, c *command) {
	switch ic := c.Command.(type) {
	case *instructions.CopyCommand:
		if ic.From != "" {
			c.from, c.err = p.source(s, ic, "COPY --from="+ic.From, ic.From)
		}
	case *instructions.RunCommand:
		for _, m := range instructions.GetMounts(ic) {
			var from *stage
			if m.From != "" && c.err == nil {
				from, c.err = p.source(s, ic, "RUN --mount=from="+m.From, m.From)
			}
			c.mounts = append(c.mounts, from)
		}
	}
}

// needs are the stages that the command takes files from.
func (c *command) needs() []*stage { return append(c.mounts[:len(c.mounts):len(c.mounts)], c.from) }

// source finds the stage or image that an instruction calls from; flag is how it says so.
func (p *planner) source(s *stage, c instructions.Command, flag, from string) (*stage, error) {
	if x, err := p.file.Expand(dockerfile.Word, from, dockerfile.NewEnv(nil)); err != nil || x.Text != from {
		return nil, errdef.WithHint(fmt.Errorf("%s: variables are not expanded here", flag),
			"make a stage of it, FROM "+from+" AS source with the ARG before the first FROM, and name that stage: from=source")
	}
	var found *stage
	if i, err := strconv.Atoi(from); err == nil {
		if i < 0 || i >= len(p.stages) {
			return nil, fmt.Errorf("%s: there is no stage of that number, they are 0 to %d", flag, len(p.stages)-1)
		}
		found = p.stages[i]
	} else if named, ok := p.namedStage(from); ok {
		found = named
	} else {
		return p.image(c, from), nil
	}
	switch {
	case found == s:
		return nil, fmt.Errorf("%s: a stage cannot take files from itself", flag)
	case found.out.Index > s.out.Index:
		return nil, fmt.Errorf("%s: the stage must stand before the one that takes files from it", flag)
	}
	return found, nil
}

// image is the stage that stands for an image that only a COPY or a mount names.
func (p *planner) image(c instructions.Command, from string) *stage {
	for _, s := range p.images {
		if s.src.BaseName == from {
			return s
		}
	}
	s := p.contextStage(c, from)
	s.seen = map[string][]parser.Range{}
	p.images = append(p.images, s)
	return s
}

// reachable is the set of stages that target needs, itself included.
func reachable(target *stage) map[*stage]bool {
	seen := map[*stage]bool{}
	todo := []*stage{target}
	for len(todo) > 0 {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if s == nil || seen[s] {
			continue
		}
		seen[s] = true
		todo = append(todo, s.parent)
		for _, c := range s.commands {
			todo = append(todo, c.needs()...)
		}
	}
	return seen
}
