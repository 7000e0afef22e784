package container

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

func newTestLog(t testing.TB, c LogConfig) *logWriter {
	t.Helper()
	w, err := openLog(filepath.Join(t.TempDir(), "x-json.log"), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.close() })
	return w
}

func read(t testing.TB, path string, o LogOptions) (string, string) {
	t.Helper()
	var out, errs bytes.Buffer
	r := &logReader{path: path, o: o, stdout: &out, stderr: &errs}
	if err := r.run(context.Background(), func() bool { return false }); err != nil {
		t.Fatal(err)
	}
	return out.String(), errs.String()
}

func TestLogForm(t *testing.T) {
	w := newTestLog(t, LogConfig{})
	s := &stream{w: w, name: "stdout"}
	s.write([]byte("a\"b\\c\x01\té\xff\nrest"))
	s.end()
	raw, err := os.ReadFile(w.files.path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines: %s", len(lines), raw)
	}
	var e map[string]string
	if err := json.Unmarshal([]byte(lines[0]), &e); err != nil {
		t.Fatal(err)
	}
	if e["log"] != "a\"b\\c\x01\té\ufffd\n" || e["stream"] != "stdout" || len(e) != 3 {
		t.Errorf("entry %q", e)
	}
	if _, err := time.Parse(time.RFC3339Nano, e["time"]); err != nil {
		t.Error(err)
	}
}

// However the output is cut into reads, what is read back is what was written.
func TestLogRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		w, err := openLog(filepath.Join(dir, "l"), LogConfig{MaxSize: -1}, nil)
		if err != nil {
			rt.Fatal(err)
		}
		defer w.close()
		s := &stream{w: w, name: "stderr"}
		var want strings.Builder
		for range rapid.IntRange(0, 8).Draw(rt, "writes") {
			p := rapid.StringMatching(`([a-zé"\\]{0,9}\n?){0,4}`).Draw(rt, "p")
			if rapid.IntRange(0, 9).Draw(rt, "long") == 0 {
				p = strings.Repeat("x", rapid.IntRange(maxLine-2, 2*maxLine+2).Draw(rt, "n")) + p
			}
			want.WriteString(p)
			s.write([]byte(p))
		}
		s.end()
		if _, got := read(t, w.files.path, LogOptions{Tail: -1}); got != want.String() {
			rt.Fatalf("got %d bytes, want %d; %.80q, want %.80q", len(got), want.Len(), got, want.String())
		}
	})
}

func TestLogRotation(t *testing.T) {
	w := newTestLog(t, LogConfig{MaxSize: 2000, MaxFiles: 3})
	s := &stream{w: w, name: "stdout"}
	for i := range 200 {
		s.write(fmt.Appendf(nil, "line %d\n", i))
	}
	for i := range 3 {
		info, err := os.Stat(rotated(w.files.path, i))
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > 2000 {
			t.Errorf("file %d has %d bytes", i, info.Size())
		}
	}
	if _, err := os.Stat(rotated(w.files.path, 3)); err == nil {
		t.Error("a fourth file")
	}
	for _, tail := range []int{0, 1, 5, 40, 1000, -1} {
		got, _ := read(t, w.files.path, LogOptions{Tail: tail})
		lines := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
		if tail == 0 {
			if got != "" {
				t.Errorf("tail 0: %q", got)
			}
			continue
		}
		if lines[len(lines)-1] != "line 199" || tail > 0 && len(lines) > tail || tail > 0 && tail <= 40 && len(lines) != tail {
			t.Errorf("tail %d: %d lines, last %q", tail, len(lines), lines[len(lines)-1])
		}
	}
}

// One read of the container's output is many entries: they go to as many files as they need.
func TestLogRotationOfOneRead(t *testing.T) {
	w := newTestLog(t, LogConfig{MaxSize: 1000, MaxFiles: 400})
	s := &stream{w: w, name: "stdout"}
	var p []byte
	for i := range 2000 {
		p = fmt.Appendf(p, "line %d\n", i)
	}
	p = append(append(p, strings.Repeat("y", 3000)...), "\nlast\n"...)
	s.write(p)
	for i := range 150 {
		if info, err := os.Stat(rotated(w.files.path, i)); err != nil || info.Size() > 1000 && i != 1 {
			t.Fatalf("file %d: %v, %v", i, info, err)
		}
	}
	if got, _ := read(t, w.files.path, LogOptions{Tail: -1}); got != string(p) {
		t.Errorf("got %d bytes, want %d", len(got), len(p))
	}
}

func TestLogFollowThroughRotation(t *testing.T) {
	for name, c := range map[string]LogConfig{
		"plain": {MaxSize: 100_000, MaxFiles: 9}, "compressed": {MaxSize: 100_000, MaxFiles: 9, Compress: true}, "behind": {MaxSize: 100_000, MaxFiles: 9, NonBlocking: true},
	} {
		t.Run(name, func(t *testing.T) { followThroughRotation(t, c) })
	}
}

