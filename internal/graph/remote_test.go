package graph_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"strata/internal/errdef"
	"strata/internal/graph"
)

// place is a store of results: what is in it exists.
type place map[string]bool

func (p place) hold(_ context.Context, result json.RawMessage) (bool, error) {
	return p[string(result)], nil
}

// far is a cache that has entries, and of some of them the results.
type far struct {
	entries map[graph.Key]graph.Exported
	has     place
	to      place
	fetched []string
}

func (f *far) Find(key graph.Key) (graph.Exported, bool) { e, ok := f.entries[key]; return e, ok }

func (f *far) Alias(graph.Key) graph.Key { return "" }

func (f *far) Fetch(_ context.Context, result json.RawMessage) (bool, error) {
	f.fetched = append(f.fetched, string(result))
	if f.has[string(result)] {
		f.to[string(result)] = true
	}
	return f.has[string(result)], nil
}

// steps is a chain of three steps whose results are kept in p; the last one takes the first one's, too.
func steps(p place, suffix string) ([]*op, *graph.Vertex) {
	var ops []*op
	var last *graph.Vertex
	for _, name := range []string{"a", "b", "c" + suffix} {
		o := &op{lines: line("the command", name)}
		o.run = func(context.Context, []json.RawMessage, *graph.Output) (json.RawMessage, error) {
			raw, err := json.Marshal(name)
			p[string(raw)] = true
			return raw, err
		}
		var inputs []*graph.Vertex
		if last != nil {
			inputs = append(inputs, last)
		}
		ops, last = append(ops, o), step(name, o, inputs...)
	}
	return ops, last
}

func runs(ops []*op) []int32 {
	var n []int32
	for _, o := range ops {
		n = append(n, o.runs.Load())
	}
	return n
}

// exported is what a solve of the chain leaves for others.
func exported(t *testing.T) map[graph.Key]graph.Exported {
	t.Helper()
	here := place{}
	c := open(t, here.hold)
	_, last := steps(here, "")
	var links []graph.Link
	s := graph.Solver{Cache: c, Parallel: 2, Visit: func(l graph.Link) { links = append(links, l) }}
	if _, err := s.Solve(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	x, err := c.Export(links)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	var back graph.Export
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	if dropped, err := back.Check(time.Now()); dropped != 0 || err != nil || len(back.Entries) != 3 {
		t.Fatalf("%d entries, %d dropped, %v", len(back.Entries), dropped, err)
	}
	all := map[graph.Key]graph.Exported{}
	for _, e := range back.Entries {
		if e.Slot != "" {
			t.Errorf("slot %q travels", e.Slot)
		}
		all[e.Key] = e
	}
	return all
}

func TestRemoteResultsComeWhenNeeded(t *testing.T) {
	entries := exported(t)
	for _, test := range []struct {
		name, suffix string
		has          []string
		runs         []int32
		fetched      []string
	}{
		{"all cached", "", []string{`"c"`}, []int32{0, 0, 0}, []string{`"c"`}},
		{"the last step changed", " new", []string{`"a"`, `"b"`, `"c"`}, []int32{0, 0, 1}, []string{`"b"`}},
		{"and its input is not there", " new", []string{`"a"`}, []int32{0, 1, 1}, []string{`"b"`, `"a"`}},
		{"nothing is there", "", nil, []int32{1, 1, 1}, []string{`"c"`, `"b"`, `"a"`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			here := place{}
			f := &far{entries: entries, has: place{}, to: here}
			for _, r := range test.has {
				f.has[r] = true
			}
			c := open(t, here.hold)
			ops, last := steps(here, test.suffix)
			s := graph.Solver{Cache: c, Parallel: 2, Remote: f}
			got, err := s.Solve(t.Context(), last)
			if err != nil {
				t.Fatal(err)
			}
			if n := runs(ops); !slices.Equal(n, test.runs) {
				t.Errorf("ran %v, want %v", n, test.runs)
			}
			if !slices.Equal(f.fetched, test.fetched) {
				t.Errorf("fetched %v, want %v", f.fetched, test.fetched)
			}
			if !here[string(got[0].Result)] {
				t.Errorf("the result %s is not here", got[0].Result)
			}
			// Again without the remote cache: what was learnt is enough.
			ops, last = steps(here, test.suffix)
			if _, err := (&graph.Solver{Cache: c, Parallel: 2}).Solve(t.Context(), last); err != nil {
				t.Fatal(err)
			}
			if n := runs(ops); !slices.Equal(n, []int32{0, 0, 0}) {
				t.Errorf("then ran %v", n)
			}
		})
	}
}

func TestCheckExport(t *testing.T) {
	good := exported(t)
	var one graph.Exported
	for _, e := range good {
		one = e
	}
	read := func(change func(x *graph.Export)) (int, int, error) {
		c := open(t, exists)
		x, err := c.Export(nil)
		if err != nil {
			t.Fatal(err)
		}
		x.Entries = []graph.Exported{one}
		change(&x)
		dropped, err := x.Check(time.Now())
		return len(x.Entries), dropped, err
	}
	for name, change := range map[string]func(e *graph.Exported){
		"another line":  func(e *graph.Exported) { e.Lines = []graph.Line{{Name: "the command", Value: "evil"}} },
		"another key":   func(e *graph.Exported) { e.Key = e.Key[1:] + "0" },
		"no key":        func(e *graph.Exported) { e.Key = "../x" },
		"no result":     func(e *graph.Exported) { e.Result = nil },
		"a null result": func(e *graph.Exported) { e.Result = json.RawMessage("null") },
		"bad alias":     func(e *graph.Exported) { e.Alias = "x" },
		"bad input":     func(e *graph.Exported) { e.Inputs = []graph.Key{"../.."} },
		"foreign content": func(e *graph.Exported) {
			e.Key, e.Content = graph.KeyOf(nil), []graph.Line{{Name: "file a", Value: "x"}}
		},
	} {
		n, dropped, err := read(func(x *graph.Export) { change(&x.Entries[0]) })
		if n != 0 || dropped != 1 || err != nil {
			t.Errorf("%s: %d entries, %d dropped, %v", name, n, dropped, err)
		}
	}
	if n, dropped, err := read(func(*graph.Export) {}); n != 1 || dropped != 0 || err != nil {
		t.Errorf("unchanged: %d entries, %d dropped, %v", n, dropped, err)
	}
	for name, change := range map[string]func(x *graph.Export){
		"another version": func(x *graph.Export) { x.Version++ },
		"another salt":    func(x *graph.Export) { x.Salt = "strata graph 0" },
	} {
		if _, _, err := read(change); !errors.Is(err, errdef.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
