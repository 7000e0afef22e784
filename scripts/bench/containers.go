package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// many is how many containers stand side by side in the rows of many.
const many = 100

// containerRows are what it costs to live with containers, with the networks that each engine gives them by itself.
func containerRows() []workload {
	third := []limit{{than: "docker", ratio: 0.35}}
	return []workload{
		{
			name: "run --rm IMG true, default bridge", rounds: 15,
			limits: []limit{{than: "docker", ratio: 0.35}, {than: "podman", ratio: 0.35}},
			do:     living(func(e *engine) *task { return e.command("run", "--rm", "bench/base", "true") }),
		},
		{name: "run -d", limits: third, do: living(func(e *engine) *task {
			return e.command("run", "-d", "--name", "one", "bench/base", "sleep", "1000").after(e, "rm", "-f", "one")
		})},
		{name: "exec true", limits: third, do: living(func(e *engine) *task {
			return e.command("exec", "one", "true").beside(e)
		})},
		{name: "stop of a process that ends when it is asked to", limits: third, do: living(func(e *engine) *task {
			return e.command("stop", "one").beside(e)
		})},
		{name: "rm", limits: third, do: living(func(e *engine) *task {
			return e.command("rm", "one").after(e, "rm", "-f", "one").after(e, "run", "--name", "one", "bench/base", "true")
		})},
		{
			name: fmt.Sprintf("%d containers up, ps, stats --no-stream, all removed", many), rounds: 1, cold: true,
			limits: []limit{{than: "docker", ratio: 0.5}}, do: living(hundred),
		},
		{name: fmt.Sprintf("processes that stand by %d containers, each", many), limits: []limit{{bytes: 8 << 20}}, gauge: alone(manyShims)},
		logRow(256, 200, 250), logRow(128, 40, 50),
		{name: "process that stands by a container while it logs 256 MB", limits: []limit{{bytes: 16 << 20}}, gauge: alone(loggingShim)},
	}
}

// living gives do for engines that have docker's commands for containers.
func living(do func(e *engine) *task) func(*bed, *engine) *task {
	return func(_ *bed, e *engine) *task {
		if !e.networks {
			return nil
		}
		return do(e)
	}
}

// command is the task of one command line of the engine.
func (e *engine) command(args ...string) *task {
	return &task{run: func(ctx context.Context) error { return e.run(ctx, args...) }}
}

// after has a command run before each round, after those that do already. That it fails in the first is no matter: there is nothing
// to clear away yet.
func (t *task) after(e *engine, args ...string) *task {
	earlier := t.before
	return &task{run: t.run, before: func(ctx context.Context, round int) error {
		if earlier != nil {
			if err := earlier(ctx, round); err != nil {
				return err
			}
		}
		if err := e.run(ctx, args...); err != nil && args[0] != "rm" {
			return err
		}
		return nil
	}}
}

// beside has a new container run in each round.
func (t *task) beside(e *engine) *task {
	return t.after(e, "rm", "-f", "one").after(e, "run", "-d", "--name", "one", "bench/base", "sleep", "1000")
}

// hundred starts many containers, looks at them and removes them.
func hundred(e *engine) *task {
	return &task{run: func(ctx context.Context) error {
		if err := e.gather(ctx); err != nil {
			return err
		}
		for _, look := range [][]string{{"ps"}, {"stats", "--no-stream"}} {
			if err := e.run(ctx, look...); err != nil {
				return err
			}
		}
		return e.run(ctx, append([]string{"rm", "-f"}, manyNames()...)...)
	}}
}

func (e *engine) gather(ctx context.Context) error {
	for _, name := range manyNames() {
		if err := e.run(ctx, "run", "-d", "--name", name, "bench/base", "sleep", "1000"); err != nil {
			return err
		}
	}
	return nil
}

func manyNames() []string {
	names := make([]string, many)
	for i := range names {
		names[i] = fmt.Sprintf("many%d", i)
	}
	return names
}

