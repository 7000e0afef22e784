package main

import (
	"context"
	"time"
)

// startRows are what it costs to start something.
func startRows() []workload {
	return []workload{
		{
			name: "version", limits: []limit{{most: 4 * time.Millisecond}}, times: 20,
			do: func(b *bed, e *engine) *task {
				if e != b.strata() {
					return nil
				}
				return &task{run: func(ctx context.Context) error { return e.run(ctx, "version") }}
			},
		},
		{
			name:   "run --rm IMG true, no network",
			limits: []limit{{than: bareRuntime, ratio: 2}, {than: "docker", ratio: 0.35}, {than: "podman", ratio: 0.35}, {than: "podman 5", ratio: 0.35}},
			rounds: 15,
			do:     func(_ *bed, e *engine) *task { return e.start("true") },
		},
	}
}
