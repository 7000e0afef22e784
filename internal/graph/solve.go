package graph

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"strata/internal/atomicfile"
	"strata/internal/errdef"
	"strata/internal/progress"
)

// Solver runs graphs.
type Solver struct {
	Cache *Cache
	// Parallel is how many vertices are worked on at once; at least one.
	Parallel int
	// Sink takes the events; nil discards them.
	Sink progress.Sink
	// Remote is asked for what Cache does not have; nil for nothing.
	Remote Remote
	// Visit is told after a solve where each vertex has its entry; nil tells nobody.
	Visit func(Link)
}

// Solve gives the results of targets, in order. Each vertex that they need is worked on once, as soon as its inputs are
// there. The first error ends the others and is returned as it is.
func (s *Solver) Solve(ctx context.Context, targets ...*Vertex) ([]Solved, error) {
	order, err := reachable(targets)
	if err != nil {
		return nil, err
	}
	sink := s.Sink
	if sink == nil {
		sink = progress.Discard
	}
	nodes := make(map[*Vertex]*node, len(order))
	workers := make(chan struct{}, max(1, s.Parallel))
	group, gctx := errgroup.WithContext(ctx)
	for _, v := range order {
		n := &node{vertex: v, cache: s.Cache, remote: s.Remote, sink: sink, done: make(chan struct{})}
		for _, in := range v.Inputs {
			n.inputs = append(n.inputs, nodes[in])
		}
		nodes[v] = n
		group.Go(func() error { return n.solve(gctx, workers) })
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	wanted := make([]*node, len(targets))
	for i, v := range targets {
		wanted[i] = nodes[v]
	}
	if err := finish(ctx, wanted, nodes); err != nil {
		return nil, err
	}
	solved := make([]Solved, len(targets))
	for i, n := range wanted {
		solved[i] = n.solved
	}
	for _, v := range order {
		if s.Visit != nil && v.Given == nil {
			s.Visit(nodes[v].link())
		}
	}
	return solved, nil
}

// node is a vertex within one solve.
type node struct {
	vertex  *Vertex
	inputs  []*node
	cache   *Cache
	remote  Remote
	sink    progress.Sink
	started bool
	done    chan struct{}

	mu     sync.Mutex // of what follows, once done is closed
	solved Solved
	alias  Key   // as in Link
	size   int64 // of what it made in this solve
	away   *away // its result is known, but not here
	remade bool  // its result was wanted and could not be had
}

// solve waits for the inputs, then for a worker, and works.
func (n *node) solve(ctx context.Context, workers chan struct{}) error {
	for _, in := range n.inputs {
		select {
		case <-in.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	select {
	case workers <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-workers }()
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if err := n.work(ctx); err != nil {
		return n.fail(ctx, err)
	}
	close(n.done)
	return nil
}

// fail tells the end of a vertex that did not come to its result: by its own fault, or because others had to end.
func (n *node) fail(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		if n.started {
			n.emit(progress.Event{State: progress.Canceled})
		}
		return context.Cause(ctx)
	}
	n.start("")
	n.emit(progress.Event{State: progress.Failed, Error: err.Error()})
	return err
}

func (n *node) emit(e progress.Event) {
	e.Time, e.Vertex, e.Name = time.Now(), n.vertex.ID, n.vertex.Name
	n.sink.Emit(e)
}

// start tells that the vertex is worked on; a later note goes out as a status.
func (n *node) start(note string) {
	if n.started && note == "" {
		return
	}
	state := progress.Started
	if n.started {
		state = progress.Status
	}
	n.started = true
	if note == neverBuilt {
		note = "" // there is nothing to explain about a first time
	}
	n.emit(progress.Event{State: state, Note: note})
}

func (n *node) work(ctx context.Context) error {
	if n.vertex.Given != nil {
		return n.give(ctx)
	}
	return n.make(ctx)
}

// maxRounds bounds how often the keys are made anew because an input that was to be fetched had to be made again.
const maxRounds = 3

// make finds the node's result or runs it.
func (n *node) make(ctx context.Context) error {
	for range maxRounds {
		r, hit, err := n.find(ctx)
		if hit || err != nil {
			return err
		}
		changed, err := n.readyInputs(ctx, nil)
		if err != nil {
			return err
		}
		if !changed {
			return n.runLocked(ctx, r)
		}
	}
	return errNoWay(n.vertex.Name)
}

// find makes the keys and looks for a result.
func (n *node) find(ctx context.Context) (*recipe, bool, error) {
	r, err := n.define()
	if err != nil {
		return nil, false, err
	}
	if hit, err := n.hitAlias(ctx, r); hit || err != nil {
		return r, hit, err
	}
	if places := n.vertex.Selects; len(places) > 0 { // it will be looked at
		changed, err := n.readyInputs(ctx, places)
		if err != nil {
			return nil, false, err
		}
		if changed {
			if r, err = n.define(); err != nil {
				return nil, false, err
			}
		}
	}
	if err := n.look(ctx, r); err != nil {
		return nil, false, err
	}
	hit, err := n.hit(ctx, r)
	return r, hit, err
}

// runLocked runs the node unless somebody else does, and then takes what that gave.
func (n *node) runLocked(ctx context.Context, r *recipe) error {
	lock, err := n.lock(ctx, r.Key)
	if err != nil {
		return fmt.Errorf("build cache: %w", err)
	}
	// Removed while it is held: a waiter sees that its file has lost the name and makes a new one.
	defer lock.Unlock()
	defer os.Remove(n.cache.lock(r.Key))
	// Another may have run it between the look and the lock.
	if hit, err := n.hit(ctx, r); hit || err != nil {
		return err
	}
	return n.run(ctx, r)
}

// give is the work of a vertex with a given result: what it names must be there.
func (n *node) give(ctx context.Context) error {
	ok, err := n.cache.hold(ctx, n.vertex.Given)
	if err == nil && !ok {
		err = fmt.Errorf("%s: a part of it is not in the store: %w", n.vertex.noun(), errdef.ErrNotFound)
	}
	if err != nil {
		return err
	}
	result, err := canonical(n.vertex.Given)
	if err != nil {
		return err
	}
	n.solved = Solved{Result: result, Cached: true}
	n.start("")
	n.emit(progress.Event{State: progress.Cached})
	return nil
}

// recipe is what a vertex is to be made of.
type recipe struct {
	Entry
	content []Line
	inputs  []json.RawMessage
	full    Key // of the lines and all inputs; "" when that is Definition
}

// define makes the definition key.
func (n *node) define() (*recipe, error) {
	r := &recipe{}
	for _, in := range n.inputs {
		now := in.current()
		r.inputs = append(r.inputs, now.Result)
		r.Inputs = append(r.Inputs, now.Key)
	}
	lines, err := n.vertex.Op.Define(r.inputs)
	if err != nil {
		return nil, err
	}
	r.Name, r.Slot = n.vertex.Name, n.vertex.Slot
	selects := n.vertex.Selects
	r.Lines = withInputs(lines, r.inputs, selects)
	r.Definition = KeyOf(r.Lines)
	if len(selects) > 0 {
		r.full = KeyOf(withInputs(lines, r.inputs, nil))
	}
	return r, nil
}

// hitAlias is hit without a look at the content: nothing that it was taken of has changed.
func (n *node) hitAlias(ctx context.Context, r *recipe) (bool, error) {
	if r.full == "" {
		return false, nil
	}
	if r.Key = n.cache.alias(r.full); r.Key != "" {
		if hit, err := n.hit(ctx, r); hit || err != nil {
			return hit, err
		}
	}
	if n.remote == nil {
		return false, nil
	}
	if r.Key = n.remote.Alias(r.full); r.Key == "" {
		return false, nil
	}
	return n.hit(ctx, r)
}

// look makes the key, with the content where that decides.
func (n *node) look(ctx context.Context, r *recipe) (err error) {
	if r.content, err = n.vertex.Op.Content(ctx, r.inputs); err != nil {
		return err
	}
	r.Key = r.Definition
	if r.content != nil {
		r.Key = contentKey(r.Definition, r.content)
	}
	return nil
}

func (n *node) hit(ctx context.Context, r *recipe) (bool, error) {
	if n.vertex.NoCache {
		return false, nil
	}
	e, ok, err := n.cache.lookup(ctx, r.Key)
	if err != nil {
		return false, err
	}
	if !ok {
		return n.hitAway(ctx, r, e)
	}
	err = n.cache.used(r.Key, r.Slot)
	if err == nil {
		err = n.cache.setAlias(r.full, r.Key)
	}
	if err != nil {
		return false, fmt.Errorf("build cache: %w", err)
	}
	n.solved = Solved{Result: e.Result, Key: e.Key, Created: e.Created, Duration: e.Duration, Cached: true}
	n.alias = r.full
	n.start("")
	n.emit(progress.Event{State: progress.Cached})
	return true, nil
}

// lock takes the lock of key, and says so when another holds it.
func (n *node) lock(ctx context.Context, key Key) (*atomicfile.Lock, error) {
	path := n.cache.lock(key)
	lock, err := atomicfile.TryExclusive(path)
	if !errors.Is(err, errdef.ErrConflict) {
		return lock, err
	}
	n.start("waiting for the same step, which is running elsewhere")
	return atomicfile.LockExclusive(ctx, path)
}

func (n *node) run(ctx context.Context, r *recipe) error {
	r.Note = n.why(r)
	n.start(r.Note)
	out := NewOutput(n.sink, n.vertex)
	begin := time.Now()
	result, err := n.vertex.Op.Run(ctx, r.inputs, out)
	if err != nil {
		return err
	}
	if r.Result, err = canonical(result); err != nil {
		return fmt.Errorf("step %q: %w", n.vertex.Name, err)
	}
	ok, err := n.cache.hold(ctx, r.Result)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("step %q: its result was removed from the store as soon as it was made: %w", n.vertex.Name, errdef.ErrConflict)
	}
	r.Created, r.Duration, r.Size = time.Now().UTC(), time.Since(begin), out.size
	err = n.cache.put(r.Entry, r.content)
	if err == nil {
		err = n.cache.setAlias(r.full, r.Key)
	}
	if err != nil {
		return fmt.Errorf("build cache: %w", err)
	}
	n.solved = Solved{Result: r.Result, Key: r.Key, Created: r.Created, Duration: r.Duration}
	n.alias, n.size = r.full, r.Size
	n.emit(progress.Event{State: progress.Done})
	return nil
}

// why says in words why the vertex must run.
func (n *node) why(r *recipe) string {
	if n.vertex.NoCache {
		return "--no-cache"
	}
	if r.Slot == "" {
		return ""
	}
	last, err := n.cache.Last(r.Slot)
	if err != nil {
		return neverBuilt
	}
	old, err := n.cache.Get(last)
	if err != nil {
		return "its cache entry was removed"
	}
	if last == r.Key {
		return "its result is no longer in the store"
	}
	nouns := make([]string, len(n.inputs))
	for i, in := range n.inputs {
		nouns[i] = in.vertex.noun()
	}
	if note := explain(old.Lines, r.Lines, nouns); note != "" {
		return note
	}
	oldContent, total, err := n.cache.ContentLines(last)
	if err != nil {
		return "its content changed"
	}
	if note := explain(oldContent, r.content[:min(len(r.content), maxContentLines)], nil); note != "" {
		return note
	}
	return fmt.Sprintf("its content changed (%d lines before, %d now)", total, len(r.content))
}

// canonical is the one encoding of a result that its digest is taken of, the same before and after it was stored.
func canonical(result json.RawMessage) (json.RawMessage, error) {
	raw, err := json.Marshal(result)
	if err != nil {
		return nil, fmt.Errorf("result: %w: %w", errdef.ErrInvalid, err)
	}
	return raw, nil
}
