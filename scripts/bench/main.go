// Command bench runs the same work with strata and with the engines that are installed beside it, in one run and by
// turns, and prints medians and ratios. A machine's noise hits all alike that way: compare ratios, never seconds.
//
//	go run ./scripts/bench [-rounds N] [-only REGEXP] [-beside NAME,…] [-list] [-podman5] [-long]
//
// As root everything happens in a mount and a network namespace of its own, so that nothing stays mounted, no daemon
// meets another, and their networks are nobody's business; BuildKit is then built on first use. A plain user measures
// strata and what works without.
//
// # Adding a row
//
// The rows stand in the files named for their theme: start.go, build.go, copy.go, layer.go, store.go, transfer.go, badline.go, containers.go, memory.go, network.go, plain.go. A row is a [workload]: its
// name, its limits, what is prepared once, and what each engine does, which is one of
//
//   - do: times. It gives the [task] of an engine, or nil where the engine has no part in the row. What a round needs
//     anew (a changed file, an empty store) is the task's before, which is not timed. [engine.run] runs a command line of
//     an engine; [engine.build] and [engine.start] are the command lines that all engines have in common.
//   - gauge: bytes; those of strata [alone], or of all engines.
//
// A new theme is a file with a function that gives its rows, named in [rows]. A further engine is a function in peers.go,
// named in [bed.peers].
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

// options are the command line.
type options struct {
	rounds  int
	only    string
	beside  string
	podman5 bool
	long    bool
	// inside is the directory of the bed, in the process that measures.
	inside string
	// buildkit is the directory of BuildKit's programs, "" where there are none; trixie is the root that has podman 5.
	buildkit, trixie string
}

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 7, "times that each engine does each piece of work")
	flag.StringVar(&o.only, "only", "", "run only the rows whose name this regular expression matches")
	flag.StringVar(&o.beside, "beside", "", "compare with these engines only, by their names in the table, between commas")
	flag.BoolVar(&o.podman5, "podman5", false, "compare with podman 5 too, in a root of Debian trixie that is made once in the user's cache")
	flag.BoolVar(&o.long, "long", false, "run also the rows that take most of an hour")
	list := flag.Bool("list", false, "print the names of the rows")
	flag.StringVar(&o.inside, "inside", "", "for this program's own use")
	flag.StringVar(&o.buildkit, "buildkit", "", "for this program's own use")
	flag.StringVar(&o.trixie, "trixie", "", "for this program's own use")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	most := 2 * time.Hour
	if o.long {
		most *= 2
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	var err error
	switch {
	case *list:
		for _, w := range rows() {
			fmt.Println(w.name)
		}
	case o.inside == "":
		err = outside(ctx, o)
	default:
		err = inside(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// rows are all rows, in the order of the table.
func rows() []workload {
	var all []workload
	for _, theme := range []func() []workload{startRows, buildRows, copyRows, layerRows, storeRows, transferRows, badLineRows, containerRows, memoryRows, networkRows, plainRows} {
		all = append(all, theme()...)
	}
	return all
}

// inside sets the bed up and measures.
func inside(ctx context.Context, o options) error {
	only, err := regexp.Compile(o.only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	var chosen []workload
	for _, w := range rows() {
		if only.MatchString(w.name) && (o.long || !w.long) {
			chosen = append(chosen, w)
		}
	}
	if len(chosen) == 0 {
		return fmt.Errorf("no row's name matches %q: -list lists them, and -long allows those that take long", o.only)
	}
	b := &bed{dir: o.inside, run: o.inside + "/run", rounds: o.rounds, options: o}
	defer b.close()
	if err := b.setUp(ctx); err != nil {
		return err
	}
	return b.table(ctx, chosen)
}