func followThroughRotation(t *testing.T, c LogConfig) {
	w, err := openLog(filepath.Join(t.TempDir(), "x-json.log"), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &stream{w: w, name: "stdout"}
	const n = 5000
	alive := make(chan struct{})
	go func() {
		defer close(alive)
		for i := range n {
			s.write(fmt.Appendf(nil, "line %d\n", i))
			if i%1000 == 0 {
				time.Sleep(10 * time.Millisecond)
			}
		}
		w.close() // before its shim's end, as ever: what is written behind is there then
	}()
	var out bytes.Buffer
	r := &logReader{path: w.files.path, o: LogOptions{Tail: -1, Follow: true}, stdout: &out}
	err = r.run(t.Context(), func() bool {
		select {
		case <-alive:
			return false
		default:
			return true
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for i := range n {
		fmt.Fprintf(&want, "line %d\n", i)
	}
	if out.String() != want.String() {
		t.Errorf("got %d bytes, want %d", out.Len(), want.Len())
	}
}

// A writer that the machine keeps from its work stops between any two names that it changes, and one that is killed for good.
func TestLogHalfRotated(t *testing.T) {
	for _, c := range []LogConfig{{MaxSize: 300, MaxFiles: 9}, {MaxSize: 300, MaxFiles: 9, Compress: true}} {
		w := newTestLog(t, c)
		s := &stream{w: w, name: "stdout"}
		var lines []string
		for i := range 16 {
			lines = append(lines, fmt.Sprintf("line %d\n", i))
			s.write([]byte(lines[i]))
		}
		if w.files.pressed != nil {
			<-w.files.pressed
		}
		numbers, err := logNumbers(w.files.path)
		if err != nil || len(numbers) < 4 {
			t.Fatalf("files %v, %v", numbers, err)
		}
		for _, i := range slices.Backward(numbers) {
			w.files.shift(i)
			for _, tail := range []int{-1, len(lines), 1, 9} {
				want := lines
				if tail > 0 {
					want = lines[len(lines)-tail:]
				}
				if got, _ := read(t, w.files.path, LogOptions{Tail: tail}); got != strings.Join(want, "") {
					t.Errorf("without name %d, tail %d: %q", i, tail, got)
				}
			}
		}
	}
}

// Older files are compressed, and read as if they were not.
func TestLogCompressed(t *testing.T) {
	w := newTestLog(t, LogConfig{MaxSize: 3000, MaxFiles: 4, Compress: true})
	s := &stream{w: w, name: "stdout"}
	for i := range 200 {
		s.write(fmt.Appendf(nil, "line %d\n", i))
	}
	<-w.files.pressed
	for i := 1; i < 4; i++ {
		if _, err := os.Stat(rotated(w.files.path, i)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("file %d is there uncompressed: %v", i, err)
		}
		if _, err := os.Stat(rotated(w.files.path, i) + zipped); err != nil {
			t.Error(err)
		}
	}
	all, _ := read(t, w.files.path, LogOptions{Tail: -1})
	lines := strings.SplitAfter(strings.TrimSuffix(all, "\n"), "\n")
	if len(lines) < 80 || lines[len(lines)-1] != "line 199" {
		t.Fatalf("%d lines, last %q", len(lines), lines[len(lines)-1])
	}
	for n := range len(lines) + 3 {
		want := strings.Join(lines[len(lines)-min(n, len(lines)):], "")
		if got, _ := read(t, w.files.path, LogOptions{Tail: n}); strings.TrimSuffix(got, "\n") != want {
			t.Fatalf("tail %d: %q, want %q", n, got, want)
		}
	}
	// Killed while it was compressed: the file itself counts.
	write(t, rotated(w.files.path, 1), `{"log":"whole\n","stream":"stdout","time":"2024-01-02T03:04:05Z"}`+"\n", 0o640)
	write(t, rotated(w.files.path, 1)+zipped, "\x1f\x8b\x08", 0o640)
	if got, _ := read(t, w.files.path, LogOptions{Tail: -1}); !strings.Contains(got, "whole\n") {
		t.Errorf("%q", got)
	}
	w.files.rotate()
	<-w.files.pressed
	if got, _ := read(t, w.files.path, LogOptions{Tail: -1}); !strings.Contains(got, "whole\n") {
		t.Errorf("after a rotation: %q", got)
	}
}

// Where the disk is slow, a log that does not block drops whole entries, and holds no more than its bound.
func TestLogNonBlocking(t *testing.T) {
	w := newTestLog(t, LogConfig{MaxSize: -1, NonBlocking: true, MaxBuffer: 10_000})
	fifo := filepath.Join(t.TempDir(), "slow")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	slow, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := w.files.f
	w.files.f = slow
	s := &stream{w: w, name: "stdout"}
	for i := range 20_000 { // more than the pipe and the buffer hold: nobody reads yet
		s.write(fmt.Appendf(nil, "line %d\n", i))
		if i%1000 == 0 {
			w.mu.Lock()
			if len(w.out) > 10_000 {
				t.Errorf("%d bytes wait", len(w.out))
			}
			w.mu.Unlock()
		}
	}
	go func() { // the disk is quick again
		defer file.Close()
		_, _ = io.Copy(file, slow)
	}()
	for waiting := true; waiting; time.Sleep(time.Millisecond) {
		w.mu.Lock()
		waiting = len(w.out) > 0
		w.mu.Unlock()
	}
	s.write([]byte("the last\n"))
	var got string
	for deadline := time.Now().Add(patience); !strings.HasSuffix(got, "the last\n") && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		got, _ = read(t, w.files.path, LogOptions{Tail: -1})
	}
	lines := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
	if len(lines) < 100 || len(lines) > 10_000 || lines[0] != "line 0" || lines[len(lines)-1] != "the last" {
		t.Errorf("%d lines, from %q to %q", len(lines), lines[0], lines[len(lines)-1])
	}
	for _, line := range lines[:len(lines)-1] {
		if !strings.HasPrefix(line, "line ") {
			t.Fatalf("%q", line)
		}
	}
}

func TestLogDetails(t *testing.T) {
	w, err := openLog(filepath.Join(t.TempDir(), "l"), LogConfig{}, map[string]string{"b": "2 x", "a": "1"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	s := &stream{w: w, name: "stdout"}
	s.write([]byte("one\ntw"))
	s.write(append(bytes.Repeat([]byte("o"), maxLine), '\n'))
	got, _ := read(t, w.files.path, LogOptions{Tail: -1, Details: true})
	if want := "a=1,b=2+x one\na=1,b=2+x tw" + strings.Repeat("o", maxLine) + "\n"; got != want {
		t.Errorf("%.60q, want %.60q", got, want)
	}
}

func BenchmarkLog(b *testing.B) {
	for _, n := range []int{40, 200} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := newTestLog(b, LogConfig{MaxSize: 100 << 20, MaxFiles: 2})
			s := &stream{w: w, name: "stdout"}
			line := append(bytes.Repeat([]byte("x"), n-1), '\n')
			p := bytes.Repeat(line, 64<<10/n)
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				s.write(p)
			}
		})
	}
}

func TestLogTimes(t *testing.T) {
	w := newTestLog(t, LogConfig{})
	base := time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)
	for i := range 5 {
		w.at(base.Add(time.Duration(i) * time.Second))
		w.line(fmt.Appendf(nil, "%d\n", i), "stdout")
	}
	w.flush()
	w.files.f.WriteString("{\"log\":\"torn\n") // as a crash leaves it
	got, _ := read(t, w.files.path, LogOptions{Tail: -1, Since: base.Add(time.Second), Timestamps: true})
	if !strings.HasPrefix(got, "2024-01-02T03:04:06.000000000Z 1\n") || strings.Count(got, "\n") != 4 {
		t.Errorf("since: %q", got)
	}
	var out bytes.Buffer
	r := &logReader{path: w.files.path, o: LogOptions{Tail: -1, Until: base.Add(time.Second)}, stdout: &out}
	if err := r.run(t.Context(), func() bool { return true }); err != errPastUntil || out.String() != "0\n1\n" {
		t.Errorf("until: %q, %v", out.String(), err)
	}
}

