package graph

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"strata/internal/errdef"
	"strata/internal/progress"
)

// Vertex is one step of a graph. The same pointer stands wherever its result is needed.
type Vertex struct {
	// ID is unique in the graph: events carry it.
	ID string
	// Name is what a person reads.
	Name string
	// Noun is what explanations in other steps call the result: "base image debian:12". Empty: "the result of " + Name.
	Noun string
	// Slot is the step's place, the same from solve to solve whatever its content. Empty: its runs are not explained.
	Slot string
	// Inputs are the steps whose results it takes, in the op's order.
	Inputs []*Vertex
	// Selects are the places in Inputs of those of which the op takes a part only. What counts of them is not their results
	// but the part, which Content has lines of.
	Selects []int
	// Op is what it does; nil when the result is Given.
	Op Op
	// NoCache makes it run even if its result is known.
	NoCache bool
	// Given is the result of a step that needs no work.
	Given json.RawMessage
}

func (v *Vertex) noun() string {
	if v.Noun != "" {
		return v.Noun
	}
	return "the result of " + v.Name
}

// Op is the work of a vertex. inputs are the results of its inputs, in order. Results are JSON and must hold nothing that
// varies from run to run without meaning, for they decide the keys of what follows.
type Op interface {
	// Define gives the definition lines: what the work is, beside the inputs' results, which are added here.
	Define(inputs []json.RawMessage) ([]Line, error)
	// Content gives the lines of the content that the work selects; nil when the definition decides.
	Content(ctx context.Context, inputs []json.RawMessage) ([]Line, error)
	// Run does the work. It must end soon after ctx does, and leave nothing.
	Run(ctx context.Context, inputs []json.RawMessage, out *Output) (json.RawMessage, error)
}

// Solved is what a solve knows of a target.
type Solved struct {
	Result json.RawMessage
	// Key of the cache entry; empty when the result was given.
	Key Key
	// Created and Duration are of the run that made the result, which may have been in an earlier solve.
	Created  time.Time
	Duration time.Duration
	Cached   bool
}

// Output is where a running op tells what it is doing. Its methods may be called concurrently.
type Output struct {
	sink   progress.Sink
	vertex *Vertex
	size   int64
}

// NewOutput is the output of v to sink.
func NewOutput(sink progress.Sink, v *Vertex) *Output { return &Output{sink: sink, vertex: v} }

// Stream gives a writer for the process's standard output (1) or standard error (2).
func (o *Output) Stream(stream int) io.Writer { return logWriter{o, stream} }

// Status reports how far the work is; total is 0 when unknown.
func (o *Output) Status(note string, current, total int64) {
	o.sink.Emit(progress.Event{Time: time.Now(), Vertex: o.vertex.ID, Name: o.vertex.Name, State: progress.Status,
		Note: note, Current: current, Total: total})
}

// SetSize tells how many bytes the result takes on disk, as a hint for lists. The op calls it before it returns.
func (o *Output) SetSize(bytes int64) { o.size = bytes }

type logWriter struct {
	out    *Output
	stream int
}

func (w logWriter) Write(p []byte) (int, error) {
	w.out.sink.Emit(progress.Event{Time: time.Now(), Vertex: w.out.vertex.ID, Name: w.out.vertex.Name,
		State: progress.Log, Stream: w.stream, Data: p})
	return len(p), nil
}

// reachable lists the vertices that targets need, inputs before their users, each once.
func reachable(targets []*Vertex) ([]*Vertex, error) {
	const visiting, done = 1, 2
	state := map[*Vertex]int{}
	ids := map[string]*Vertex{}
	var order []*Vertex
	var visit func(v *Vertex) error
	visit = func(v *Vertex) error {
		switch {
		case state[v] == done:
			return nil
		case state[v] == visiting:
			return fmt.Errorf("step %q needs itself: %w", v.Name, errdef.ErrInvalid)
		case ids[v.ID] != nil:
			return fmt.Errorf("steps %q and %q have one id: %w", ids[v.ID].Name, v.Name, errdef.ErrInvalid)
		case (v.Op == nil) == (v.Given == nil):
			return fmt.Errorf("step %q: want either an op or a given result: %w", v.Name, errdef.ErrInvalid)
		}
		state[v] = visiting
		ids[v.ID] = v
		for _, in := range v.Inputs {
			if err := visit(in); err != nil {
				return err
			}
		}
		state[v] = done
		order = append(order, v)
		return nil
	}
	for _, v := range targets {
		if err := visit(v); err != nil {
			return nil, err
		}
	}
	return order, nil
}
