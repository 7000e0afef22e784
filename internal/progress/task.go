package progress

import (
	"context"
	"sync"
	"time"
)

// Task emits the events of one vertex that moves bytes. As a Writer it counts them. Counting may be done by several
// goroutines; Note and Total are set before.
type Task struct {
	// Note says in each Status what is going on.
	Note string
	// Total is how many bytes there will be; 0 when unknown.
	Total int64

	sink     Sink
	id, name string

	mu            sync.Mutex
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
	t.Add(len(b))
	return len(b), nil
}

// Add counts n bytes.
func (t *Task) Add(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.current += int64(n)
	if t.current-t.told >= reportEvery {
		t.told = t.current
		t.emit(Status, nil)
	}
}

// Restart counts from nothing again.
func (t *Task) Restart() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.current, t.told = 0, 0
}

// Say changes the note and tells it.
func (t *Task) Say(note string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Note = note
	t.emit(Status, nil)
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