func FuzzAppendEscaped(f *testing.F) {
	f.Add([]byte("a\"\\\x00\xc3\n"))
	f.Fuzz(checkEscaped)
}

func checkEscaped(t *testing.T, p []byte) {
	enc := append(appendEscaped([]byte{'"'}, p), '"')
	var got string
	if err := json.Unmarshal(enc, &got); err != nil {
		t.Fatalf("%q: %v", enc, err)
	}
	if want := strings.ToValidUTF8(string(p), "\ufffd"); !sameText(got, want) {
		t.Fatalf("%q, want %q", got, want)
	}
}

// Each byte, at each place of the eight that are looked at together, beside bytes of every kind.
func TestEscapedPlaces(t *testing.T) {
	for c := range 256 {
		for at := range 19 {
			for _, fill := range []string{"x", " ", "\x7f", "é", "!"} {
				p := []byte(strings.Repeat(fill, 19))
				p[at] = byte(c)
				checkEscaped(t, p)
			}
		}
	}
}

// sameText compares leaving aside how many replacement characters a run of bad bytes gives.
func sameText(got, want string) bool {
	squeeze := func(s string) string {
		for strings.Contains(s, "\ufffd\ufffd") {
			s = strings.ReplaceAll(s, "\ufffd\ufffd", "\ufffd")
		}
		return s
	}
	return squeeze(got) == squeeze(want)
}
