package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// memoryRows are what strata holds.
func memoryRows() []workload {
	return []workload{
		{name: "process that stands by an idle container", limits: []limit{{bytes: 8 << 20}}, gauge: alone(idleShim)},
		{name: "build with COPY and RUN of 600 MB, largest process", limits: []limit{{bytes: 150 << 20}}, gauge: alone(largeBuild)},
	}
}

// alone is a gauge of strata only.
func alone(gauge func(ctx context.Context, b *bed) (int64, error)) func(context.Context, *bed, *engine) (int64, error) {
	return func(ctx context.Context, b *bed, e *engine) (int64, error) {
		if e != b.strata() {
			return 0, nil
		}
		return gauge(ctx, b)
	}
}

// idleShim is what the process that stands by a container has resident, some time after the start.
func idleShim(ctx context.Context, b *bed) (int64, error) {
	if err := b.strata().run(ctx, "run", "-d", "--name", "idle", "--network", "none", "bench/base", "sleep", "1000"); err != nil {
		return 0, err
	}
	time.Sleep(2 * time.Second)
	all, err := b.shims("VmRSS")
	if err != nil {
		return 0, err
	}
	return all[0], b.strata().run(ctx, "rm", "-f", "idle")
}

// largeBuild is the most that any process of a build of large files has resident.
func largeBuild(ctx context.Context, b *bed) (int64, error) {
	if err := b.write("large", "FROM bench/base\nCOPY large /\nRUN cat /large > /again\n"); err != nil {
		return 0, err
	}
	if err := fill(filepath.Join(b.context("large"), "large"), 600<<20); err != nil {
		return 0, err
	}
	b.strata().peak = 0
	err := b.strata().build(building{dir: b.context("large"), noCache: true}).run(ctx)
	return b.strata().peak, err
}

func fill(name string, size int64) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	chunk := make([]byte, 1<<20)
	for i := range chunk {
		chunk[i] = byte(i * 7)
	}
	for n := int64(0); n < size; n += int64(len(chunk)) {
		if _, err := f.Write(chunk); err != nil {
			return err
		}
	}
	return nil
}

// writeRandom writes a file that nothing compresses; other seeds give other bytes.
func writeRandom(name string, seed byte, size int64) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyN(f, rand.NewChaCha8([32]byte{seed}), size)
	return err
}

// shims gives a line of /proc/PID/status, in bytes, of each process that stands by a container of the bed's.
func (b *bed) shims(line string) (all []int64, err error) {
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	for _, p := range procs {
		raw, err := os.ReadFile(p)
		if err != nil || !strings.HasPrefix(string(raw), "strata-shim") || !strings.Contains(string(raw), b.dir) {
			continue
		}
		status, err := os.ReadFile(filepath.Join(filepath.Dir(p), "status"))
		if err != nil {
			return nil, err
		}
		for text := range strings.Lines(string(status)) {
			var kb int64
			if n, _ := fmt.Sscanf(text, line+": %d kB", &kb); n == 1 {
				all = append(all, kb<<10)
			}
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no shim of %s is running", b.dir)
	}
	return all, nil
}
