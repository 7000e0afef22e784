package progress

import (
	"context"
	"time"
)

// Task emits the events of one vertex that moves bytes. As a Writer it counts them.
type Task struct {
	// Note says in each Status what is going on.
	Note string
	// Total is how many bytes there will be; 0 when unknown.
	Total int64

	sink          Sink
	id, name      string
	current, told int64
}

// reportEvery is how many bytes pass between two Status events.
const reportEvery = 1 << 20

// Begin starts a vertex.
func Begin(sink Sink, id, name string) *Task {
	t := &Task{sink: sink, id: id, name: name}
	t.emit(Started, nil)
	return t
}

// Write counts b.
func (t *Task) Write(b []byte) (int, error) {
	t.current += int64(len(b))
	if t.current-t.told >= reportEvery {
		t.told = t.current
		t.emit(Status, nil)
	}
	return len(b), nil
}

// End ends the vertex: cached when nothing had to be done, failed or canceled when err says so.
func (t *Task) End(ctx context.Context, cached bool, err error) {
	switch {
	case err != nil && ctx.Err() != nil:
		t.emit(Canceled, nil)
	case err != nil:
		t.emit(Failed, err)
	case cached:
		t.emit(Cached, nil)
	default:
		t.emit(Done, nil)
	}
}

func (t *Task) emit(state State, err error) {
	e := Event{Time: time.Now(), Vertex: t.id, Name: t.name, State: state, Current: t.current, Total: t.Total}
	if state == Status {
		e.Note = t.Note
	}
	if err != nil {
		e.Error = err.Error()
	}
	t.sink.Emit(e)
}
