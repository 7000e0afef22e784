//go:build linux

package main_test

import (
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// websiteToken opens what a website has below /private/.
const websiteToken = "a-token-for-git"

// startWebsite NAME DIR: serves the files of DIR on loopback until the script ends and puts host:port into the environment.
// Below /git/ and /private/ DIR's bare repositories are served to git; the latter to those who show the token.
func startWebsite(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: website NAME DIR")
	}
	dir := ts.MkAbs(args[1])
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServer(http.Dir(dir)))
	git, err := exec.Command("git", "--exec-path").Output()
	if err == nil {
		for _, prefix := range []string{"/git", "/private"} {
			backend := &cgi.Handler{
				Path: filepath.Join(strings.TrimSpace(string(git)), "git-http-backend"), Root: prefix, Stderr: io.Discard,
				Env: []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"},
			}
			mux.HandleFunc(prefix+"/", func(w http.ResponseWriter, r *http.Request) {
				if _, password, _ := r.BasicAuth(); prefix == "/private" && password != websiteToken {
					w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				backend.ServeHTTP(w, r)
			})
		}
	}
	server := httptest.NewServer(mux)
	ts.Defer(server.Close)
	ts.Setenv(args[0], strings.TrimPrefix(server.URL, "http://"))
}
