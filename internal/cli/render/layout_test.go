package render

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"strata/internal/progress"
)

// screen is a terminal of the kind that tty writes to: it knows the sequences that tty uses and fails at any other.
type screen struct {
	t             *testing.T
	width, height int
	lines         []string // all, scrolled ones included
	row           int
	cursorHidden  bool
	writes        int
}

func (s *screen) Write(p []byte) (int, error) {
	s.writes++
	text := string(p)
	for text != "" {
		switch {
		case strings.HasPrefix(text, "\x1b"):
			n := escapeLen(text)
			s.escape(text[:n])
			text = text[n:]
		case text[0] == '\r':
			text = text[1:]
		case text[0] == '\n':
			s.row++
			text = text[1:]
		default:
			n := strings.IndexAny(text, "\x1b\r\n")
			if textWidth(text[:n]) >= s.width {
				s.t.Errorf("line %q is as wide as the terminal (%d)", text[:n], s.width)
			}
			s.put(text[:n])
			text = text[n:]
		}
	}
	return len(p), nil
}

func (s *screen) put(text string) {
	for len(s.lines) <= s.row {
		s.lines = append(s.lines, "")
	}
	s.lines[s.row] = text
}

func (s *screen) escape(seq string) {
	var n int
	switch {
	case seq == "\x1b[?25l":
		s.cursorHidden = true
	case seq == "\x1b[?25h":
		s.cursorHidden = false
	case seq == "\x1b[K":
	case seq == "\x1b[J":
		s.lines = s.lines[:min(s.row, len(s.lines))]
	case strings.HasSuffix(seq, "A"):
		if _, err := fmt.Sscanf(seq, "\x1b[%dA", &n); err != nil || n > s.row || n >= s.height {
			s.t.Errorf("cursor up by %d in row %d of a terminal of height %d", n, s.row, s.height)
		}
		s.row -= n
	default:
		s.t.Errorf("unknown sequence %q", seq)
	}
}

// newTestTTY is a tty that draws only when it is told to.
func newTestTTY(s *screen, now *time.Time) *tty {
	t := newTTY(s, "Building", func() (int, int) { return s.width, s.height }, false, func() time.Time { return *now })
	t.stop()
	return t
}

func TestTTY(t *testing.T) {
	now := start
	s := &screen{t: t, width: 50, height: 24}
	d := newTestTTY(s, &now)
	show := func(ms int, want string) {
		t.Helper()
		now = start.Add(time.Duration(ms) * time.Millisecond)
		d.draw()
		if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), strings.Join(s.lines, "\n")+"\n"); diff != "" {
			t.Errorf("after %d ms: %s", ms, diff)
		}
		if s.cursorHidden {
			t.Error("the cursor is hidden between frames")
		}
	}
	d.draw()
	if s.writes != 0 {
		t.Error("an empty view is drawn")
	}
	d.Emit(at(0, "a", progress.Cached))
	d.Emit(at(100, "b", progress.Started, note("package.json changed")))
	d.Emit(at(200, "b", progress.Log, data("one\n\x1b[2Jtwo\t|\n\nthr")))
	d.Emit(at(200, "b", progress.Status, note("file"), size(1000, 3000)))
	show(500, `
[+] Building 0.5s (1/2)
 => CACHED [a] step                          0.0s
 => [b] step                                 0.4s
 => => because: package.json changed
 => => file 1kB / 3kB                        0.3s
 => => # one
 => => # two     |
`)
	d.Emit(at(600, "b", progress.Status, note("file"), size(3000, 3000)))
	d.Emit(at(700, "c", progress.Started))
	show(2600, `
[+] Building 2.6s (1/3)
 => CACHED [a] step                          0.0s
 => [b] step                                 2.5s
 => => because: package.json changed
 => => file 3kB done                         0.4s
 => => # one
 => => # two     |
 => [c] step                                 1.9s
`)
	d.Emit(at(2700, "b", progress.Failed, fail("x")))
	d.Emit(at(2800, "c", progress.Canceled))
	now = start.Add(3 * time.Second)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	before := s.writes
	if err := d.Close(); err != nil || s.writes != before {
		t.Error("a second Close draws")
	}
	show(3000, `
[+] Building 3.0s (3/3) FINISHED
 => CACHED [a] step                          0.0s
 => ERROR [b] step                           2.6s
 => CANCELED [c] step                        2.1s
`)
}

