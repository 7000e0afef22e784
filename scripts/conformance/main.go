// Command conformance builds Dockerfiles with strata and with BuildKit and prints in what the images differ: the tree
// file by file, the config key by key.
//
//	go run ./scripts/conformance [-update] [-only WORD] [-image NAME=TAR]... [DIR]
//
// DIR is searched for cases: groups of them in *.txtar files (cases.go tells the format), and directories with a
// Dockerfile, each its own context. It runs as root and needs runc on the PATH, the network for the first run only, when
// it builds BuildKit.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// options are the command line.
type options struct {
	dir, only, cache string
	update, verbose  bool
	images           []string
}

func main() {
	var o options
	flag.BoolVar(&o.update, "update", false, "write BuildKit's results into the groups as what is expected")
	flag.BoolVar(&o.verbose, "v", false, "say why a build failed, where both fail too")
	flag.StringVar(&o.only, "only", "", "build only the cases with this word in their name")
	flag.StringVar(&o.cache, "cache", "", "where BuildKit's programs are kept (default: strata-conformance in the user's cache)")
	flag.Func("image", "NAME=TAR: a further base, in a docker or OCI archive that has an image", func(v string) error {
		if !strings.Contains(v, "=") {
			return errors.New("want NAME=TAR")
		}
		o.images = append(o.images, v)
		return nil
	})
	flag.Parse()
	o.dir = "testdata/conformance"
	if flag.NArg() > 0 {
		o.dir = flag.Arg(0)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	differ, err := compare(ctx, o)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	case differ:
		os.Exit(3)
	}
}

// compare builds every case with both. It tells whether any differs that does not say so itself.
func compare(ctx context.Context, o options) (differ bool, err error) {
	groups, err := findGroups(o.dir)
	if err != nil {
		return false, err
	}
	dir, err := os.MkdirTemp("", "conformance-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	s, err := openStrata(ctx, dir+"/strata", dir+"/run")
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.bases(ctx, o.dir, o.images); err != nil {
		return false, err
	}
	bk, err := startBuildKit(ctx, o.cache, dir+"/buildkit", s)
	if err != nil {
		return false, err
	}
	defer bk.stop()

	run := &comparison{o: o, dir: dir + "/contexts", strata: s, buildkit: bk}
	for _, g := range groups {
		if err := run.group(ctx, g); err != nil {
			return false, err
		}
	}
	fmt.Printf("%d cases: %d the same, %d differ on purpose, %d differ\n", run.cases, run.cases-run.known-run.differ, run.known, run.differ)
	return run.differ > 0, nil
}

// comparison is one run over all groups.
type comparison struct {
	o                    options
	dir                  string
	strata               *strata
	buildkit             *buildKit
	cases, known, differ int
}

// parallel is how many builds BuildKit is given at once.
const parallel = 3

// outcome is what one builder made of a case; message is why it failed, where it did.
type outcome struct {
	result  result
	message string
}

func (r *comparison) group(ctx context.Context, g *group) error {
	var cases []*testCase
	for _, c := range g.cases {
		if strings.Contains(g.name+"/"+c.name, r.o.only) {
			cases = append(cases, c)
		}
	}
	defer os.RemoveAll(r.dir)
	theirs := make([]outcome, len(cases))
	some, groupCtx := errgroup.WithContext(ctx)
	some.SetLimit(parallel)
	for i, c := range cases {
		some.Go(func() (err error) {
			if err := c.lay(filepath.Join(r.dir, c.name)); err != nil {
				return fmt.Errorf("%s/%s: %w", g.name, c.name, err)
			}
			theirs[i].result, theirs[i].message, err = r.buildkit.build(groupCtx, c)
			if err != nil {
				return fmt.Errorf("%s/%s: %w", g.name, c.name, err)
			}
			return nil
		})
	}
	if err := some.Wait(); err != nil {
		return err
	}
	for i, c := range cases {
		if r.o.update {
			c.want = theirs[i].result
		}
		if err := r.one(ctx, g, c, theirs[i]); err != nil {
			return fmt.Errorf("%s/%s: %w", g.name, c.name, err)
		}
	}
	if r.o.update && g.file != "" {
		return g.save()
	}
	return nil
}

// one builds a case with strata and compares.
func (r *comparison) one(ctx context.Context, g *group, c *testCase, theirs outcome) error {
	r.cases++
	ours, message, err := r.strata.build(ctx, c)
	if err != nil {
		return err
	}
	diff := difference(c.overlay(theirs.result), ours)
	switch {
	case len(diff) > 0:
		r.differ++
		fmt.Printf("%s/%s differs:\n%s", g.name, c.name, strings.Join(diff, ""))
	case len(c.strata) > 0:
		r.known++
	}
	if r.o.verbose || len(diff) > 0 && (message == "") != (theirs.message == "") {
		say("strata", message)
		say("BuildKit", theirs.message)
	}
	return nil
}

// say prints why a builder failed.
func say(who, why string) {
	if why != "" {
		fmt.Printf("  %s says: %s\n", who, strings.ReplaceAll(strings.TrimSpace(why), "\n", "\n    "))
	}
}
