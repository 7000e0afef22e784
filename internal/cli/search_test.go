package cli

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"strata/internal/cli/render"
	"strata/internal/engine"
	"strata/internal/remote"
)

// shelf is a registry that finds always the same.
type shelf struct {
	found    []remote.Found
	registry string
	limit    int
}

func (s *shelf) Search(_ context.Context, registry, _ string, limit int) ([]remote.Found, error) {
	s.registry, s.limit = registry, limit
	return append([]remote.Found{}, s.found...), nil
}

func TestSearch(t *testing.T) {
	s := &shelf{found: []remote.Found{
		{Name: "someone/ubuntu", Description: "mine", Stars: 3, Automated: true},
		{Name: "ubuntu", Description: "Ubuntu is a Debian-based Linux operating system based on free software.\nReally\x1b[31m.", Stars: 17000, Official: true},
	}}
	show := func(o engine.SearchOptions, filters []string, format string, noTrunc bool) string {
		t.Helper()
		if err := searchFilters(&o, filters); err != nil {
			t.Fatal(err)
		}
		found, err := engine.Search(t.Context(), s, "ubuntu", o)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := render.Rows(&out, render.List{Format: format, Columns: render.SearchColumns()}, searchRows(found, noTrunc)); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	want := "" +
		"NAME             DESCRIPTION                                     STARS     OFFICIAL\n" +
		"ubuntu           Ubuntu is a Debian-based Linux operating sys…   17000     [OK]\n" +
		"someone/ubuntu   mine                                            3         \n"
	if got := show(engine.SearchOptions{}, nil, "", false); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if s.registry != "docker.io" || s.limit != 25 {
		t.Errorf("%+v", s)
	}
	if got := show(engine.SearchOptions{}, []string{"is-official=true"}, "{{.Name}} {{.StarCount}}", false); got != "ubuntu 17000\n" {
		t.Errorf("official: %q", got)
	}
	if got := show(engine.SearchOptions{Limit: 1}, []string{"stars=3", "is-automated=1"}, "json", false); got !=
		`{"Description":"mine","IsAutomated":"[OK]","IsOfficial":"","Name":"someone/ubuntu","StarCount":"3"}`+"\n" {
		t.Errorf("json: %s", got)
	}
	if got := show(engine.SearchOptions{}, []string{"stars=4"}, "", true); !strings.Contains(got, "free software. Really.") {
		t.Errorf("not truncated: %q", got)
	}
	for _, bad := range []string{"stars=many", "stars", "is-official=maybe", "nosuch=1"} {
		if err := searchFilters(&engine.SearchOptions{}, []string{bad}); err == nil {
			t.Errorf("filter %q was taken", bad)
		}
	}
	for _, limit := range []int{-1, 101} {
		if _, err := engine.Search(t.Context(), s, "ubuntu", engine.SearchOptions{Limit: limit}); err == nil {
			t.Errorf("limit %d was taken", limit)
		}
	}
}
