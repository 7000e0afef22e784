package main

import (
	"os"
	"runtime"
	"strings"
	"testing"
)

// selection: make test builds one case in so many, make test-real all.
const selection = 8

// TestCorpus builds the cases of testdata/conformance with strata, in one store, and holds the results against BuildKit's,
// which stand in the cases.
func TestCorpus(t *testing.T) {
	const corpus = "../../testdata/conformance"
	groups, err := findGroups(corpus)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s, err := openStrata(t.Context(), dir+"/strata", dir+"/run")
	if err != nil {
		t.Skip(err)
	}
	defer s.close()
	if err := s.bases(t.Context(), corpus, nil); err != nil {
		t.Fatal(err)
	}
	each := selection
	if os.Getenv("STRATA_TEST_REAL") == "1" {
		each = 1
	}
	n := 0
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			for _, c := range g.cases {
				if n++; n%each == 0 {
					t.Run(c.name, func(t *testing.T) { testOne(t, s, c) })
				}
			}
		})
	}
}

// testOne builds one case.
func testOne(t *testing.T, s *strata, c *testCase) {
	if c.want == nil {
		t.Fatal("no result is expected: make conformance UPDATE=1 writes it")
	}
	if runtime.GOARCH != "amd64" && strings.Contains(c.want.String(), "amd64") {
		t.Skip("the result expected has amd64 in it")
	}
	if err := c.lay(t.TempDir() + "/context"); err != nil {
		t.Fatal(err)
	}
	got, message, err := s.build(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range difference(c.overlay(c.want), got) {
		t.Error("\n" + d)
	}
	if t.Failed() && message != "" {
		t.Log("strata says:", message)
	}
}
