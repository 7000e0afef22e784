package container

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
	raw, err := os.ReadFile(w.path)
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
		if _, got := read(t, w.path, LogOptions{Tail: -1}); got != want.String() {
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
		info, err := os.Stat(rotated(w.path, i))
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > 2000 {
			t.Errorf("file %d has %d bytes", i, info.Size())
		}
	}
	if _, err := os.Stat(rotated(w.path, 3)); err == nil {
		t.Error("a fourth file")
	}
	for _, tail := range []int{0, 1, 5, 40, 1000, -1} {
		got, _ := read(t, w.path, LogOptions{Tail: tail})
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

func TestLogFollowThroughRotation(t *testing.T) {
	w := newTestLog(t, LogConfig{MaxSize: 200_000, MaxFiles: 5})
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
	}()
	var out bytes.Buffer
	r := &logReader{path: w.path, o: LogOptions{Tail: -1, Follow: true}, stdout: &out}
	err := r.run(t.Context(), func() bool {
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

func TestLogTimes(t *testing.T) {
	w := newTestLog(t, LogConfig{})
	base := time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)
	for i := range 5 {
		w.line(fmt.Appendf(nil, "%d\n", i), "stdout", base.Add(time.Duration(i)*time.Second))
	}
	w.flush()
	w.f.WriteString("{\"log\":\"torn\n") // as a crash leaves it
	got, _ := read(t, w.path, LogOptions{Tail: -1, Since: base.Add(time.Second), Timestamps: true})
	if !strings.HasPrefix(got, "2024-01-02T03:04:06.000000000Z 1\n") || strings.Count(got, "\n") != 4 {
		t.Errorf("since: %q", got)
	}
	var out bytes.Buffer
	r := &logReader{path: w.path, o: LogOptions{Tail: -1, Until: base.Add(time.Second)}, stdout: &out}
	if err := r.run(t.Context(), func() bool { return true }); err != errPastUntil || out.String() != "0\n1\n" {
		t.Errorf("until: %q, %v", out.String(), err)
	}
}

func FuzzAppendEscaped(f *testing.F) {
	f.Add([]byte("a\"\\\x00\xc3\n"))
	f.Fuzz(func(t *testing.T, p []byte) {
		enc := append(appendEscaped([]byte{'"'}, p), '"')
		var got string
		if err := json.Unmarshal(enc, &got); err != nil {
			t.Fatalf("%q: %v", enc, err)
		}
		if want := strings.ToValidUTF8(string(p), "\ufffd"); !sameText(got, want) {
			t.Fatalf("%q, want %q", got, want)
		}
	})
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
