package render

import (
	"fmt"
	"strings"
	"time"

	"strata/internal/progress"
)

// tailLines is how many of a running vertex's last log lines are shown.
const tailLines = 6

// view is all that a frame shows. It is changed by events only; [view.frame] reads it.
type view struct {
	title    string // what is going on
	began    time.Time
	vertices []*viewVertex // in order of appearance
	closed   bool
}

// viewVertex is a vertex as it stands. Its texts are clean and on one line.
type viewVertex struct {
	name           string
	state          progress.State // Started while it runs
	started, ended time.Time
	because        string
	transfers      []transfer
	tail           []string
}

// transfer is how far something of a vertex is.
type transfer struct {
	note           string
	current, total int64
	started, ended time.Time
}

// frameLine is one line of a frame: text at the left, a time at the right.
type frameLine struct{ left, right, colour string }

// frame lays the view out for a terminal of width and height: lines of at most width-1 columns, at most height-1 of them
// so that the cursor has one. A closed view shows every vertex, whatever the height, and details of none.
func (v *view) frame(width, height int, now time.Time, coloured bool) []string {
	lines := []frameLine{v.header(now)}
	if v.closed {
		for _, x := range v.vertices {
			lines = append(lines, x.line(now))
		}
	} else {
		lines = append(lines, v.body(max(height-2, 1), now)...)
	}
	texts := make([]string, len(lines))
	for i, l := range lines {
		texts[i] = l.text(width, coloured)
	}
	return texts
}

func (v *view) header(now time.Time) frameLine {
	done := 0
	for _, x := range v.vertices {
		if ended(x.state) {
			done++
		}
	}
	left := fmt.Sprintf("[+] %s %.1fs (%d/%d)", v.title, now.Sub(v.began).Seconds(), done, len(v.vertices))
	if v.closed && done == len(v.vertices) {
		left += " FINISHED"
	}
	return frameLine{left: left}
}

// body picks rows lines: running vertices first, then their details, then as many of those that ended last as fit.
func (v *view) body(rows int, now time.Time) []frameLine {
	running := 0
	for _, x := range v.vertices {
		if !ended(x.state) {
			running++
		}
	}
	spare, sharers := max(rows-running, 0), running
	details := map[*viewVertex][]frameLine{}
	for _, x := range v.vertices {
		if !ended(x.state) {
			d := x.details(now)
			d = d[max(len(d)-spare/sharers, 0):]
			details[x] = d
			spare -= len(d)
			sharers--
		}
	}
	hidden := max(len(v.vertices)-running-spare, 0) // of those that ended, the first
	overflow := max(running-rows, 0)                // of those that run, the first
	var lines []frameLine
	for _, x := range v.vertices {
		skipped := &hidden
		if !ended(x.state) {
			skipped = &overflow
		}
		if *skipped > 0 {
			*skipped--
			continue
		}
		lines = append(lines, x.line(now))
		lines = append(lines, details[x]...)
	}
	return lines
}

// line is the vertex itself: " => [build 2/4] RUN make    0.3s".
func (x *viewVertex) line(now time.Time) frameLine {
	end := now
	if ended(x.state) {
		end = x.ended
	}
	l := frameLine{left: " => ", right: seconds(end.Sub(x.started))}
	switch x.state {
	case progress.Cached:
		l.left, l.colour = l.left+"CACHED ", blue
	case progress.Failed:
		l.left, l.colour = l.left+"ERROR ", red
	case progress.Canceled:
		l.left, l.colour = l.left+"CANCELED ", yellow
	case progress.Done:
		l.colour = blue
	}
	l.left += x.name
	return l
}

// details are what a running vertex tells of itself.
func (x *viewVertex) details(now time.Time) []frameLine {
	var lines []frameLine
	if x.because != "" {
		lines = append(lines, frameLine{left: " => => because: " + x.because, colour: dim})
	}
	for _, t := range x.transfers {
		end := now
		if !t.ended.IsZero() {
			end = t.ended
		}
		lines = append(lines, frameLine{left: " => => " + transferText(t.note, t.current, t.total), right: seconds(end.Sub(t.started))})
	}
	for _, text := range x.tail {
		lines = append(lines, frameLine{left: " => => # " + text, colour: dim})
	}
	return lines
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1fs", max(d, 0).Seconds()) }

// text fills the line's width: the last column stays free, because writing into it makes some terminals wrap.
func (l frameLine) text(width int, coloured bool) string {
	width = max(width-1, 1)
	if l.right == "" || width < len(l.right)+2 {
		return paint(Ellipsis(l.left, width), l.colour, coloured)
	}
	left := Ellipsis(l.left, width-len(l.right)-1)
	gap := width - len(l.right) - textWidth(left)
	return paint(left+strings.Repeat(" ", gap)+l.right, l.colour, coloured)
}
