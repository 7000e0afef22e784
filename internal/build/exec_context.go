package build

import (
	"context"
	"fmt"
	"sync"

	"strata/internal/errdef"
)

// namedContexts are the trees of --build-context that steps have asked for.
type namedContexts struct {
	mu   sync.Mutex
	open map[string]*Context
}

// openContext gives a context by its name; "" is the build's own.
func (x *executor) openContext(ctx context.Context, name string) (*Context, error) {
	if name == "" {
		if x.deps.Context == nil {
			return nil, noContext()
		}
		return x.deps.Context, nil
	}
	x.named.mu.Lock()
	defer x.named.mu.Unlock()
	if c := x.named.open[name]; c != nil {
		return c, nil
	}
	if x.deps.OpenContext == nil {
		return nil, fmt.Errorf("context %q: %w", name, errdef.ErrUnsupported)
	}
	c, err := x.deps.OpenContext(ctx, name)
	if err != nil {
		return nil, err
	}
	c.sink, c.dockerfile = x.deps.Sink, x.plan.File.Name
	c.vertex, c.title = "context:"+name, "[context "+name+"] load from client"
	if x.named.open == nil {
		x.named.open = map[string]*Context{}
	}
	x.named.open[name] = c
	return c, nil
}

// contexts are all that are open. No step runs any more.
func (x *executor) contexts() []*Context {
	var all []*Context
	if x.deps.Context != nil {
		all = append(all, x.deps.Context)
	}
	for _, c := range x.named.open {
		all = append(all, c)
	}
	return all
}
