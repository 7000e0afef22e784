package build

import (
	"time"

	"strata/internal/graph"
	"strata/internal/oci"
)

// image assembles the target's config: its layers, and in the history which steps made one, and when.
//
// The image is as old as its newest step, not as this call: building again what is all cached gives the same image.
func (x *executor) image(chain []*Step, solved []graph.Solved) (*oci.Image, error) {
	img := x.plan.Target.Image.Clone()
	final, err := decodeState(solved[len(solved)-1].Result)
	if err != nil {
		return nil, err
	}
	img.RootFS = oci.RootFS{Type: "layers", DiffIDs: final.Layers}
	if img.RootFS.DiffIDs == nil {
		img.RootFS.DiffIDs = []oci.DiffID{}
	}
	base := x.baseOf(x.plan.Target)
	made := make(map[int]graph.Solved, len(chain)) // by place in the history
	for i, step := range chain {
		made[step.History] = solved[i]
	}
	at, entries, layers := x.bottom(base, solved)
	for i := entries; i < len(img.History); i++ {
		entry := &img.History[i]
		if s, ok := made[i]; ok {
			now, err := decodeState(s.Result)
			if err != nil {
				return nil, err
			}
			entry.EmptyLayer = len(now.Layers) == layers
			layers = len(now.Layers)
			if s.Created.After(at) {
				at = s.Created
			}
		}
		entry.Created = x.clamp(at)
	}
	img.Created = x.clamp(at)
	return img, nil
}

func (x *executor) baseOf(s *Stage) *Base {
	for s.Parent != nil {
		s = s.Parent
	}
	return s.Base
}

// bottom tells when the history of the build's own entries begins, after how many of the base's entries and layers.
func (x *executor) bottom(base *Base, solved []graph.Solved) (at time.Time, entries, layers int) {
	if base != nil {
		entries, layers = len(base.Config.History), len(base.Layers)
		if c := base.Config.Created; c != nil {
			at = *c
		}
	}
	// What stands before the first step is as old as that step's start; an image that is all config is as old as its base.
	if first := solved[0]; !first.Created.IsZero() {
		if start := first.Created.Add(-first.Duration); start.After(at) {
			at = start
		}
	} else if at.IsZero() {
		at = time.Now().UTC()
	}
	return at, entries, layers
}

// clamp makes the epoch of a reproducible build of a time of this build, whatever the clock says.
func (x *executor) clamp(at time.Time) *time.Time {
	if e := x.plan.Epoch; e != nil {
		at = e.UTC()
	}
	return &at
}