func TestTTYResize(t *testing.T) {
	now := start
	s := &screen{t: t, width: 60, height: 10}
	d := newTestTTY(s, &now)
	for i := range 30 {
		id := fmt.Sprintf("step %d of a name that is rather long for this terminal 日本語", i)
		d.Emit(at(i, id, progress.Started))
		if i%2 == 0 {
			d.Emit(at(i, id, progress.Done))
		}
		d.Emit(at(i, id, progress.Log, data("a log line that is long too, and then some more of it\n")))
	}
	for _, size := range [][2]int{{60, 10}, {80, 10}, {20, 10}, {20, 4}, {1, 1}, {7, 3}, {100, 50}, {60, 10}} {
		s.width, s.height = size[0], size[1]
		if s.width < 7 {
			s.width = 7
		}
		d.draw()
		if d.drawn > max(s.height-1, 2) {
			t.Errorf("%d lines in a terminal of height %d", d.drawn, s.height)
		}
	}
}

func TestFrameKeepsWhatRuns(t *testing.T) {
	v := view{title: "Building", began: start}
	for i := range 20 {
		x := &viewVertex{name: fmt.Sprint("v", i), state: progress.Done, started: start, ended: start}
		if i == 3 || i == 15 {
			x.state, x.tail = progress.Started, []string{"l1", "l2", "l3", "l4", "l5", "l6"}
		}
		v.vertices = append(v.vertices, x)
	}
	got := strings.Join(v.frame(40, 14, start.Add(time.Second), false), "\n")
	want := `[+] Building 1.0s (18/20)
 => v3                             1.0s
 => => # l2
 => => # l3
 => => # l4
 => => # l5
 => => # l6
 => v15                            1.0s
 => => # l2
 => => # l3
 => => # l4
 => => # l5
 => => # l6`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n := len(v.frame(40, 8, start, false)); n != 7 {
		t.Errorf("%d lines in a terminal of height 8", n)
	}
	if n := len(v.frame(40, 3, start, false)); n != 2 {
		t.Errorf("%d lines in a terminal of height 3", n)
	}
	v.closed = true
	if n := len(v.frame(40, 8, start, false)); n != 21 {
		t.Errorf("the last frame has %d lines, want one for each of 20 vertices and the header", n)
	}
}

func TestFrameColours(t *testing.T) {
	v := view{title: "Building", began: start, vertices: []*viewVertex{{name: "a", state: progress.Failed, started: start, ended: start}}}
	lines := v.frame(30, 24, start, true)
	if want := "\x1b[31m => ERROR a              0.0s\x1b[0m"; lines[1] != want {
		t.Errorf("got %q, want %q", lines[1], want)
	}
}

func TestTTYRedrawsInOneWrite(t *testing.T) {
	var b bytes.Buffer
	d := newTTY(&b, "Building", func() (int, int) { return 80, 24 }, false, func() time.Time { return start })
	d.stop()
	d.Emit(at(0, "a", progress.Started))
	b.Reset()
	d.draw()
	first := b.String()
	b.Reset()
	d.draw()
	if want := "\x1b[?25l\x1b[2A\r"; !strings.HasPrefix(b.String(), want) {
		t.Errorf("the second frame begins %q, want %q", b.String(), want)
	}
	if !strings.HasSuffix(first, "\x1b[?25h") {
		t.Errorf("the frame %q leaves the cursor hidden", first)
	}
}
