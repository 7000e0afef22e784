// Command bench runs the same work with strata and with the engines that are installed beside it, in one run and by
// turns, and prints medians and ratios. A machine's noise hits all alike that way: compare ratios, never seconds.
//
//	go run ./scripts/bench [-rounds N] [-only WORD]
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	rounds := flag.Int("rounds", 7, "times that each engine does each piece of work")
	only := flag.String("only", "", "run only the workloads with this word in their name")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute)
	defer cancel()
	if err := bench(ctx, *rounds, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context, rounds int, only string) error {
	dir, err := os.MkdirTemp("", "sb-")
	if err != nil {
		return err
	}
	b := &bed{dir: dir, run: dir, rounds: rounds}
	defer b.close(ctx)
	if b.run, err = runDir(dir); err != nil {
		return err
	}
	if err := b.setUp(ctx); err != nil {
		return err
	}
	fmt.Printf("| workload | limit | %s |\n|---|---|%s\n", strings.Join(b.names(), " | "), strings.Repeat("---|", len(b.engines)))
	for _, w := range b.workloads() {
		if !strings.Contains(w.name, only) {
			continue
		}
		if err := b.row(ctx, w); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
	}
	return b.memory(ctx)
}

// workload is one piece of work. commands gives the arguments for an engine, nil when that engine cannot do it.
type workload struct {
	name  string
	limit string
	// times that one measurement repeats the command.
	times    int
	rounds   int
	commands func(e engine) []string
}

func (b *bed) workloads() []workload {
	run := func(e engine) []string {
		switch e.name {
		case "bare runtime":
			return e.args("run", "--bundle", filepath.Join(b.dir, "bundle"), "bench-bare")
		case "buildah":
			return nil
		}
		return e.args("run", "--rm", "--network", "none", "bench/base", "true")
	}
	build := func(extra ...string) func(e engine) []string {
		return func(e engine) []string {
			switch e.name {
			case "bare runtime":
				return nil
			case "podman", "buildah":
				extra := append([]string{"--layers"}, extra...)
				return e.args(append(append([]string{"build", "--network", "host", "-t", "bench/steps"}, extra...), filepath.Join(b.dir, "steps"))...)
			case "docker":
				return e.args(append(append([]string{"build", "--network", "host", "-t", "bench/steps"}, extra...), filepath.Join(b.dir, "steps"))...)
			}
			return e.args(append(append([]string{"build", "-q", "-t", "bench/steps"}, extra...), filepath.Join(b.dir, "steps"))...)
		}
	}
	fifty := build("--no-cache")
	return []workload{
		{"version", "4 ms", 20, b.rounds, func(e engine) []string {
			if e.name != "strata" {
				return nil
			}
			return e.args("version")
		}},
		{"run --rm IMG true, no network", "2 × bare, 0.35 × docker, podman", 1, 3 * b.rounds, run},
		{"50 × RUN, no cache", "1.25 × 50 × bare", 1, min(b.rounds, 3), func(e engine) []string {
			if e.name == "bare runtime" {
				return e.args("run", "--bundle", filepath.Join(b.dir, "bundle"), "bench-bare")
			}
			return fifty(e)
		}},
		{"50 × RUN, all cached", "40 ms", 1, b.rounds, build()},
	}
}

// row measures one workload on all engines by turns and prints the medians, with strata's ratio to each.
func (b *bed) row(ctx context.Context, w workload) error {
	took := make([][]time.Duration, len(b.engines))
	for round := range w.rounds {
		for i, e := range b.engines {
			args := w.commands(e)
			if args == nil {
				continue
			}
			times := w.times
			if e.name == "bare runtime" && strings.HasPrefix(w.name, "50") {
				times = 50
			}
			start := time.Now()
			for range times {
				if err := e.run(ctx, args); err != nil {
					return err
				}
			}
			if round > 0 || w.rounds <= 3 { // the first warms caches, where that tells
				took[i] = append(took[i], time.Since(start)/time.Duration(w.times))
			}
		}
	}
	own := median(took[0])
	cells := []string{w.name, w.limit}
	for i := range b.engines {
		switch m := median(took[i]); {
		case m == 0:
			cells = append(cells, "–")
		case i == 0:
			cells = append(cells, ms(m))
		default:
			cells = append(cells, fmt.Sprintf("%s (%.2f ×)", ms(m), float64(own)/float64(m)))
		}
	}
	fmt.Println("| " + strings.Join(cells, " | ") + " |")
	return nil
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

func median(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[len(d)/2]
}

// memory prints what strata holds: a shim that waits, and a build of a large context at its peak.
func (b *bed) memory(ctx context.Context) error {
	strata := b.engines[0]
	if err := strata.run(ctx, strata.args("run", "-d", "--name", "idle", "--network", "none", "bench/base", "sleep", "1000")); err != nil {
		return err
	}
	defer func() { _ = strata.run(ctx, strata.args("rm", "-f", "idle")) }() // close tries again
	time.Sleep(2 * time.Second)
	rss, err := shimMemory(b.dir)
	if err != nil {
		return err
	}
	fmt.Printf("| idle shim, resident | 8 MB | %.1f MB |\n", float64(rss)/(1<<20))
	big := filepath.Join(b.dir, "big")
	if err := os.MkdirAll(big, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(big, "Dockerfile"), []byte("FROM bench/base\nCOPY large /\nRUN cat /large > /again\n"), 0o644); err != nil {
		return err
	}
	if err := fill(filepath.Join(big, "large"), 600<<20); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, strata.path, strata.args("build", "-q", "--no-cache", big)...)
	cmd.Env = append(os.Environ(), strata.env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	peak := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
	fmt.Printf("| build with COPY and RUN of 600 MB, peak of any process | 150 MB | %.1f MB |\n", float64(peak)/(1<<20))
	return nil
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

// shimMemory finds the process that stands by the container of the bed in dir and gives its resident bytes.
func shimMemory(dir string) (int64, error) {
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, err
	}
	for _, p := range procs {
		raw, err := os.ReadFile(p)
		if err != nil || !strings.HasPrefix(string(raw), "strata-shim") || !strings.Contains(string(raw), dir) {
			continue
		}
		status, err := os.ReadFile(filepath.Join(filepath.Dir(p), "status"))
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(status)) {
			var kb int64
			if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kb); n == 1 {
				return kb << 10, nil
			}
		}
	}
	return 0, fmt.Errorf("no shim of %s is running", dir)
}
