package engine

import "testing"

// TestNameMatches holds what `docker ps --filter name=` was seen to find among containers, volumes and networks.
func TestNameMatches(t *testing.T) {
	for _, c := range []struct {
		expr, name string
		want       bool
	}{
		{"web", "web1", true}, {"web", "my-web", true}, {"WEB", "web", false}, {"^web$", "web", true}, {"^web$", "web1", false},
		{"w.b", "web", true}, {"a.b", "a.b", true}, {"web$", "my-web", true}, {"^/web$", "/web", true}, {"^/web$", "web", false}, {"(", "(", false}, {"", "web", true},
	} {
		if got := NameMatches(c.expr, c.name); got != c.want {
			t.Errorf("%q in %q: %v, want %v", c.expr, c.name, got, c.want)
		}
	}
}
