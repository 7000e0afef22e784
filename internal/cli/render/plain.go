package render

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"strata/internal/progress"
)

// How the plain display shares its lines between vertices that run at once: one has the floor and keeps it until it ends,
// is silent for patience, or has kept another waiting for maxWait or with maxHeld lines.
const (
	patience = 1 * time.Second
	maxWait  = 5 * time.Second
	maxHeld  = 500
	// statusEvery is the least time between two lines about one transfer; its end is always shown.
	statusEvery = 5 * time.Second
)

// plain writes one line after the other, each with the number of its vertex in front, as buildx does.
type plain struct {
	mu       sync.Mutex
	w        io.Writer
	colours  bool // keep the colours of log lines
	out      bytes.Buffer
	vertices map[string]*plainVertex
	order    []*plainVertex // by number
	waiting  []*plainVertex // with something to say, oldest first, the one with the floor not among them
	floor    *plainVertex
	spoke    time.Time // when floor last wrote
	began    bool
	closed   bool
	stop     func()
	err      error
}

// plainVertex is what is known of a vertex. held are lines that wait for the floor.
type plainVertex struct {
	number  int
	name    string
	started time.Time
	logs    streams
	held    []string
	queued  bool
	since   time.Time // when it was queued
	status  map[string]time.Time
	ended   bool
}

// startPlain makes the display with a clock that lets the waiting in.
func startPlain(w *os.File) *plain {
	p := newPlain(w, os.Getenv("NO_COLOR") == "")
	p.stop = ticker(patience/4, func() { p.flush(time.Now()) })
	return p
}

func newPlain(w io.Writer, colours bool) *plain {
	return &plain{w: w, colours: colours, vertices: map[string]*plainVertex{}, stop: func() {}}
}

// Emit takes an event of any vertex.
func (p *plain) Emit(e progress.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	v := p.vertex(e)
	if v.ended {
		return
	}
	v.take(e, p.colours)
	p.queue(v, e.Time)
	p.share(e.Time)
}

// flush lets those speak whose time has come.
func (p *plain) flush(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.share(now)
}

// Close writes all that is held.
func (p *plain) Close() error {
	p.stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, v := range p.order {
		v.logs.end(func(line string) {
			v.log(line, p.spoke, p.colours)
			p.queue(v, p.spoke)
		})
	}
	p.speak(p.spoke)
	for len(p.waiting) > 0 {
		p.giveFloor()
		p.speak(p.spoke)
	}
	p.write()
	return p.err
}

// vertex finds or numbers the vertex of e.
func (p *plain) vertex(e progress.Event) *plainVertex {
	v := p.vertices[e.Vertex]
	if v == nil {
		v = &plainVertex{number: len(p.vertices) + 1, started: e.Time, status: map[string]time.Time{}}
		p.vertices[e.Vertex] = v
		p.order = append(p.order, v)
	}
	if v.name == "" {
		v.name = oneLine(e.Name)
	}
	return v
}

// take turns e into held lines.
func (v *plainVertex) take(e progress.Event, colours bool) {
	log := func(line string) { v.log(line, e.Time, colours) }
	switch e.State {
	case progress.Started:
		v.started = e.Time
		v.because(e.Note)
	case progress.Log:
		v.logs.add(e.Stream, e.Data, log)
	case progress.Status:
		v.transfer(e)
	default:
		v.logs.end(log)
		v.end(e)
	}
}

func (v *plainVertex) say(format string, args ...any) {
	v.held = append(v.held, fmt.Sprintf(format, args...))
}

func (v *plainVertex) log(line string, at time.Time, colours bool) {
	if colours {
		line = cleanLog(line)
	} else {
		line = Clean(line)
	}
	v.say("%.3f %s", at.Sub(v.started).Seconds(), line)
}

func (v *plainVertex) because(note string) {
	if note == "" {
		return
	}
	for line := range strings.SplitSeq(strings.TrimRight(Clean(note), "\n"), "\n") {
		v.say("because: %s", line)
	}
}

// transfer says how far something is: at first, at the end and now and then between.
func (v *plainVertex) transfer(e progress.Event) {
	note := oneLine(e.Note)
	complete := e.Total > 0 && e.Current >= e.Total
	last, seen := v.status[note]
	if seen && !complete && e.Current > 0 && e.Time.Sub(last) < statusEvery {
		return
	}
	v.status[note] = e.Time
	v.say("%s", transferText(note, e.Current, e.Total))
}

// transferText is "note 1.2MB / 3.4MB", with "done" at the end and without numbers that are not known.
func transferText(note string, current, total int64) string {
	switch {
	case total > 0 && current >= total:
		return note + " " + HumanSize(total) + " done"
	case total > 0:
		return note + " " + HumanSize(current) + " / " + HumanSize(total)
	case current > 0:
		return note + " " + HumanSize(current)
	}
	return note
}

func (v *plainVertex) end(e progress.Event) {
	v.ended = true
	switch e.State {
	case progress.Cached:
		v.say("CACHED")
	case progress.Canceled:
		v.say("CANCELED")
	case progress.Failed:
		v.say("ERROR: %s", oneLine(Sentence(e.Error)))
	default:
		v.because(e.Note)
		v.say("DONE %.1fs", e.Time.Sub(v.started).Seconds())
	}
}

// share writes what may be written at this time.
func (p *plain) share(now time.Time) {
	for {
		p.speak(now)
		if len(p.waiting) == 0 || p.floor != nil && !p.yields(now) {
			break
		}
		p.giveFloor()
		p.spoke = now
	}
	p.write()
}

// queue notes that v has something to say.
func (p *plain) queue(v *plainVertex, now time.Time) {
	if v != p.floor && !v.queued {
		v.queued, v.since = true, now
		p.waiting = append(p.waiting, v)
	}
}

// yields reports whether the vertex with the floor has to give it up to the first in the queue.
func (p *plain) yields(now time.Time) bool {
	next := p.waiting[0]
	return now.Sub(p.spoke) >= patience || now.Sub(next.since) >= maxWait || len(next.held) >= maxHeld
}

// speak writes what the vertex with the floor has to say.
func (p *plain) speak(now time.Time) {
	v := p.floor
	if v == nil {
		return
	}
	for _, line := range v.held {
		fmt.Fprintf(&p.out, "#%d %s\n", v.number, line)
		p.spoke = now
	}
	v.held = nil
	if v.ended {
		p.floor = nil
	}
}

// giveFloor lets the first of the queue speak next.
func (p *plain) giveFloor() {
	if p.floor != nil {
		fmt.Fprintf(&p.out, "#%d ...\n", p.floor.number)
	}
	if p.began {
		p.out.WriteByte('\n')
	}
	p.began = true
	p.floor, p.waiting = p.waiting[0], p.waiting[1:]
	p.floor.queued = false
	fmt.Fprintf(&p.out, "#%d %s\n", p.floor.number, p.floor.name)
}

func (p *plain) write() {
	if p.out.Len() == 0 {
		return
	}
	if p.err == nil {
		_, p.err = p.w.Write(p.out.Bytes())
	}
	p.out.Reset()
}

// oneLine is s, clean, without line breaks.
func oneLine(s string) string { return strings.TrimSpace(cleanCell(s)) }
