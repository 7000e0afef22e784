package engine

import (
	"context"
	"errors"
	"os"
	"sync"

	"strata/internal/errdef"
	"strata/internal/runtime"
)

// steps runs the containers of one build. What runs them is found and started when the first step needs it, so that a
// build of copies works without a runtime.
type steps struct {
	e *Engine

	once   sync.Once
	err    error
	runner *runtime.Runner // nil where there is no warm one
	plain  *runtime.Runtime

	ahead sync.WaitGroup
}

// ready starts what runs steps, beside what else there is to do before the first one.
func (s *steps) ready(ctx context.Context) {
	s.ahead.Go(func() { s.once.Do(func() { s.err = s.start(ctx) }) })
}

// run runs one step's bundle.
func (s *steps) run(ctx context.Context, id, bundle string, stdout, stderr *os.File) (int, error) {
	s.once.Do(func() { s.err = s.start(ctx) })
	if s.err != nil {
		return 0, s.err
	}
	stdio := runtime.Stdio{Out: stdout, Err: stderr}
	if s.runner != nil {
		return s.runner.Run(ctx, id, bundle, stdio, nil)
	}
	return s.plain.Run(ctx, id, bundle, stdio, nil)
}

func (s *steps) start(ctx context.Context) error {
	found, err := s.e.findRuntime()
	if err != nil {
		return err
	}
	dir, err := s.e.runTemp(ctx)
	if err != nil {
		return err
	}
	s.plain = &runtime.Runtime{Path: found.Path, State: stepState(dir), Filters: runtimeFilters(s.e.opts.Run)}
	s.runner, err = s.plain.Runner()
	if errors.Is(err, errdef.ErrUnavailable) {
		return nil
	}
	return err
}

// close ends what run started. No step runs any more.
func (s *steps) close() error {
	s.ahead.Wait()
	if s.runner == nil {
		return nil
	}
	return s.runner.Close()
}
