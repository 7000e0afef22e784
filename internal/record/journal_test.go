package record

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func lines(t *testing.T, r *JournalReader) []string {
	t.Helper()
	var got []string
	if err := r.Each(func(line []byte) error { got = append(got, string(line)); return nil }); err != nil {
		t.Fatal(err)
	}
	return got
}

func reader(t *testing.T, j *Journal, fromNow bool) *JournalReader {
	t.Helper()
	r, err := j.Reader(fromNow)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func add(t *testing.T, j *Journal, line string) {
	t.Helper()
	if err := j.Append([]byte(line)); err != nil {
		t.Fatal(err)
	}
}

func TestJournalReadsFromTheBeginningOrFromNow(t *testing.T) {
	j := OpenJournal(filepath.Join(t.TempDir(), "deep", "events"))
	early := reader(t, j, true)
	add(t, j, "one")
	all, now := reader(t, j, false), reader(t, j, true)
	add(t, j, "two")
	for name, c := range map[string]struct {
		r    *JournalReader
		want string
	}{"early": {early, "one two"}, "all": {all, "one two"}, "now": {now, "two"}} {
		if got := strings.Join(lines(t, c.r), " "); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if more := lines(t, c.r); len(more) > 0 {
			t.Errorf("%s: again: %q", name, more)
		}
	}
}

func TestJournalIsBounded(t *testing.T) {
	j := OpenJournal(t.TempDir())
	j.fileSize, j.files = 100, 3
	follower := reader(t, j, true)
	var followed []string
	for i := range 200 {
		add(t, j, fmt.Sprintf("line %04d", i))
		followed = append(followed, lines(t, follower)...)
	}
	if len(followed) != 200 {
		t.Errorf("a reader that follows saw %d of 200 lines", len(followed))
	}
	kept := lines(t, reader(t, j, false))
	if len(kept) < 20 || len(kept) > 30 || kept[len(kept)-1] != "line 0199" || !slices.IsSorted(kept) {
		t.Errorf("kept: %q", kept)
	}
	if entries, _ := os.ReadDir(j.dir); len(entries) != 3 {
		t.Errorf("%d files", len(entries))
	}
}

func TestJournalLinesOfManyWritersStayWhole(t *testing.T) {
	j := OpenJournal(t.TempDir())
	j.fileSize, j.files = 4<<10, 1000
	r := reader(t, j, true)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 100 {
				if err := j.Append([]byte(fmt.Sprintf("%d %d %s", w, i, strings.Repeat("x", 1+w*i)))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	next := map[int]int{}
	for _, line := range lines(t, r) {
		var w, i int
		var fill string
		if _, err := fmt.Sscan(line, &w, &i, &fill); err != nil || len(fill) != 1+w*i {
			t.Fatalf("line %q: %v", line, err)
		}
		if next[w]++; i >= 100 {
			t.Errorf("line %q", line)
		}
	}
	for w := range 8 {
		if next[w] != 100 {
			t.Errorf("writer %d: %d lines", w, next[w])
		}
	}
}

func TestJournalTornLineHidesNoOther(t *testing.T) {
	j := OpenJournal(t.TempDir())
	add(t, j, "first")
	r := reader(t, j, false)
	f, err := os.OpenFile(j.file(1), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("torn"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if got := lines(t, r); !slices.Equal(got, []string{"first"}) {
		t.Errorf("before: %q", got)
	}
	add(t, j, "second")
	if got := lines(t, r); !slices.Equal(got, []string{"torn", "second"}) {
		t.Errorf("after: %q", got)
	}
}

func TestJournalRefusesBadLines(t *testing.T) {
	j := OpenJournal(t.TempDir())
	for _, line := range []string{"", "a\nb", strings.Repeat("x", MaxLine)} {
		if err := j.Append([]byte(line)); err == nil {
			t.Errorf("a line of %d bytes was taken", len(line))
		}
	}
}

func TestJournalWait(t *testing.T) {
	j := OpenJournal(filepath.Join(t.TempDir(), "events"))
	r := reader(t, j, true)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	next := func(want string) {
		t.Helper()
		for {
			got := lines(t, r)
			if len(got) > 0 {
				if got[0] != want {
					t.Fatalf("%q, want %q", got, want)
				}
				return
			}
			if err := r.Wait(ctx, time.Time{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	go j.Append([]byte("one"))
	next("one")
	go j.Append([]byte("two"))
	next("two")
	// The store is emptied and made anew.
	if err := os.RemoveAll(j.dir); err != nil {
		t.Fatal(err)
	}
	go j.Append([]byte("three"))
	next("three")
	if err := r.Wait(ctx, time.Now()); err != nil {
		t.Error("the end is no failure:", err)
	}
	cancel()
	if err := r.Wait(ctx, time.Time{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// FuzzJournal: whatever a file holds, a line that is appended after it is read, and nothing is that is no line.
func FuzzJournal(f *testing.F) {
	f.Add([]byte("a\nb"), "c")
	f.Add([]byte("\n\n"), "x")
	f.Add(bytes.Repeat([]byte("long"), MaxLine/4), "y")
	f.Add(append(bytes.Repeat([]byte("z"), MaxLine), '\n'), "y")
	f.Fuzz(func(t *testing.T, before []byte, line string) {
		j := OpenJournal(t.TempDir())
		j.fileSize = 1 << 30
		if err := os.WriteFile(j.file(1), before, 0o600); err != nil {
			t.Fatal(err)
		}
		r := reader(t, j, false)
		lines(t, r)
		if err := j.Append([]byte(line)); err != nil {
			return
		}
		got := lines(t, r)
		if len(got) == 0 || got[len(got)-1] != line || len(got) > 2 {
			t.Errorf("after %q: %q", before, got)
		}
		for _, l := range got {
			if l == "" || len(l) > MaxLine || strings.Contains(l, "\n") {
				t.Errorf("line %q", l)
			}
		}
	})
}

func BenchmarkJournalAppend(b *testing.B) {
	j := OpenJournal(b.TempDir())
	line := bytes.Repeat([]byte("x"), 300)
	for b.Loop() {
		if err := j.Append(line); err != nil {
			b.Fatal(err)
		}
	}
}