// manyShims is the mean of what the processes beside many containers have resident.
func manyShims(ctx context.Context, b *bed) (int64, error) {
	e := b.strata()
	if err := e.gather(ctx); err != nil {
		return 0, err
	}
	time.Sleep(2 * time.Second)
	var sum int64
	all, err := b.shims("VmRSS")
	for _, n := range all {
		sum += n
	}
	if err == nil && len(all) < many {
		err = fmt.Errorf("%d shims are running", len(all))
	}
	if err != nil {
		return 0, err
	}
	return sum / int64(len(all)), e.run(ctx, append([]string{"rm", "-f"}, manyNames()...)...)
}

// logRow has a container write so many megabytes in lines of so many bytes, which strata has to keep at so many megabytes a second
// beside what the start of the container takes.
func logRow(megabytes, line, rate int) workload {
	run := func(e *engine, file string) *task {
		shown := filepath.Dir(file) + ":/lines:ro"
		t := &task{run: func(ctx context.Context) error {
			args := []string{"run", "-d", "--name", "log", "--network", "none", "--log-driver", "json-file"}
			if e.name == "strata" { // the others keep all by themselves
				args = append(args, "--log-opt", "max-size=-1")
			}
			if err := e.run(ctx, append(args, "-v", shown, "bench/base", "cat", "/lines/"+filepath.Base(file))...); err != nil {
				return err
			}
			return e.run(ctx, "wait", "log")
		}}
		return t.after(e, "rm", "-f", "log")
	}
	name := fmt.Sprintf("log of %d MB, lines of %d bytes", megabytes, line)
	return workload{
		name: name, rounds: 3, limits: []limit{{most: time.Duration(megabytes) * time.Second / time.Duration(rate)}},
		prepare: func(_ context.Context, b *bed) error {
			if err := writeLines(b.lines(0), 0, line); err != nil {
				return err
			}
			return writeLines(b.lines(line), megabytes*1e6, line)
		},
		do: func(b *bed, e *engine) *task {
			if !e.networks || e.name == "podman" { // whose logs have another form
				return nil
			}
			return run(e, b.lines(line))
		},
		over: func(b *bed, e *engine) *task { return run(e, b.lines(0)) },
	}
}

// lines is a file of lines of n bytes.
func (b *bed) lines(n int) string { return fmt.Sprintf("%s/lines/%d", b.dir, n) }

// writeLines writes size bytes in lines of n.
func writeLines(name string, size, n int) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	chunk := []byte(strings.Repeat(strings.Repeat("x", max(n-1, 0))+"\n", 1000))
	for ; size > 0; size -= len(chunk) {
		if _, err := f.Write(chunk[:min(size, len(chunk))]); err != nil {
			return err
		}
	}
	return nil
}

// loggingShim is the most that the process beside a container has resident while the container's output floods it.
func loggingShim(ctx context.Context, b *bed) (int64, error) {
	e := b.strata()
	if err := writeLines(b.lines(200), 256e6, 200); err != nil {
		return 0, err
	}
	done := filepath.Join(filepath.Dir(b.lines(200)), "done")
	_ = e.run(ctx, "rm", "-f", "log") // of the rows before, whose supervisor would be counted
	err := e.run(ctx, "run", "-d", "--name", "flooded", "--network", "none", "-v", filepath.Dir(done)+":/lines", "bench/base",
		"sh", "-c", "cat /lines/200; touch /lines/done; sleep 1000")
	if err != nil {
		return 0, err
	}
	for most := time.Now().Add(2 * time.Minute); time.Now().Before(most); time.Sleep(100 * time.Millisecond) {
		if _, err := os.Stat(done); err == nil {
			break
		}
	}
	all, err := b.shims("VmHWM")
	if err == nil && len(all) != 1 {
		err = fmt.Errorf("%d shims are running", len(all))
	}
	if err != nil {
		return 0, err
	}
	return all[0], e.run(ctx, "rm", "-f", "flooded")
}
