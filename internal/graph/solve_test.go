package graph_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"strata/internal/errdef"
	"strata/internal/graph"
	"strata/internal/progress"
)

// op is a step whose every part a test can set.
type op struct {
	lines   []graph.Line
	content []graph.Line
	run     func(ctx context.Context, inputs []json.RawMessage, out *graph.Output) (json.RawMessage, error)
	runs    atomic.Int32
}

func (o *op) Define([]json.RawMessage) ([]graph.Line, error) { return o.lines, nil }

func (o *op) Content(context.Context, []json.RawMessage) ([]graph.Line, error) {
	return o.content, nil
}

func (o *op) Run(ctx context.Context, inputs []json.RawMessage, out *graph.Output) (json.RawMessage, error) {
	o.runs.Add(1)
	if o.run != nil {
		return o.run(ctx, inputs, out)
	}
	return json.Marshal(o.lines)
}

// events keeps what a solve emits.
type events struct {
	mu  sync.Mutex
	all []progress.Event
}

func (e *events) Emit(ev progress.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	ev.Data = append([]byte(nil), ev.Data...)
	e.all = append(e.all, ev)
}

func (e *events) of(id string) string {
	var states []string
	for _, ev := range e.all {
		if ev.Vertex == id {
			states = append(states, string(ev.State))
		}
	}
	return strings.Join(states, " ")
}

func (e *events) note(id string) string {
	for _, ev := range e.all {
		if ev.Vertex == id && ev.Note != "" {
			return ev.Note
		}
	}
	return ""
}

func exists(context.Context, json.RawMessage) (bool, error) { return true, nil }

