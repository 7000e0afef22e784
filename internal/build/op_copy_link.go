package build

import (
	"context"
	"encoding/json"
	"strings"

	"strata/internal/graph"
)

// copies makes v the vertex of a COPY or ADD on its first input. Of the tree that it copies from, what it selects counts, not
// the layers: a stage that was built again and gave the same files disturbs nobody.
func (x *executor) copies(v *graph.Vertex, common op, c *Copy) {
	if c.From != nil {
		v.Selects = []int{len(v.Inputs)}
		v.Inputs = append(v.Inputs, x.last[c.From])
	}
	v.Op = &copyOp{op: common, copy: c}
}

// linked makes two vertices of a COPY --link: one for its layer, which knows nothing of the stage's tree, so that it is not
// made again for another base; and v, which puts the layer upon that tree.
func (x *executor) linked(s *Stage, step *Step, v *graph.Vertex, common op) *graph.Vertex {
	layer := &graph.Vertex{ID: v.ID + "/layer", Name: v.Name, Noun: "the layer of " + v.Name, NoCache: s.NoCache, Inputs: []*graph.Vertex{x.scratch()}}
	if v.Slot != "" {
		layer.Slot = v.Slot + " layer"
	}
	x.copies(layer, common, step.Copy)
	v.Name = linkName(v.Name)
	v.Inputs = append(v.Inputs, layer)
	v.Op = &linkOp{common}
	return v
}

// linkName is how BuildKit calls the second half: "[2/2] LINK COPY …".
func linkName(name string) string {
	number, rest, ok := strings.Cut(name, "] ")
	if !ok {
		return "LINK " + name
	}
	return number + "] LINK " + rest
}

// scratch is the empty tree.
func (x *executor) scratch() *graph.Vertex {
	if x.empty == nil {
		x.empty = &graph.Vertex{ID: "internal:scratch", Name: "[internal] FROM scratch", Noun: "the empty base", Given: json.RawMessage(`{"layers":[]}`)}
	}
	return x.empty
}

// linkOp puts the layers of its second input upon those of its first.
type linkOp struct{ op }

func (o *linkOp) Define([]json.RawMessage) ([]graph.Line, error) {
	return o.lines(graph.Line{Name: "the layers", Value: "linked"}), nil
}

func (o *linkOp) Content(context.Context, []json.RawMessage) ([]graph.Line, error) { return nil, nil }

func (o *linkOp) Run(_ context.Context, inputs []json.RawMessage, _ *graph.Output) (json.RawMessage, error) {
	below, err := decodeState(inputs[0])
	if err != nil {
		return nil, err
	}
	above, err := decodeState(inputs[1])
	if err != nil {
		return nil, err
	}
	return state{append(below.Layers[:len(below.Layers):len(below.Layers)], above.Layers...)}.encode()
}
