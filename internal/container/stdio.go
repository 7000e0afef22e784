package container

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"

	"strata/internal/runtime"
)

// wiring is what stands between a caller's streams and a container's.
type wiring struct {
	stdio   runtime.Stdio
	wg      sync.WaitGroup
	ours    []*os.File
	started chan struct{}
	open    sync.Once
	failed  bool
	ids     *IDs // of the container's user namespace, if it is in one
}

// foreignProof gives files that may be handed into a container in the place of o. Pipes and /dev/null go as they are. For
// everything else the container gets a pipe whose bytes are copied: through a terminal it could type commands for us,
// in a regular file it could change what is there. Standard error always goes through a pipe, which is not read before
// [wiring.begin]: a runtime that fails to start a container complains there too, in its own words.
func foreignProof(o Streams, ids *IDs) (*wiring, error) {
	w := &wiring{ids: ids, started: make(chan struct{})}
	var errs [3]error
	w.stdio.Out, errs[0] = w.output(o.Out, o.Out == nil || w.harmless(o.Out))
	w.stdio.Err, errs[1] = w.output(o.Err, o.Err == nil)
	w.stdio.In, errs[2] = w.input(o.In)
	if err := errors.Join(errs[:]...); err != nil {
		w.end(err)
		return nil, err
	}
	return w, nil
}

func (w *wiring) output(f *os.File, asIs bool) (*os.File, error) {
	if asIs {
		return f, nil
	}
	r, into, err := w.ids.pipe()
	if err != nil {
		return nil, err
	}
	w.ours = append(w.ours, into)
	w.wg.Go(func() {
		defer r.Close()
		<-w.started
		if w.failed {
			return
		}
		if _, e := io.Copy(f, r); e != nil {
			_, _ = io.Copy(io.Discard, r) // nobody reads any more: the container is not to be stopped by it
		}
	})
	return into, nil
}

// begin lets the output through: the container has started.
func (w *wiring) begin() { w.open.Do(func() { close(w.started) }) }

// end waits until all is copied. Output of a container that could not be started, as err says, is dropped.
func (w *wiring) end(err error) {
	var se *runtime.StartError
	w.open.Do(func() {
		w.failed = errors.As(err, &se)
		close(w.started)
	})
	closeAll(w.ours)
	w.wg.Wait()
}

func (w *wiring) input(f *os.File) (*os.File, error) {
	if f == nil || w.harmless(f) {
		return f, nil
	}
	r, into, err := w.ids.pipe()
	if err != nil {
		return nil, err
	}
	w.ours = append(w.ours, r)
	// The copier stays blocked in reading our input when the container ends first; it ends with the process.
	go func() {
		defer into.Close()
		_, _ = io.Copy(into, f) // whichever side ends it, the container sees the end of its input
	}()
	return r, nil
}

// harmless reports whether f is a pipe or /dev/null. A caller's pipe is none of a user namespace's: by its name in /proc, which
// programs know as /dev/stdout, processes there could not open it.
func (w *wiring) harmless(f *os.File) bool {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return false
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFIFO:
		return w.ids == nil
	case unix.S_IFCHR:
		return st.Rdev == unix.Mkdev(1, 3)
	}
	return false
}

// signalProxy passes the signals that we get on to a container. Those that come before the container runs wait.
type signalProxy struct {
	ch   chan os.Signal
	quit chan struct{}
	once sync.Once
}

// catchSignals begins to catch what a caller may send us: the standard signals but those that the kernel and Go's
// runtime use. Each one costs time at the start, so the realtime signals, which nobody sends to a client, are left out.
func catchSignals() *signalProxy {
	p := &signalProxy{ch: make(chan os.Signal, 64), quit: make(chan struct{})}
	signal.Notify(p.ch, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGABRT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM,
		unix.SIGTERM, unix.SIGCONT, unix.SIGTSTP, unix.SIGIO, unix.SIGPWR, unix.SIGVTALRM)
	return p
}

// forward sends what was caught and what comes to send.
func (p *signalProxy) forward(send func(os.Signal)) {
	go func() {
		for {
			select {
			case sig := <-p.ch:
				send(sig)
			case <-p.quit:
				return
			}
		}
	}()
}

func (p *signalProxy) stop() {
	p.once.Do(func() {
		signal.Stop(p.ch)
		close(p.quit)
	})
}

// proxied sends a caught signal to the container. That one may have ended just now; there is nobody to tell.
func (s *Store) proxied(rec Record, sig os.Signal) {
	if n, ok := sig.(unix.Signal); ok && signalProcess(rec.State, n) == nil {
		s.emitKill(rec, n)
	}
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
