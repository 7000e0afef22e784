package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// workload is one row of the table.
type workload struct {
	name   string
	limits []limit
	// rounds that each engine does it, times that one measurement repeats it; 0 is the bed's and 1.
	rounds, times int
	// cold rows count the first round too; in others it only warms caches.
	cold bool
	// long rows are done only when they are asked for.
	long bool
	// prepare makes what the row needs, once.
	prepare func(ctx context.Context, b *bed) error
	// do is what an engine does, nil where it has no part in the row.
	do func(b *bed, e *engine) *task
	// over, of strata alone, is done by turns with do; its time is taken from that of do.
	over func(b *bed, e *engine) *task
	// gauge gives bytes instead of times; 0 of an engine that has no part in the row.
	gauge func(ctx context.Context, b *bed, e *engine) (int64, error)
}

// task is what one engine does in a row. before is what each round needs anew; it is not timed.
type task struct {
	before func(ctx context.Context, round int) error
	run    func(ctx context.Context) error
}

// limit is what a row has to keep: strata's time (or bytes) at most most, or at most ratio times that of the engine than; or
// its processes' memory.
type limit struct {
	most   time.Duration
	bytes  int64
	than   string
	ratio  float64
	memory int64
}

// found is what a row came to: strata's own time in nanoseconds, or its bytes, those of the others by name, and the most memory
// that a process of strata's had.
type found struct {
	own    float64
	others map[string]float64
	peak   int64
}

func (l limit) String() string {
	switch {
	case l.than != "":
		return fmt.Sprintf("%.4g × %s", l.ratio, l.than)
	case l.memory > 0:
		return fmt.Sprintf("memory %d MB", l.memory>>20)
	case l.bytes > 0:
		return fmt.Sprintf("%d MB", l.bytes>>20)
	}
	return fmt.Sprintf("%d ms", l.most.Milliseconds())
}

// kept tells whether what was found keeps the limit. Without the engine to compare with nothing is known, and nothing said.
func (l limit) kept(f found) bool {
	switch {
	case l.than != "":
		other, known := f.others[l.than]
		return !known || f.own <= l.ratio*other
	case l.memory > 0:
		return f.peak <= l.memory
	case l.bytes > 0:
		return f.own <= float64(l.bytes)
	}
	return f.own <= float64(l.most)
}

// table measures the rows and prints them as they are done.
func (b *bed) table(ctx context.Context, rows []workload) error {
	head := "| workload | limit |"
	for _, e := range b.engines {
		head += " " + e.name + " |"
	}
	fmt.Printf("%s memory |\n|---|---|%s---|\n", head, strings.Repeat("---|", len(b.engines)))
	for _, w := range rows {
		if w.prepare != nil {
			if err := w.prepare(ctx, b); err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
		}
		row := b.timed
		if w.gauge != nil {
			row = b.gauged
		}
		if err := row(ctx, w); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
	}
	return nil
}

// gauged prints a row of bytes, with strata's ratio to those of each other engine.
func (b *bed) gauged(ctx context.Context, w workload) error {
	b.strata().peak = 0
	f, cells := found{others: map[string]float64{}}, ""
	for i, e := range b.engines {
		n, err := w.gauge(ctx, b, e)
		switch {
		case err != nil:
			return err
		case i == 0:
			f.own = float64(n)
			cells += " " + mb(n) + " |"
		case n == 0:
			cells += " |"
		default:
			f.others[e.name] = float64(n)
			cells += fmt.Sprintf(" %s (%.2f ×) |", mb(n), f.own/float64(n))
		}
	}
	fmt.Printf("| %s | %s |%s %s |\n", w.name, w.verdict(f), cells, mb(b.strata().peak))
	return nil
}

// timed measures one row on all engines by turns and prints the medians, with strata's ratio to each.
func (b *bed) timed(ctx context.Context, w workload) error {
	tasks, over := b.tasks(w)
	took, err := b.measure(ctx, w, tasks, over)
	if err != nil {
		return err
	}
	extra := median(took[len(tasks)])
	own := median(took[0]) - extra
	f, cells := found{own: float64(own), others: map[string]float64{}, peak: b.strata().peak}, ""
	for i, e := range b.engines {
		m := median(took[i])
		switch {
		case i == 0 && over != nil:
			cells += fmt.Sprintf(" %s (%s − %s) |", ms(own), ms(m), ms(extra))
		case i == 0:
			cells += " " + ms(m) + " |"
		case tasks[i] == nil:
			cells += " |"
		default:
			f.others[e.name] = float64(m)
			cells += fmt.Sprintf(" %s (%.2f ×) |", ms(m), float64(own)/float64(m))
		}
	}
	fmt.Printf("| %s | %s |%s %s |\n", w.name, w.verdict(f), cells, mb(f.peak))
	return nil
}

// tasks are what the engines do, in their order.
func (b *bed) tasks(w workload) (all []*task, over *task) {
	for _, e := range b.engines {
		all = append(all, w.do(b, e))
	}
	if w.over != nil {
		over = w.over(b, b.strata())
	}
	return all, over
}

// measure does the rounds by turns. What over took stands last.
func (b *bed) measure(ctx context.Context, w workload, tasks []*task, over *task) (took [][]time.Duration, err error) {
	rounds, times := cmp.Or(w.rounds, b.rounds), cmp.Or(w.times, 1)
	took = make([][]time.Duration, len(tasks)+1)
	b.strata().peak = 0
	if !w.cold {
		rounds++
	}
	for round := range rounds {
		for i, t := range append(tasks[:len(tasks):len(tasks)], over) {
			if t == nil {
				continue
			}
			d, err := t.time(ctx, round, times)
			if err != nil {
				return nil, err
			}
			if round > 0 || w.cold {
				took[i] = append(took[i], d)
			}
		}
	}
	return took, nil
}

// time is how long the task takes in one round, once of so many times.
func (t *task) time(ctx context.Context, round, times int) (time.Duration, error) {
	if t.before != nil {
		if err := t.before(ctx, round); err != nil {
			return 0, err
		}
	}
	unix.Sync() // who flushes what he wrote does not flush what others did
	start := time.Now()
	for range times {
		if err := t.run(ctx); err != nil {
			return 0, err
		}
	}
	return time.Since(start) / time.Duration(times), nil
}

// verdict is the limits, those in bold that were not kept.
func (w workload) verdict(f found) string {
	var all []string
	for _, l := range w.limits {
		if l.kept(f) {
			all = append(all, l.String())
		} else {
			all = append(all, "**"+l.String()+"**")
		}
	}
	return strings.Join(all, ", ")
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

func mb(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/(1<<20)) }

func median(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(d))
	return sorted[len(sorted)/2]
}
