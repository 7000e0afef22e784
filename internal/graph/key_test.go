package graph_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"strata/internal/graph"
)

func lines() *rapid.Generator[[]graph.Line] {
	// Few letters, so that lists that differ only in their boundaries are common.
	text := rapid.StringMatching(`[ab\n\x00]{0,3}`)
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) graph.Line {
		return graph.Line{Name: text.Draw(t, "name"), Value: text.Draw(t, "value")}
	}), 0, 4)
}

func TestKeysDifferWhereLinesDo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := lines().Draw(t, "a"), lines().Draw(t, "b")
		if (graph.KeyOf(a) == graph.KeyOf(b)) != slices.Equal(a, b) {
			t.Fatalf("%q and %q", a, b)
		}
	})
}

func TestLineBoundaries(t *testing.T) {
	seen := map[graph.Key][]graph.Line{}
	for _, l := range [][]graph.Line{
		nil, {{}}, {{}, {}}, {{Name: "a"}}, {{Value: "a"}}, {{Name: "ab"}}, {{Name: "a", Value: "b"}},
		{{Name: "a"}, {Name: "b"}}, {{Name: "a"}, {Value: "b"}}, {{Value: "a"}, {Name: "b"}},
	} {
		key := graph.KeyOf(l)
		if other, ok := seen[key]; ok {
			t.Errorf("%q and %q", other, l)
		}
		seen[key] = l
	}
}

func TestExplainSaysNothingOnlyOfEqualLists(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := lines().Draw(t, "a"), lines().Draw(t, "b")
		if slices.Equal(a, b) && graph.Explain(a, b) != "" {
			t.Fatalf("%q of equal lists", graph.Explain(a, b))
		}
		if len(a) != len(b) && graph.Explain(a, b) == "" {
			t.Fatalf("nothing of %q and %q", a, b)
		}
	})
}

func TestExplain(t *testing.T) {
	type list = []graph.Line
	for _, c := range []struct {
		name        string
		before, now list
		want        string
	}{
		{"argument", list{{"build argument VERSION", "1"}}, list{{"build argument VERSION", "2"}}, `build argument VERSION: "1" → "2"`},
		{"new argument", nil, list{{"build argument VERSION", "2"}}, `build argument VERSION is new: "2"`},
		{"argument gone", list{{"build argument VERSION", "2"}}, nil, `build argument VERSION is gone: "2"`},
		{"file gone", list{{"file a", "sha256:1"}}, nil, `file a is gone`},
		{"file", list{{"file a b", "0644 sha256:1"}}, list{{"file a b", "0755 sha256:2"}}, `a b changed`},
		{"link", list{{"link a", "x"}}, list{{"link a", "y"}}, `a: "x" → "y"`},
		{"command", list{{"the command", "a\n  b"}}, list{{"the command", "c"}}, `the command changed: a b → c`},
		{"own before inputs", list{{"the command", "a"}, {"input 0", "sha256:1"}}, list{{"the command", "b"}, {"input 0", "sha256:2"}}, `the command changed: a → b`},
		{"input", list{{"input 0", "sha256:1"}}, list{{"input 0", "sha256:2"}}, `an earlier step's result changed`},
		{"many", nil, list{{"file 1", ""}, {"file 2", ""}, {"file 3", ""}, {"file 4", ""}, {"file 5", ""}}, `file 1 is new, file 2 is new, file 3 is new, and 2 more`},
	} {
		if got := graph.Explain(c.before, c.now); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