func open(t testing.TB, hold graph.Hold) *graph.Cache {
	t.Helper()
	c, err := graph.Open(t.TempDir(), hold)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func step(id string, o graph.Op, inputs ...*graph.Vertex) *graph.Vertex {
	return &graph.Vertex{ID: id, Name: "RUN " + id, Slot: "test/" + id, Op: o, Inputs: inputs}
}

func solve(t testing.TB, c *graph.Cache, targets ...*graph.Vertex) (*events, []graph.Solved) {
	t.Helper()
	ev := &events{}
	got, err := (&graph.Solver{Cache: c, Parallel: 4, Sink: ev}).Solve(t.Context(), targets...)
	if err != nil {
		t.Fatal(err)
	}
	return ev, got
}

func line(name, value string) []graph.Line { return []graph.Line{{Name: name, Value: value}} }

func TestRunThenCached(t *testing.T) {
	c := open(t, exists)
	o := &op{lines: line("the command", "make")}
	ev, first := solve(t, c, step("a", o))
	if got := ev.of("a"); got != "started done" {
		t.Errorf("first: %s", got)
	}
	if got := ev.note("a"); got != "" {
		t.Errorf("a first time was explained: %q", got)
	}
	ev, second := solve(t, c, step("a", o))
	if got := ev.of("a"); got != "started cached" {
		t.Errorf("second: %s", got)
	}
	if o.runs.Load() != 1 {
		t.Errorf("ran %d times", o.runs.Load())
	}
	if string(first[0].Result) != string(second[0].Result) || !second[0].Cached || !second[0].Created.Equal(first[0].Created) {
		t.Errorf("first %+v, second %+v", first[0], second[0])
	}
	if locks, _ := filepath.Glob(filepath.Join(c.Dir(), "locks", "*")); len(locks) != 0 {
		t.Errorf("locks left: %v", locks)
	}
}

func TestResultsChainKeys(t *testing.T) {
	c := open(t, exists)
	same := func(context.Context, []json.RawMessage, *graph.Output) (json.RawMessage, error) {
		return json.RawMessage(` {"html": "<&>"} `), nil
	}
	below := &op{lines: line("the command", "two")}
	solve(t, c, step("b", below, step("a", &op{lines: line("the command", "one"), run: same})))
	ev, _ := solve(t, c, step("b", below, step("a", &op{lines: line("the command", "one, written anew"), run: same})))
	if ev.of("a") != "started done" || ev.of("b") != "started cached" {
		t.Errorf("a: %s, b: %s", ev.of("a"), ev.of("b"))
	}
	if got, want := ev.note("a"), "the command changed: one → one, written anew"; got != want {
		t.Errorf("note %q, want %q", got, want)
	}
}

func TestContentDecides(t *testing.T) {
	c := open(t, exists)
	o := &op{lines: line("from", "."), content: line("file package.json", "0644 sha256:aa")}
	solve(t, c, step("a", o))
	o.content = append(line("file package.json", "0644 sha256:bb"), line("file src/a.go", "0644 sha256:cc")...)
	ev, solved := solve(t, c, step("a", o))
	if got, want := ev.note("a"), "package.json changed, file src/a.go is new"; got != want {
		t.Errorf("note %q, want %q", got, want)
	}
	lines, total, err := c.ContentLines(solved[0].Key)
	if err != nil || total != 2 || len(lines) != 2 {
		t.Errorf("content lines %v, %d, %v", lines, total, err)
	}
	o.content = line("file package.json", "0644 sha256:aa")
	if ev, _ = solve(t, c, step("a", o)); ev.of("a") != "started cached" {
		t.Errorf("back again: %s", ev.of("a"))
	}
	o.content = line("file package.json", "0755 sha256:aa")
	ev, _ = solve(t, c, step("a", o))
	if got, want := ev.note("a"), "package.json changed: 0644 → 0755"; got != want {
		t.Errorf("the slot must lead to the last hit: note %q, want %q", got, want)
	}
}

func TestManyContentLinesAreCapped(t *testing.T) {
	c := open(t, exists)
	o := &op{content: make([]graph.Line, 100_001)}
	for i := range o.content {
		o.content[i] = graph.Line{Name: fmt.Sprintf("file %d", i), Value: "sha256:aa"}
	}
	solve(t, c, step("a", o))
	o.content[100_000].Value = "sha256:bb"
	ev, solved := solve(t, c, step("a", o))
	if got := ev.note("a"); !strings.HasPrefix(got, "its content changed") {
		t.Errorf("note %q", got)
	}
	if lines, total, _ := c.ContentLines(solved[0].Key); len(lines) != 100_000 || total != 100_001 {
		t.Errorf("%d lines of %d", len(lines), total)
	}
}

func TestInputNoun(t *testing.T) {
	c := open(t, exists)
	base := func(result string) *graph.Vertex {
		return &graph.Vertex{ID: "base", Name: "FROM debian", Noun: "base image debian", Given: json.RawMessage(result)}
	}
	o := &op{lines: line("the command", "make")}
	solve(t, c, step("a", o, base(`{"layers":["1"]}`)))
	ev, _ := solve(t, c, step("a", o, base(`{"layers":["2"]}`)))
	if got := ev.note("a"); got != "base image debian changed" {
		t.Errorf("note %q", got)
	}
	if got := ev.of("base"); got != "started cached" {
		t.Errorf("base: %s", got)
	}
}

func TestUnusableResultIsMadeAgain(t *testing.T) {
	var gone atomic.Bool
	c := open(t, func(context.Context, json.RawMessage) (bool, error) { return !gone.Swap(false), nil })
	o := &op{}
	solve(t, c, step("a", o))
	gone.Store(true)
	// The second look, under the lock, must not take it either.
	ev := &events{}
	looks := 0
	c2, err := graph.Open(c.Dir(), func(context.Context, json.RawMessage) (bool, error) { looks++; return looks > 2, nil })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (&graph.Solver{Cache: c2, Parallel: 1, Sink: ev}).Solve(t.Context(), step("a", o)); err != nil {
		t.Fatal(err)
	}
	if o.runs.Load() != 2 || ev.note("a") != "its result is no longer in the store" {
		t.Errorf("ran %d times, note %q", o.runs.Load(), ev.note("a"))
	}
}

func TestGivenResultMustExist(t *testing.T) {
	c := open(t, func(context.Context, json.RawMessage) (bool, error) { return false, nil })
	v := &graph.Vertex{ID: "base", Name: "FROM x", Noun: "base image x", Given: json.RawMessage(`{}`)}
	_, err := (&graph.Solver{Cache: c}).Solve(t.Context(), v)
	if !errors.Is(err, errdef.ErrNotFound) || !strings.Contains(err.Error(), "base image x") {
		t.Errorf("got %v", err)
	}
}

func TestNoCacheRunsAndReplaces(t *testing.T) {
	c := open(t, exists)
	n := 0
	o := &op{run: func(context.Context, []json.RawMessage, *graph.Output) (json.RawMessage, error) {
		n++
		return json.Marshal(n)
	}}
	solve(t, c, step("a", o))
	v := step("a", o)
	v.NoCache = true
	ev, _ := solve(t, c, v)
	if ev.note("a") != "--no-cache" {
		t.Errorf("note %q", ev.note("a"))
	}
	if _, got := solve(t, c, step("a", o)); string(got[0].Result) != "2" || !got[0].Cached {
		t.Errorf("got %s", got[0].Result)
	}
}

func TestDamagedEntryIsAMiss(t *testing.T) {
	c := open(t, exists)
	o := &op{content: line("file a", "sha256:aa")}
	_, got := solve(t, c, step("a", o))
	for _, bad := range []string{"", "{", `{"key":"zz"}`, `{"key":"` + strings.Repeat("0", 64) + `","result":1}`} {
		path := filepath.Join(c.Dir(), "entries", string(got[0].Key)+".json")
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if ev, _ := solve(t, c, step("a", o)); ev.of("a") != "started done" {
			t.Errorf("entry %q: %s", bad, ev.of("a"))
		}
	}
}

func TestFailureCancelsOthers(t *testing.T) {
	c := open(t, exists)
	boom := errors.New("boom")
	running := make(chan struct{})
	slow := step("slow", &op{lines: line("n", "slow"), run: func(ctx context.Context, _ []json.RawMessage, _ *graph.Output) (json.RawMessage, error) {
		close(running)
		<-ctx.Done()
		return nil, errors.New("killed")
	}})
	bad := step("bad", &op{run: func(context.Context, []json.RawMessage, *graph.Output) (json.RawMessage, error) {
		<-running
		return nil, boom
	}})
	never := &op{lines: line("x", "y")}
	ev := &events{}
	_, err := (&graph.Solver{Cache: c, Parallel: 2, Sink: ev}).Solve(t.Context(), step("top", never, slow, bad))
	if !errors.Is(err, boom) {
		t.Errorf("error %v", err)
	}
	if ev.of("bad") != "started failed" || ev.of("slow") != "started canceled" || ev.of("top") != "" || never.runs.Load() != 0 {
		t.Errorf("bad: %s, slow: %s, top: %s", ev.of("bad"), ev.of("slow"), ev.of("top"))
	}
}

func TestCancel(t *testing.T) {
	c := open(t, exists)
	ctx, cancel := context.WithCancel(t.Context())
	ev := &events{}
	v := step("a", &op{run: func(ctx context.Context, _ []json.RawMessage, _ *graph.Output) (json.RawMessage, error) {
		cancel()
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	_, err := (&graph.Solver{Cache: c, Sink: ev}).Solve(ctx, v)
	if !errors.Is(err, context.Canceled) || ev.of("a") != "started canceled" {
		t.Errorf("error %v, events %s", err, ev.of("a"))
	}
}

func TestEachVertexOnceAndBounded(t *testing.T) {
	c := open(t, exists)
	var now, most atomic.Int32
	counted := func(context.Context, []json.RawMessage, *graph.Output) (json.RawMessage, error) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(time.Millisecond)
		now.Add(-1)
		return json.RawMessage(`{}`), nil
	}
	shared := &op{lines: line("shared", ""), run: counted}
	root := step("shared", shared)
	var targets []*graph.Vertex
	for i := range 20 {
		id := fmt.Sprint(i)
		targets = append(targets, step(id, &op{lines: line("id", id), run: counted}, root, root))
	}
	if _, err := (&graph.Solver{Cache: c, Parallel: 3}).Solve(t.Context(), targets...); err != nil {
		t.Fatal(err)
	}
	if shared.runs.Load() != 1 || most.Load() > 3 {
		t.Errorf("shared ran %d times, %d at once", shared.runs.Load(), most.Load())
	}
}

func TestEqualKeysRunOnceAcrossSolvers(t *testing.T) {
	dir := t.TempDir()
	o := &op{lines: line("the command", "slow"), run: func(context.Context, []json.RawMessage, *graph.Output) (json.RawMessage, error) {
		time.Sleep(20 * time.Millisecond)
		return json.RawMessage(`{}`), nil
	}}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			c, err := graph.Open(dir, exists)
			if err != nil {
				t.Error(err)
				return
			}
			v := step(fmt.Sprint(i), o)
			if _, err := (&graph.Solver{Cache: c, Parallel: 2}).Solve(t.Context(), v); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if o.runs.Load() != 1 {
		t.Errorf("ran %d times", o.runs.Load())
	}
}

func TestWaiterRunsAfterFailedHolder(t *testing.T) {
	c := open(t, exists)
	var calls atomic.Int32
	o := &op{run: func(context.Context, []json.RawMessage, *graph.Output) (json.RawMessage, error) {
		if calls.Add(1) == 1 {
			time.Sleep(10 * time.Millisecond)
			return nil, errors.New("no luck")
		}
		return json.RawMessage(`{}`), nil
	}}
	var wg sync.WaitGroup
	var failed atomic.Int32
	for range 2 {
		wg.Go(func() {
			if _, err := (&graph.Solver{Cache: c}).Solve(t.Context(), step("a", o)); err != nil {
				failed.Add(1)
			}
		})
	}
	wg.Wait()
	if failed.Load() != 1 || calls.Load() != 2 {
		t.Errorf("%d failed, %d calls", failed.Load(), calls.Load())
	}
}

func TestBadGraphs(t *testing.T) {
	c := open(t, exists)
	a, b := step("a", &op{}), step("b", &op{})
	a.Inputs, b.Inputs = []*graph.Vertex{b}, []*graph.Vertex{a}
	for name, v := range map[string]*graph.Vertex{
		"cycle":   a,
		"same id": step("x", &op{}, step("y", &op{}), step("y", &op{})),
		"no work": {ID: "n"},
	} {
		if _, err := (&graph.Solver{Cache: c}).Solve(t.Context(), v); !errors.Is(err, errdef.ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestOutput(t *testing.T) {
	c := open(t, exists)
	o := &op{run: func(_ context.Context, _ []json.RawMessage, out *graph.Output) (json.RawMessage, error) {
		fmt.Fprint(out.Stream(2), "hello")
		out.Status("hashing", 1, 2)
		out.SetSize(42)
		return json.RawMessage(`{}`), nil
	}}
	ev, got := solve(t, c, step("a", o))
	if ev.of("a") != "started log status done" {
		t.Errorf("events %s", ev.of("a"))
	}
	if e, err := c.Get(got[0].Key); err != nil || e.Size != 42 || e.Name != "RUN a" || e.Note != "never built here" {
		t.Errorf("entry %+v, %v", e, err)
	}
}

func BenchmarkHit(b *testing.B) {
	c := open(b, exists)
	v := step("a", &op{lines: []graph.Line{{Name: "the command", Value: "make"}, {Name: "environment PATH", Value: "/usr/bin:/bin"}}})
	solve(b, c, v)
	for b.Loop() {
		solve(b, c, v)
	}
}
