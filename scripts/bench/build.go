package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// buildRows are builds whose time goes into steps.
func buildRows() []workload {
	return []workload{
		{
			name:   "50 × RUN, no cache",
			limits: []limit{{than: bareRuntime, ratio: 1.25}, {than: "BuildKit", ratio: 0.4}},
			rounds: 3, cold: true,
			prepare: fifty,
			do: func(b *bed, e *engine) *task {
				if e.name == bareRuntime {
					return repeated(e.start("true"), 50)
				}
				return e.build(building{dir: b.context("steps"), noCache: true})
			},
		},
		{
			name:    "50 × RUN, all cached",
			limits:  []limit{{most: 40 * time.Millisecond}, {than: "BuildKit", ratio: 0.5}},
			prepare: fifty,
			do:      func(b *bed, e *engine) *task { return e.build(building{dir: b.context("steps")}) },
		},
		{
			name:   "10 stages of work on 2 processors",
			limits: []limit{{than: bareRuntime, ratio: 1.1}},
			rounds: 3, cold: true,
			prepare: independent,
			do: func(b *bed, e *engine) *task {
				if e.name == bareRuntime {
					return &task{run: func(ctx context.Context) error { return twoByTwo(ctx, e, b) }}
				}
				return e.build(building{dir: b.context("stages"), noCache: true})
			},
		},
		{
			name:    "1-byte RUN on 100,000 files in 60 layers, over the same on one layer",
			limits:  []limit{{most: 15 * time.Millisecond}},
			rounds:  15,
			prepare: tall,
			do: func(b *bed, e *engine) *task {
				if e != b.strata() {
					return nil
				}
				return e.build(building{dir: b.context("on-tall"), noCache: true})
			},
			over: func(b *bed, e *engine) *task { return e.build(building{dir: b.context("on-one"), noCache: true}) },
		},
	}
}

// repeated is a task done several times.
func repeated(t *task, times int) *task {
	return &task{run: func(ctx context.Context) error {
		for range times {
			if err := t.run(ctx); err != nil {
				return err
			}
		}
		return nil
	}}
}

// fifty writes the Dockerfile of fifty trivial steps.
func fifty(_ context.Context, b *bed) error {
	var df strings.Builder
	df.WriteString("FROM bench/base\n")
	for i := range 50 {
		fmt.Fprintf(&df, "RUN echo %d > /file%d\n", i, i)
	}
	return b.write("steps", df.String())
}

// stages is how many stages independent has, work what each of them does.
const (
	stages = 10
	work   = "i=0; while [ $i -lt 80000 ]; do i=$((i+1)); done"
)

// independent writes the Dockerfile of stages that do not need each other, and a last one that needs all. For the bare
// runtime it makes a bundle for each, whose trees are one.
func independent(_ context.Context, b *bed) error {
	var df strings.Builder
	for i := range stages {
		fmt.Fprintf(&df, "FROM bench/base AS s%d\nRUN %s && echo %d > /n\n", i, work, i)
	}
	df.WriteString("FROM scratch\n")
	for i := range stages {
		fmt.Fprintf(&df, "COPY --from=s%d /n /n%d\n", i, i)
	}
	return b.write("stages", df.String())
}

// twoByTwo is the ideal schedule: the stages' work alone, one container of the bare runtime for each processor.
func twoByTwo(ctx context.Context, e *engine, b *bed) error {
	if err := editSpec(b.bundle(), "sh", "-c", work); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2)
	for i := range stages {
		g.Go(func() error { return e.run(ctx, "run", "--bundle", b.bundle(), fmt.Sprintf("bench-%d", i)) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return editSpec(b.bundle(), "true")
}

// tall builds a base of 100,000 files in 60 layers, and writes the Dockerfiles of a small step on it and on the bench's own.
func tall(ctx context.Context, b *bed) error {
	const layers, files = 59, 1700
	df := "FROM bench/base\n"
	if err := b.write("tall", ""); err != nil {
		return err
	}
	for i := range layers {
		dir := fmt.Sprintf("l%d", i)
		if err := grow(b.context("tall")+"/"+dir, files, 100); err != nil {
			return err
		}
		df += fmt.Sprintf("COPY %s /%s\n", dir, dir)
	}
	if err := b.write("tall", df); err != nil {
		return err
	}
	if err := b.strata().build(building{dir: b.context("tall")}).run(ctx); err != nil {
		return err
	}
	for name, base := range map[string]string{"on-tall": "bench/tall", "on-one": "bench/base"} {
		if err := b.write(name, "FROM "+base+"\nRUN echo > /byte\n"); err != nil {
			return err
		}
	}
	return nil
}
