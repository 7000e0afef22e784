//go:build linux

// Command strata-net leads out of a plain user's networks where pasta is not there to do it. It is a network stack of its own
// (gVisor's) at the end of a cable from the namespace in which the bridges stand: what a container sends arrives as packets, and
// leaves as connections and datagrams of this process, made in the user's name. So it takes no rights in this machine's network,
// and no device file.
//
// It is started by the first container that needs a way out, says "ready" when there is one, writes its pid down, and ends by
// itself when no container has had a cable to any of the bridges for a while.
//
// What comes through the cable is hostile. It is parsed by memory-safe code without privileges, what is held for it is bounded,
// and no packet leads to this machine's loopback.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"

	"golang.org/x/sys/unix"

	"strata/internal/atomicfile"
	"strata/internal/network"
)

// memoryLimit is what the garbage collector holds the process to as long as it can.
const memoryLimit = 256 << 20

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "strata-net:", err)
		os.Exit(1)
	}
}

// files are what others know the helper by.
type files struct {
	pid    string // where the pid stands while it runs
	lock   string // held by whoever starts it, and by itself while it ends
	ground string // the network namespace in which the bridges stand
}

func run(args []string) error {
	if len(args) != 3 {
		return errors.New("usage: strata-net PIDFILE LOCKFILE NAMESPACE")
	}
	f := files{args[0], args[1], args[2]}
	debug.SetMemoryLimit(memoryLimit)
	signal.Ignore(unix.SIGPIPE, unix.SIGHUP)
	ground, err := network.OpenSandbox(f.ground)
	if err != nil {
		return err
	}
	defer ground.Close()
	w, err := layWire(ground, defaultRoute6())
	if err != nil {
		return err
	}
	defer w.close()
	if err := serve(w); err != nil {
		return err
	}
	watch, err := newWatch(ground)
	if err != nil {
		return err
	}
	if err := dropRights(); err != nil {
		return err
	}
	if err := f.ready(); err != nil {
		return err
	}
	return watch.untilIdle(f)
}

// ready tells who started us, and gives up what we have of him.
func (f files) ready() error {
	if err := f.note(); err != nil {
		return err
	}
	if _, err := fmt.Println("ready"); err != nil {
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	for fd := range 3 {
		if err := unix.Dup3(int(null.Fd()), fd, 0); err != nil {
			return err
		}
	}
	return nil
}

// note writes the pid down.
func (f files) note() error {
	return atomicfile.Write(f.pid, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600)
}

// retire takes the pid away if still says that nobody needs us. Who starts a container lays its cable first and then looks for the
// pid: either he misses it, and waits for the lock, or still sees his cable.
func (f files) retire(idle func() (bool, error)) (bool, error) {
	l, err := atomicfile.LockExclusive(context.Background(), f.lock)
	if errors.Is(err, os.ErrNotExist) {
		return true, nil // the directory is gone, and with it all networks
	}
	if err != nil {
		return false, err
	}
	os.Remove(f.pid)
	yes, err := idle()
	if yes && err == nil {
		return true, nil // the lock goes with this process
	}
	defer l.Unlock()
	return false, errors.Join(err, f.note())
}
