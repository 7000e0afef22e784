package graph_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"strata/internal/graph"
)

// picker is a step that takes a part of its first input.
type picker struct {
	op
	looks int
}

func (p *picker) Content(ctx context.Context, inputs []json.RawMessage) ([]graph.Line, error) {
	p.looks++
	return p.op.Content(ctx, inputs)
}

func TestSelectedPartDecides(t *testing.T) {
	c := open(t, exists)
	p := &picker{}
	build := func(source, part string) string {
		from := step("from", &op{lines: line("n", source)})
		p.lines, p.content = line("the destination", "/x"), line("file a", part)
		v := step("copy", p, from)
		v.Selects = []int{0}
		ev, _ := solve(t, c, v)
		return ev.of("copy") + " " + ev.note("copy")
	}
	for _, c := range []struct {
		source, part, want string
		looks              int
	}{
		{"1", "sha256:aa", "started done ", 1},
		{"1", "sha256:aa", "started cached ", 1}, // nothing changed: nobody looks
		{"2", "sha256:aa", "started cached ", 2}, // the source did, the part not
		{"2", "sha256:aa", "started cached ", 2},
		{"1", "sha256:aa", "started cached ", 2}, // what was known stays known
		{"3", "sha256:bb", "started done a changed", 3},
		{"2", "sha256:aa", "started cached ", 3},
	} {
		if got := build(c.source, c.part); got != c.want || p.looks != c.looks {
			t.Errorf("source %s, part %s: %q after %d looks, want %q after %d", c.source, c.part, got, p.looks, c.want, c.looks)
		}
	}
	if n := p.runs.Load(); n != 2 {
		t.Errorf("ran %d times", n)
	}
	aliases := filepath.Join(c.Dir(), "aliases")
	if err := os.WriteFile(filepath.Join(aliases, "junk"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	last, err := c.Last("test/copy")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Remove(last); err != nil {
		t.Fatal(err)
	}
	if err := c.Tidy(); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(aliases); len(left) != 1 {
		t.Errorf("left %v", left)
	}
	if got := build("1", "sha256:aa"); got != "started done " {
		t.Errorf("after the entry was removed: %q", got)
	}
}

func TestSelectedPartWithNoCache(t *testing.T) {
	c := open(t, exists)
	p := &picker{op: op{content: line("file a", "1")}}
	for range 2 {
		v := step("copy", p, step("from", &op{}))
		v.Selects, v.NoCache = []int{0}, true
		solve(t, c, v)
	}
	if n := p.runs.Load(); n != 2 || p.looks != 2 {
		t.Errorf("ran %d times, looked %d times", n, p.looks)
	}
}
