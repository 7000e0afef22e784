package graph_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"strata/internal/errdef"
	"strata/internal/graph"
)

func TestWalkTouchRemove(t *testing.T) {
	c := open(t, exists)
	_, got := solve(t, c, step("a", &op{lines: line("n", "a")}), step("b", &op{lines: line("n", "b"), content: line("file b", "")}))
	count := func() (n int) {
		if err := c.Walk(func(graph.Entry) error { n++; return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := count(); n != 2 {
		t.Fatalf("%d entries", n)
	}
	path := filepath.Join(c.Dir(), "entries", string(got[0].Key)+".json")
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	if e, err := c.Get(got[0].Key); err != nil || !e.LastUsed.Before(time.Now().Add(-time.Minute)) {
		t.Errorf("last used %v, %v", e.LastUsed, err)
	}
	if err := c.Touch(got[0].Key); err != nil {
		t.Fatal(err)
	}
	if e, err := c.Get(got[0].Key); err != nil || e.LastUsed.Before(time.Now().Add(-time.Minute)) {
		t.Errorf("last used %v, %v", e.LastUsed, err)
	}
	for range 2 {
		if err := c.Remove(got[1].Key); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(); n != 1 {
		t.Errorf("%d entries after removal", n)
	}
	if _, err := c.Get(got[1].Key); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if err := c.Touch(got[1].Key); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if ev, _ := solve(t, c, step("b", &op{lines: line("n", "b"), content: line("file b", "")})); ev.note("b") != "its cache entry was removed" {
		t.Errorf("note %q", ev.note("b"))
	}
}

func TestKeysFromOutsideAreChecked(t *testing.T) {
	c := open(t, exists)
	for _, key := range []graph.Key{"", "../../etc/passwd", graph.Key(strings.Repeat("A", 64))} {
		_, getErr := c.Get(key)
		_, _, linesErr := c.ContentLines(key)
		for _, err := range []error{getErr, linesErr, c.Remove(key), c.Touch(key)} {
			if !errors.Is(err, errdef.ErrInvalid) {
				t.Errorf("key %q: %v", key, err)
			}
		}
	}
}

func TestTidy(t *testing.T) {
	c := open(t, exists)
	_, got := solve(t, c, step("keep", &op{lines: line("n", "keep")}), step("drop", &op{lines: line("n", "drop"), content: line("file a", "")}))
	junk := []string{"locks/x.lock", "entries/.tmp-1", "entries/" + strings.Repeat("0", 64) + ".json", "slots/.tmp-2"}
	for _, name := range junk {
		if err := os.WriteFile(filepath.Join(c.Dir(), name), []byte("junk"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(c.Dir(), "entries", string(got[1].Key)+".json")); err != nil {
		t.Fatal(err)
	}
	// What is young may be on its way.
	all, err := filepath.Glob(filepath.Join(c.Dir(), "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	hidden, err := filepath.Glob(filepath.Join(c.Dir(), "*", ".*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(all, hidden...) {
		if err := os.Chtimes(name, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Tidy(); err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, sub := range []string{"entries", "slots", "locks"} {
		names, err := filepath.Glob(filepath.Join(c.Dir(), sub, "*"))
		if err != nil {
			t.Fatal(err)
		}
		left = append(left, names...)
	}
	if len(left) != 2 {
		t.Errorf("left: %v", left)
	}
	if last, err := c.Last("test/keep"); err != nil || last != got[0].Key {
		t.Errorf("slot of the kept step: %s, %v", last, err)
	}
}
