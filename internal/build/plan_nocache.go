package build

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"strata/internal/dockerfile"
)

// markUncached marks the stages that --no-cache or --no-cache-filter names, by name in any case or by index.
func (p *planner) markUncached() {
	for i, s := range p.stages {
		s.out.NoCache = p.opts.NoCache || slices.ContainsFunc(p.opts.NoCacheFilter, func(name string) bool {
			return strings.EqualFold(name, s.display) || name == strconv.Itoa(i)
		})
	}
	for _, name := range p.opts.NoCacheFilter {
		if !slices.ContainsFunc(p.stages, func(s *stage) bool { return strings.EqualFold(name, s.display) }) {
			p.unknownFilter(name)
		}
	}
}

// unknownFilter warns of a --no-cache-filter that names no stage: most often it is misspelt.
func (p *planner) unknownFilter(name string) {
	if i, err := strconv.Atoi(name); err == nil && i >= 0 && i < len(p.stages) {
		return
	}
	text := fmt.Sprintf("--no-cache-filter %s names no stage of %s", name, p.file.Name)
	if near := dockerfile.Closest(strings.ToLower(name), p.stageNames()); near != "" {
		text += fmt.Sprintf(" (did you mean %s?)", near)
	}
	p.warn(dockerfile.Warning{Rule: "NoCacheFilter", Text: text})
}
