package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"strata/internal/cli/render"
	"strata/internal/container"
	"strata/internal/engine"
)

func (a *app) cp() *cobra.Command {
	var o engine.CopyOptions
	var quiet bool
	cmd := &cobra.Command{
		Use:   "cp [OPTIONS] CONTAINER:SRC_PATH DEST_PATH|- | SRC_PATH|- CONTAINER:DEST_PATH",
		Short: "Copy files between a container and this machine",
		Long: `Copy files between a container, running or not, and this machine.

With - as the source a tar is read from standard input and unpacked in a directory of the container; with - as the
destination the tar of what is copied goes to standard output. A directory is copied with all that is in it; DIR/. means
what is in it. Copies in a container belong to its root, copies on this machine to who makes them, and those come without
set-id bits, capabilities and device nodes; --archive keeps all as it is at the source.`,
		Args: exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] == "" {
				return errors.New("source can not be empty")
			}
			if args[1] == "" {
				return errors.New("destination can not be empty")
			}
			if !cmd.Flags().Changed("quiet") { // docker's rule: a script's output stays as it was
				f, ok := a.out.(*os.File)
				quiet = !ok || !render.IsTerminal(f)
			}
			o.Source, o.Dest, o.In, o.Out, o.Moved = args[0], args[1], a.in, a.out, new(atomic.Int64)
			return a.with(cmd.Context(), func(e *engine.Engine) error { return a.copyFiles(cmd.Context(), e, o, quiet) })
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&o.Archive, "archive", "a", false, "keep owners, set-id bits and capabilities")
	fl.BoolVarP(&o.Follow, "follow-link", "L", false, "copy what a symbolic link at the source leads to")
	fl.BoolVarP(&quiet, "quiet", "q", false, "print no progress and no summary; so it is when standard output is no terminal")
	return cmd
}

func (a *app) copyFiles(ctx context.Context, e *engine.Engine, o engine.CopyOptions, quiet bool) error {
	stop := func() {}
	if !quiet && o.Dest != "-" {
		stop = a.copyProgress(o)
	}
	done, err := e.Copy(ctx, o)
	stop()
	if err != nil {
		return err
	}
	if done.Devices > 0 {
		fmt.Fprintf(a.err, "strata: %d device nodes were left out; --archive copies them\n", done.Devices)
	}
	if !quiet && o.Dest != "-" {
		fmt.Fprintf(a.err, "Successfully copied %s to %s\n", render.HumanSizePrecision(done.Bytes, 3), render.Clean(done.Dest))
	}
	return nil
}

// copyProgress shows on a terminal how much has been copied, until stop is called.
func (a *app) copyProgress(o engine.CopyOptions) (stop func()) {
	f, ok := a.err.(*os.File)
	if !ok || !render.IsTerminal(f) {
		return func() {}
	}
	header := "Copying to container - "
	if from, _ := container.SplitCopyArg(o.Source); from != "" {
		header = "Copying from container - "
	}
	ending, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(75 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ending:
				fmt.Fprint(f, "\r\x1b[K")
				return
			case <-tick.C:
				fmt.Fprintf(f, "\r\x1b[K%s%s", header, render.HumanSizePrecision(o.Moved.Load(), 3))
			}
		}
	}()
	return func() { close(ending); <-ended }
}
