// Package progress is the stream of events in which long operations tell what they are doing.
//
// Producers (the solver, loads, later pulls) emit; the command line renders. An event is about one vertex: a step of a
// build, a layer of a load. Events of one vertex come in order: Started, any number of Log and Status, then exactly one
// of Cached, Done, Failed or Canceled. Events of different vertices interleave.
//
// This package must never know what a vertex is.
package progress

import "time"

// State says what an event reports of its vertex.
type State string

// The states of a vertex. Log and Status leave the vertex running; the last four end it.
const (
	Started  State = "started"
	Log      State = "log"
	Status   State = "status"
	Cached   State = "cached"
	Done     State = "done"
	Failed   State = "failed"
	Canceled State = "canceled"
)

// Event is one report. Fields that a state does not need are zero.
type Event struct {
	// Time at which it happened.
	Time time.Time `json:"time"`
	// Vertex is stable within one operation and tells steps with equal names apart.
	Vertex string `json:"vertex"`
	// Name is what a person reads: "[build 2/4] RUN make".
	Name string `json:"name,omitempty"`
	// State of the vertex.
	State State `json:"state"`
	// Stream of a Log event: 1 is standard output, 2 is standard error.
	Stream int `json:"stream,omitempty"`
	// Data of a Log event: raw bytes, cut anywhere.
	Data []byte `json:"data,omitempty"`
	// Current and Total of a Status event, in bytes; Total is 0 when unknown.
	Current int64 `json:"current,omitempty"`
	Total   int64 `json:"total,omitempty"`
	// Note says why a step ran although something like it was cached, or what a Status is about.
	Note string `json:"note,omitempty"`
	// Error of a Failed event.
	Error string `json:"error,omitempty"`
}

// Sink takes events. Emit must be safe for concurrent use and must not keep Data.
type Sink interface {
	Emit(Event)
}

// Func makes a function a Sink.
type Func func(Event)

// Emit calls f.
func (f Func) Emit(e Event) { f(e) }

// Discard is the Sink of those who do not look.
var Discard Sink = Func(func(Event) {})
