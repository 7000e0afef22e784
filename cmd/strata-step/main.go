//go:build cgo

// Strata-step runs the containers of a build's steps: one after another, or several at once, in one warm process, which
// takes about half the time of a runtime that is started anew for each. Strata starts it and talks to it over a socket
// (package stepwire). It ends, and its containers with it, when the other end of that socket is closed.
//
// It is the only program that links libcontainer, whose API its makers do not promise to keep: see
// docs/adr/0002-warm-runner.md.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	_ "github.com/opencontainers/cgroups/devices" // lets libcontainer restrict devices
	"github.com/opencontainers/runc/libcontainer"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // enters namespaces before Go starts
	"github.com/sirupsen/logrus"

	"strata/internal/stepwire"
)

// Libcontainer starts each container by this same program with the argument "init". As in runc this must be done before
// main, on the process's first thread.
func init() { //nolint:gochecknoinits // see above
	if len(os.Args) > 1 && os.Args[1] == "init" {
		libcontainer.Init()
	}
}

func main() {
	work := serve
	if len(os.Args) > 1 && os.Args[1] == "filter" {
		work = record
	}
	if err := work(); err != nil {
		fmt.Fprintln(os.Stderr, "strata-step:", err)
		os.Exit(1)
	}
}

func serve() error {
	conn, err := stepwire.Conn(os.NewFile(stepwire.FD, "the socket"))
	if err != nil {
		return fmt.Errorf("this program is started by strata: %w", err)
	}
	logrus.SetOutput(io.Discard) // errors come back as errors
	s := &server{conn: conn, steps: map[uint64]*step{}}
	err = s.accept()
	s.killAll()
	s.running.Wait()
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	return err
}
