package render

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"strata/internal/errdef"
	"strata/internal/progress"
)

// Progress is a display of events. Close shows what is still held back, ends the display and waits for it; it gives the
// first error of writing. After Close nothing is shown any more, and other text may be written to the same place.
type Progress interface {
	progress.Sink
	Close() error
}

// NewProgress makes the display that --progress names, writing to w. title says what is going on: "Building".
//
//	auto     tty on a terminal, else plain
//	tty      redrawn in place; plain if w is no terminal or TERM is "dumb"
//	plain    one line after the other
//	rawjson  one event as JSON a line
//	quiet    nothing
func NewProgress(mode, title string, w *os.File) (Progress, error) {
	switch mode {
	case "", "auto", "tty":
		if IsTerminal(w) {
			return newTTY(w, title, terminalSize(w), colours(w), time.Now), nil
		}
		return startPlain(w), nil
	case "plain":
		return startPlain(w), nil
	case "rawjson":
		return &rawJSON{w: w}, nil
	case "quiet":
		return quiet{}, nil
	}
	return nil, errdef.WithHint(fmt.Errorf("progress display %q: %w", mode, errdef.ErrInvalid),
		"use --progress auto, tty, plain, rawjson or quiet")
}

// quiet shows nothing.
type quiet struct{}

func (quiet) Emit(progress.Event) {}
func (quiet) Close() error        { return nil }

// rawJSON writes events as they are, for programs.
type rawJSON struct {
	mu     sync.Mutex
	w      io.Writer
	closed bool
	err    error
}

func (r *rawJSON) Emit(e progress.Event) {
	line, err := json.Marshal(e)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.err != nil {
		return
	}
	if r.err = err; err == nil {
		_, r.err = r.w.Write(append(line, '\n'))
	}
}

func (r *rawJSON) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	return r.err
}

// ended reports whether an event of this state is a vertex's last.
func ended(s progress.State) bool {
	switch s {
	case progress.Cached, progress.Done, progress.Failed, progress.Canceled:
		return true
	}
	return false
}

// ticker calls fn every interval until stop is called, which waits for a call that is under way.
func ticker(interval time.Duration, fn func()) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(interval)
		defer t.Stop()
		for {
			select {
			case <-quit:
				return
			case <-t.C:
				fn()
			}
		}
	}()
	return sync.OnceFunc(func() { close(quit); <-done })
}
