package graph

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"strata/internal/errdef"
	"strata/internal/progress"
)

// Remote is a cache that lies elsewhere. It is asked by keys that were made here, never the other way round, so that what it
// says of keys need not be believed.
type Remote interface {
	// Find gives the entry that it has under key.
	Find(key Key) (Exported, bool)
	// Alias gives the key of the entry of a step that takes parts of its inputs, by the key of all of them; "" without one.
	Alias(full Key) Key
	// Fetch brings here what result names. False: it cannot be had, and the step must run.
	Fetch(ctx context.Context, result json.RawMessage) (bool, error)
}

// Link leads from a vertex of a solve to its entry in the cache.
type Link struct {
	Key Key
	// Alias leads to Key; "" for a step that takes its inputs whole.
	Alias Key
	// Entry of a remote cache whose result is not here: nobody needed it.
	Away *Exported
	// Ran: it was not cached. Size is what it said that it takes on disk.
	Ran  bool
	Size int64
}

// current is what is known of the node now: a result that lies elsewhere may be made again, with another outcome.
func (n *node) current() Solved {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.solved
}

// elsewhere looks for an entry whose result is not here: in the remote cache, else e, if such a one was kept.
func (n *node) elsewhere(key Key, e Entry) (Exported, bool) {
	if n.remade {
		return Exported{}, false
	}
	if n.remote != nil {
		if x, ok := n.remote.Find(key); ok {
			return x, true
		}
	}
	if !e.Away {
		return Exported{}, false
	}
	lines, total, err := n.cache.ContentLines(key)
	return Exported{Entry: e, Content: lines, ContentTotal: total}, err == nil
}

// hitAway takes the name of a result that lies elsewhere. What it names is fetched, or made, only when somebody needs it.
func (n *node) hitAway(ctx context.Context, r *recipe, e Entry) (bool, error) {
	x, ok := n.elsewhere(r.Key, e)
	if !ok {
		return false, nil
	}
	held, err := n.cache.hold(ctx, x.Result)
	if err != nil {
		return false, err
	}
	n.solved = Solved{Result: x.Result, Key: r.Key, Created: x.Created, Duration: x.Duration, Cached: true}
	n.away = &away{entry: x, slot: r.Slot}
	n.alias = r.full
	if held {
		if err := n.adopt(false); err != nil {
			return false, err
		}
	}
	n.start("")
	n.emit(progress.Event{State: progress.Cached})
	return true, nil
}

// away is an entry whose result is not here.
type away struct {
	entry Exported
	slot  string
}

// adopt keeps an entry as if the step had run here; with stays, as one whose result did not come along.
func (n *node) adopt(stays bool) error {
	e := n.away.entry.Entry
	e.Slot, e.Away = n.away.slot, stays
	if stays {
		e.Size = 0
	}
	lines := n.away.entry.Content
	if len(lines) == 0 && e.Key != e.Definition {
		lines = []Line{}
	}
	err := n.cache.put(e, lines)
	if err == nil {
		err = n.cache.setAlias(n.alias, e.Key)
	}
	if err != nil {
		return fmt.Errorf("build cache: %w", err)
	}
	if !stays {
		n.away = nil
	}
	return nil
}

// ready sees that what the node's result names is here: by fetching it, else by running the step after all.
func (n *node) ready(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.away == nil {
		return nil
	}
	ok, err := n.fetch(ctx)
	if err != nil {
		return err
	}
	if ok {
		return n.adopt(false)
	}
	// Another vertex for whoever watches: this one has ended.
	v := *n.vertex
	v.ID += " again"
	n.vertex, n.started, n.remade, n.away = &v, false, true, nil
	if err := n.make(ctx); err != nil {
		return n.fail(ctx, err)
	}
	return nil
}

// fetch brings the result here, if it can be had.
func (n *node) fetch(ctx context.Context) (bool, error) {
	if n.remote != nil {
		if ok, err := n.remote.Fetch(ctx, n.solved.Result); !ok || err != nil {
			return false, err
		}
	}
	return n.cache.hold(ctx, n.solved.Result)
}

// readyInputs sees that the inputs at the places (all of them for nil) can be worked on. changed: one of them has another
// result now.
func (n *node) readyInputs(ctx context.Context, places []int) (changed bool, err error) {
	for i, in := range n.inputs {
		if places != nil && !slices.Contains(places, i) {
			continue
		}
		before := string(in.current().Result)
		if err := in.ready(ctx); err != nil {
			return false, err
		}
		changed = changed || string(in.current().Result) != before
	}
	return changed, nil
}

// link is what is told of a node after a solve.
func (n *node) link() Link {
	l := Link{Key: n.solved.Key, Alias: n.alias, Ran: !n.solved.Cached, Size: n.size}
	if n.away != nil {
		l.Away = &n.away.entry
	}
	return l
}

// finish brings the targets' results here, the last one first: that is the whole of which the others are parts. Of what
// nobody needed the entries are kept.
func finish(ctx context.Context, targets []*node, all map[*Vertex]*node) error {
	for i := len(targets) - 1; i >= 0; i-- {
		if err := targets[i].ready(ctx); err != nil {
			return err
		}
	}
	for _, n := range all {
		if n.away != nil {
			if err := n.adopt(true); err != nil {
				return err
			}
		}
	}
	return nil
}

// errNoWay is of a step whose inputs change whenever they are looked at.
func errNoWay(name string) error {
	return fmt.Errorf("step %q: the results that it needs change each time they are made: %w", name, errdef.ErrConflict)
}
