package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"strata/internal/cli/render"
	"strata/internal/engine"
	"strata/internal/errdef"
	"strata/internal/layer"
)

// confirm asks, on a terminal or whoever answers on standard input, and waits for the answer or the end of ctx.
func (a *app) confirm(ctx context.Context, force bool, what string) error {
	if force {
		return nil
	}
	// Before anybody is asked: for a plain user the program starts anew in the user's namespace.
	if err := a.enter(ctx); err != nil {
		return err
	}
	fmt.Fprintf(a.err, "%s\nGo on? [y/N] ", what)
	answers := make(chan string, 1)
	go func() {
		line, err := bufio.NewReader(a.in).ReadString('\n')
		if err != nil && line == "" {
			line = "nobody"
		}
		answers <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(a.err)
		return context.Cause(ctx)
	case answer := <-answers:
		switch answer {
		case "y", "yes":
			return nil
		case "nobody":
			return usageError{errdef.WithHint(errors.New("nobody is there to confirm"), "add --force")}
		}
		return errors.New("nothing was done")
	}
}

func (a *app) systemCheck() *cobra.Command {
	var asJSON, quick, full, repair bool
	cmd := &cobra.Command{
		Use:   "check [OPTIONS]",
		Short: "Prove the store: every record, layer and blob whole and reachable",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o := engine.CheckOptions{Depth: layer.Digests, Repair: repair}
			switch {
			case quick && full:
				return usagef("--quick and --full exclude each other")
			case quick:
				o.Depth = layer.Quick
			case full:
				o.Depth = layer.Full
			}
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				report, err := e.Check(cmd.Context(), o)
				if err != nil {
					return err
				}
				if asJSON {
					err = json.NewEncoder(a.out).Encode(report)
				} else {
					err = a.printReport(report, repair)
				}
				if err == nil && report.Broken() > 0 {
					return status(3)
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	cmd.Flags().BoolVar(&quick, "quick", false, "read records and sizes only, no content")
	cmd.Flags().BoolVar(&full, "full", false, "also compare what lies on the disk with what each layer's tar says")
	cmd.Flags().BoolVar(&repair, "repair", false, "fetch again, make anew or drop what is broken")
	return cmd
}

func (a *app) printReport(r engine.CheckReport, repair bool) error {
	for _, f := range r.Faults {
		fmt.Fprintf(a.out, "%s: %s\n", render.Clean(f.Object), render.Clean(f.Problem))
		switch {
		case f.Repaired != "":
			fmt.Fprintf(a.out, "  repaired: %s\n", render.Clean(f.Repaired))
		case f.Unrepaired != "":
			fmt.Fprintf(a.out, "  not repaired: %s\n", render.Clean(f.Unrepaired))
		}
	}
	broken := r.Broken()
	verdict := "all whole"
	switch mended := len(r.Faults) - broken; {
	case broken > 0 && mended > 0:
		verdict = fmt.Sprintf("%d repaired, %d broken", mended, broken)
	case broken > 0:
		verdict = fmt.Sprintf("%d broken", broken)
	case mended > 0:
		verdict = fmt.Sprintf("%d repaired", mended)
	}
	if broken > 0 && !repair {
		fmt.Fprintln(a.err, "strata system check --repair mends what can be mended")
	}
	_, err := fmt.Fprintf(a.out, "%d blobs, %d layers, %d images, %d tags, %d containers: %s\n", r.Blobs, r.Layers, r.Images, r.Tags, r.Containers, verdict)
	return err
}

func (a *app) systemReset() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "reset [OPTIONS]",
		Short: "Remove the whole store: images, volumes, build cache",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.confirm(cmd.Context(), force, "This removes all images, all volumes and the build cache in "+a.opts.Root+"."); err != nil {
				return err
			}
			return a.with(cmd.Context(), func(e *engine.Engine) error { return e.Reset(cmd.Context()) })
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	return cmd
}
