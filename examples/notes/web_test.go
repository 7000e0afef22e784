package main

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

func TestPages(t *testing.T) {
	notes, err := open(filepath.Join(t.TempDir(), "notes"))
	if err != nil {
		t.Fatal(err)
	}
	defer notes.close()
	h := handler(notes)
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"PUT", "/notes/first", "# First\n\n```go\nfunc main() {}\n```\n\n<script>alert(1)</script>\n", 204, ""},
		{"PUT", "/notes/UPPER", "x", 400, "small letters"},
		{"GET", "/", "", 200, `href="/notes/first"`},
		{"GET", "/notes/first", "", 200, "<h1>First</h1>"},
		{"GET", "/notes/first", "", 200, `<span style="color:#`},
		{"GET", "/notes/none", "", 404, "no such note"},
		{"GET", "/metrics", "", 200, `notes_shown_total{note="first"} 2`},
		{"GET", "/assets/style.css", "", 200, "body"},
	} {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(c.method, c.path, strings.NewReader(c.body)))
		if got := rec.Body.String(); rec.Code != c.status || !strings.Contains(got, c.want) {
			t.Errorf("%s %s: %d %s", c.method, c.path, rec.Code, got)
		}
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/notes/first", nil))
	if strings.Contains(rec.Body.String(), "<script>") {
		t.Error("a note's own HTML is served")
	}
}
