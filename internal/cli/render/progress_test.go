package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"strata/internal/errdef"
	"strata/internal/progress"
)

// start is when the events of these tests begin.
var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// at makes an event, ms milliseconds after start.
func at(ms int, vertex string, state progress.State, more ...func(*progress.Event)) progress.Event {
	e := progress.Event{Time: start.Add(time.Duration(ms) * time.Millisecond), Vertex: vertex, Name: "[" + vertex + "] step", State: state}
	for _, m := range more {
		m(&e)
	}
	return e
}

func data(s string) func(*progress.Event) {
	return func(e *progress.Event) { e.Data = []byte(s); e.Stream = 1 }
}
func note(s string) func(*progress.Event) { return func(e *progress.Event) { e.Note = s } }
func fail(s string) func(*progress.Event) { return func(e *progress.Event) { e.Error = s } }
func size(current, total int64) func(*progress.Event) {
	return func(e *progress.Event) { e.Current, e.Total = current, total }
}

func plainText(t *testing.T, colours bool, events ...progress.Event) string {
	t.Helper()
	var b bytes.Buffer
	p := newPlain(&b, colours)
	for _, e := range events {
		p.Emit(e)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPlain(t *testing.T) {
	for _, c := range []struct {
		name   string
		events []progress.Event
		want   string
	}{
		{"one after the other", []progress.Event{
			at(0, "a", progress.Started),
			at(10, "a", progress.Status, note("context"), size(0, 0)),
			at(20, "a", progress.Status, note("context"), size(1200000, 3400000)),
			at(30, "a", progress.Status, note("context"), size(2200000, 3400000)),
			at(40, "a", progress.Status, note("context"), size(3400000, 3400000)),
			at(50, "a", progress.Done),
			at(60, "b", progress.Cached),
			at(100, "c", progress.Started, note("package.json changed\nargument V: 1 → 2")),
			at(223, "c", progress.Log, data("out")),
			at(300, "c", progress.Log, data("put\nmo\x1b[2Jre\r\npart")),
			at(400, "c", progress.Failed, fail("exit\ncode: 1")),
		}, `
#1 [a] step
#1 context
#1 context 3.4MB done
#1 DONE 0.1s

#2 [b] step
#2 CACHED

#3 [c] step
#3 because: package.json changed
#3 because: argument V: 1 → 2
#3 0.200 output
#3 0.200 more
#3 0.300 part
#3 ERROR: exit code: 1
`},
		{"a vertex that is silent gives way", []progress.Event{
			at(0, "a", progress.Started),
			at(100, "b", progress.Started),
			at(200, "a", progress.Log, data("a1\n")),
			at(300, "b", progress.Log, data("b1\n")),
			at(1300, "b", progress.Log, data("b2\n")),
			at(1400, "a", progress.Log, data("a2\n")),
			at(1500, "b", progress.Done),
			at(1600, "a", progress.Done),
		}, `
#1 [a] step
#1 0.200 a1
#1 ...

#2 [b] step
#2 0.200 b1
#2 1.200 b2
#2 DONE 1.4s

#1 [a] step
#1 1.400 a2
#1 DONE 1.6s
`},
		{"what is left when it closes", []progress.Event{
			at(0, "a", progress.Started),
			at(0, "b", progress.Started),
			at(10, "a", progress.Log, data("a half")),
			at(10, "b", progress.Log, data("b half")),
			at(20, "c", progress.Canceled),
			at(30, "c", progress.Done),
		}, `
#1 [a] step
#1 0.000 a half
#1 ...

#2 [b] step
#2 0.000 b half
#2 ...

#3 [c] step
#3 CANCELED
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want[1:], plainText(t, false, c.events...)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestPlainTalkative: a vertex that never pauses keeps another waiting for maxWait or maxHeld lines at most.
func TestPlainTalkative(t *testing.T) {
	var b bytes.Buffer
	p := newPlain(&b, false)
	p.Emit(at(0, "a", progress.Started))
	p.Emit(at(0, "b", progress.Started))
	for ms := 0; ms < 4900; ms += 100 {
		p.Emit(at(ms, "a", progress.Log, data("a\n")))
	}
	if strings.Contains(b.String(), "[b]") {
		t.Error("b has the floor too early")
	}
	p.Emit(at(5000, "a", progress.Log, data("a\n")))
	if !strings.Contains(b.String(), "#1 ...\n\n#2 [b] step\n") {
		t.Error("b waits for more than maxWait")
	}
	b.Reset()
	p.Emit(at(5001, "a", progress.Log, data(strings.Repeat("x\n", maxHeld))))
	if !strings.HasPrefix(b.String(), "#2 ...\n\n#1 [a] step\n") {
		t.Errorf("%d lines are held back", maxHeld)
	}
}

func TestPlainSilence(t *testing.T) {
	var b bytes.Buffer
	p := newPlain(&b, false)
	p.Emit(at(0, "a", progress.Started))
	p.Emit(at(1, "b", progress.Started))
	p.Emit(at(2, "b", progress.Log, data("b\n")))
	p.flush(start.Add(patience / 2))
	if strings.Contains(b.String(), "[b]") {
		t.Error("b has the floor too early")
	}
	p.flush(start.Add(patience + time.Millisecond))
	if !strings.HasSuffix(b.String(), "#2 [b] step\n#2 0.001 b\n") {
		t.Errorf("b has not spoken: %q", b.String())
	}
}

func TestPlainColours(t *testing.T) {
	event := at(0, "a", progress.Log, data("\x1b[31mred\x1b[K\n"))
	if got, want := plainText(t, true, event), "#1 [a] step\n#1 0.000 \x1b[31mred\x1b[0m\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := plainText(t, false, event), "#1 [a] step\n#1 0.000 red\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPlainManyAtOnce(t *testing.T) {
	var b bytes.Buffer
	p := newPlain(&b, false)
	var wg sync.WaitGroup
	for v := range 8 {
		wg.Go(func() {
			id := fmt.Sprint("v", v)
			p.Emit(at(0, id, progress.Started))
			for i := range 100 {
				p.Emit(at(i, id, progress.Log, data(fmt.Sprintf("%s line %d\n", id, i))))
			}
			p.Emit(at(100, id, progress.Done))
		})
	}
	wg.Wait()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	for v := range 8 {
		for i := range 100 {
			if line := fmt.Sprintf(" v%d line %d\n", v, i); strings.Count(b.String(), line) != 1 {
				t.Errorf("line %q stands %d times", line, strings.Count(b.String(), line))
			}
		}
	}
	if n := strings.Count(b.String(), "DONE"); n != 8 {
		t.Errorf("%d vertices are done, want 8", n)
	}
}

type badWriter struct{}

func (badWriter) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestDisplaysReportWriteErrors(t *testing.T) {
	displays := map[string]Progress{
		"plain":   newPlain(badWriter{}, false),
		"rawjson": &rawJSON{w: badWriter{}},
		"tty":     newTTY(badWriter{}, "Building", func() (int, int) { return 80, 24 }, false, time.Now),
	}
	for name, d := range displays {
		d.Emit(at(0, "a", progress.Done))
		d.Emit(at(0, "b", progress.Done))
		if err := d.Close(); err == nil || err.Error() != "broken pipe" {
			t.Errorf("%s: Close gives %v", name, err)
		}
	}
}

func TestNewProgress(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	run := func(mode string) string {
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		p, err := NewProgress(mode, "Building", f)
		if err != nil {
			t.Fatal(err)
		}
		p.Emit(at(0, "a", progress.Cached))
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		out, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	const plain = "#1 [a] step\n#1 CACHED\n"
	for mode, want := range map[string]string{"": plain, "auto": plain, "tty": plain, "plain": plain, "quiet": ""} {
		if got := run(mode); got != want {
			t.Errorf("%q: got %q, want %q", mode, got, want)
		}
	}
	var e progress.Event
	if err := json.Unmarshal([]byte(run("rawjson")), &e); err != nil || e.Vertex != "a" || e.State != progress.Cached {
		t.Errorf("rawjson gives %+v, %v", e, err)
	}
	if _, err := NewProgress("fancy", "Building", os.Stderr); !errors.Is(err, errdef.ErrInvalid) || errdef.Hint(err) == "" {
		t.Errorf("an unknown mode gives %v", err)
	}
}

func TestFailedStep(t *testing.T) {
	var b bytes.Buffer
	FailedStep(&b, "[build 2/4] RUN false", []byte("0.102 output\n\x1b[2Jmore"), "Dockerfile:3\n--------------------\n   3 | >>> RUN false\n--------------------\n")
	want := `------
 > [build 2/4] RUN false:
0.102 output
more
------
Dockerfile:3
--------------------
   3 | >>> RUN false
--------------------
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
	b.Reset()
	FailedStep(&b, "x", nil, "")
	if want := "------\n > x:\n------\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

func TestError(t *testing.T) {
	var b bytes.Buffer
	Error(&b, nil)
	Error(&b, errors.New("a\x1b]0;t\a failed\n"))
	Error(&b, fmt.Errorf("more: %w", errdef.WithHint(fmt.Errorf("image %q: %w", "x", errdef.ErrNotFound), "strata pull x")))
	want := "strata: a failed\nstrata: more: image \"x\": not found\nhint: strata pull x\n"
	if b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}
