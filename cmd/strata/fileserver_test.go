//go:build linux

package main_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
)

// fileServer DIR NAME [auth=HEADER|cut]: serves a directory over HTTP on loopback until the script ends, puts its URL into the
// environment and writes each request with its status into NAME.log. With auth every request must have that Authorization;
// with cut the first answer for each file breaks off in the middle.
func fileServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: fileserver DIR NAME [auth=HEADER|cut]")
	}
	mode := ""
	if len(args) == 3 {
		mode = args[2]
	}
	log, err := os.OpenFile(ts.MkAbs(args[1]+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	ts.Check(err)
	var mu sync.Mutex
	seen := map[string]bool{}
	first := func(path string) bool {
		mu.Lock()
		defer mu.Unlock()
		was := seen[path]
		seen[path] = true
		return !was
	}
	files := http.FileServer(http.Dir(ts.MkAbs(args[0])))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := &answerWriter{ResponseWriter: w, status: http.StatusOK, left: -1}
		if mode == "cut" && first(r.URL.Path) {
			answer.left = 200_000
		}
		defer func() { fmt.Fprintf(log, "%s %s %d %s\n", r.Method, r.URL, answer.status, r.Header.Get("Range")) }()
		if want, ok := strings.CutPrefix(mode, "auth="); ok && r.Header.Get("Authorization") != want {
			w.Header().Set("WWW-Authenticate", "Basic")
			answer.WriteHeader(http.StatusUnauthorized)
			return
		}
		files.ServeHTTP(answer, r)
		if answer.left == 0 {
			panic(http.ErrAbortHandler)
		}
	}))
	ts.Defer(func() { server.CloseClientConnections(); server.Close(); log.Close() })
	ts.Setenv(args[1], server.URL)
}

// answerWriter remembers the status, and takes no more than left bytes unless that is negative.
type answerWriter struct {
	http.ResponseWriter
	status, left int
}

func (w *answerWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *answerWriter) Write(p []byte) (int, error) {
	if w.left < 0 {
		return w.ResponseWriter.Write(p)
	}
	n, err := w.ResponseWriter.Write(p[:min(len(p), w.left)])
	w.left -= n
	w.ResponseWriter.(http.Flusher).Flush()
	if err == nil && w.left == 0 {
		err = http.ErrContentLength
	}
	return n, err
}
