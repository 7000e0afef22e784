package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"strata/internal/errdef"
)

func TestSearch(t *testing.T) {
	host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/search" || r.URL.Query().Get("q") != "nginx" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, `{"num_results":2,"results":[
			{"name":"nginx","description":"Official build of Nginx.","star_count":20000,"is_official":true,"is_automated":false},
			{"name":"x/nginx","description":"","star_count":1,"is_official":false,"is_automated":true}]}`)
	}))
	got, err := newClient(t).Search(context.Background(), host, "nginx", 0)
	want := []Found{
		{Name: "nginx", Description: "Official build of Nginx.", Stars: 20000, Official: true},
		{Name: "x/nginx", Stars: 1, Automated: true},
	}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Error(d, err)
	}
	if got, err := newClient(t).Search(context.Background(), host, "nginx", 1); len(got) != 1 || err != nil {
		t.Error(got, err)
	}
}

// TestSearchCatalogue searches a registry that has only a list of its repositories.
func TestSearchCatalogue(t *testing.T) {
	host := serve(t, plainRegistry())
	c := newClient(t)
	for _, name := range []string{"team/web", "team/db", "webmail"} {
		push(t, c, parse(t, host+"/"+name+":1"))
	}
	got, err := c.Search(context.Background(), host, "Web", 0)
	slices.SortFunc(got, func(a, b Found) int { return strings.Compare(a.Name, b.Name) })
	if d := cmp.Diff([]Found{{Name: "team/web"}, {Name: "webmail"}}, got); d != "" || err != nil {
		t.Error(d, err)
	}
	if _, err := c.Search(context.Background(), closedPort(t), "web", 0); !errors.Is(err, errdef.ErrUnavailable) {
		t.Error(err)
	}
}

// TestSearchOfDockerHub holds where docker.io is searched, and with whose credentials.
func TestSearchOfDockerHub(t *testing.T) {
	c := newClient(t)
	s, err := c.site(dockerHub)
	if err != nil {
		t.Fatal(err)
	}
	e, err := c.searchEndpoint(context.Background(), s.server)
	if err != nil {
		t.Fatal(err)
	}
	base, err := e.base(context.Background(), subject{})
	if err != nil || base.String() != "https://index.docker.io/v1" || e.account() != dockerHub || e.loginLine() != "strata login" {
		t.Error(base, e.account(), err)
	}
}
