package render

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"strata/internal/progress"
)

// frameInterval is the time between two frames.
const frameInterval = 100 * time.Millisecond

// tty redraws one block of lines in place. Events change the view only; a clock draws it.
type tty struct {
	mu       sync.Mutex
	w        io.Writer
	size     func() (width, height int)
	colours  bool
	now      func() time.Time
	view     view
	vertices map[string]*ttyVertex
	drawn    int // lines of the last frame, which stand above the cursor
	width    int // of the terminal when they were drawn
	stop     func()
	err      error
}

type ttyVertex struct {
	viewVertex
	logs streams
}

// terminalSize asks how large the terminal is now; one that does not know is 80 by 24.
func terminalSize(f *os.File) func() (int, int) {
	return func() (int, int) {
		width, height, err := term.GetSize(int(f.Fd()))
		if err != nil || width <= 0 || height <= 0 {
			return 80, 24
		}
		return width, height
	}
}

func newTTY(w io.Writer, title string, size func() (int, int), colours bool, now func() time.Time) *tty {
	t := &tty{w: w, size: size, colours: colours, now: now, vertices: map[string]*ttyVertex{}}
	t.view.title, t.view.began = title, now()
	t.stop = ticker(frameInterval, t.draw)
	return t
}

// Emit takes an event of any vertex.
func (t *tty) Emit(e progress.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := t.vertices[e.Vertex]
	if v == nil {
		v = &ttyVertex{viewVertex: viewVertex{state: progress.Started, started: e.Time}}
		t.vertices[e.Vertex] = v
		t.view.vertices = append(t.view.vertices, &v.viewVertex)
	}
	if v.name == "" {
		v.name = oneLine(e.Name)
	}
	if !ended(v.state) {
		v.take(e)
	}
}

// Close draws the last frame, which shows every vertex.
func (t *tty) Close() error {
	t.stop()
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.view.closed {
		t.view.closed = true
		t.redraw()
	}
	return t.err
}

func (v *ttyVertex) take(e progress.Event) {
	switch e.State {
	case progress.Started:
		v.started, v.because = e.Time, oneLine(e.Note)
	case progress.Log:
		v.logs.add(e.Stream, e.Data, v.log)
	case progress.Status:
		v.transfer(e)
	default:
		v.state, v.ended = e.State, e.Time
		v.transfers, v.tail = nil, nil
	}
}

// log keeps the last lines that are not empty.
func (v *ttyVertex) log(line string) {
	line = strings.TrimRight(expandTabs(Clean(line)), " ")
	if line == "" {
		return
	}
	if len(v.tail) == tailLines {
		v.tail = append(v.tail[:0], v.tail[1:]...)
	}
	v.tail = append(v.tail, line)
}

// transfer updates the line of e's note.
func (v *ttyVertex) transfer(e progress.Event) {
	note := oneLine(e.Note)
	i := 0
	for i < len(v.transfers) && v.transfers[i].note != note {
		i++
	}
	if i == len(v.transfers) {
		v.transfers = append(v.transfers, transfer{note: note, started: e.Time})
	}
	x := &v.transfers[i]
	x.current, x.total = e.Current, e.Total
	if e.Total > 0 && e.Current >= e.Total {
		x.ended = e.Time
	}
}

func (t *tty) draw() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.view.vertices) > 0 {
		t.redraw()
	}
}

// redraw replaces the last frame by the view as it is now, in one write that leaves the cursor visible below it.
func (t *tty) redraw() {
	if len(t.view.vertices) == 0 {
		return
	}
	width, height := t.size()
	lines := t.view.frame(width, height, t.now(), t.colours)
	var b bytes.Buffer
	b.WriteString("\x1b[?25l")
	// The terminal has wrapped or scrolled lines of a frame that no longer fits: it stays, a new one begins below.
	if t.drawn > 0 && width >= t.width && t.drawn < height {
		fmt.Fprintf(&b, "\x1b[%dA", t.drawn)
	}
	b.WriteByte('\r')
	for _, line := range lines {
		b.WriteString(line)
		b.WriteString("\x1b[K\r\n")
	}
	b.WriteString("\x1b[J\x1b[?25h")
	t.drawn, t.width = len(lines), width
	if t.err == nil {
		_, t.err = t.w.Write(b.Bytes())
	}
}
