//go:build linux

// Command strata builds, stores, runs, ships and explains container images without a daemon.
package main

import (
	"context"
	"math"
	"os"

	"golang.org/x/sys/unix"

	"strata/internal/cli"
	"strata/internal/container"
	"strata/internal/engine"
	"strata/internal/userns"
)

func main() {
	// What the caller has open is not for those that live on when this process has gone: they would keep a lock of his shell's, or
	// the end of a pipe. Kernels that cannot do it (before Linux 5.11) leave it as it was.
	_ = unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	// The same program is also the process that holds a user namespace open and the one that stands by a container.
	// Both start often and live long, so they are told apart before anything else is set up.
	switch {
	case os.Args[0] == userns.PauseName:
		os.Exit(userns.PauseMain())
	case container.IsShim(os.Args[0]):
		os.Exit(container.ShimMain(context.Background(), os.Args, engine.OpenContainers))
	}
	os.Exit(cli.Main(os.Args))
}
