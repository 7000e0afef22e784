//go:build linux

package main_test

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/rogpeppe/go-internal/testscript"
)

// The one user that a registry with a door lets in.
const (
	registryUser   = "ann"
	registrySecret = "s3cret"
	registryToken  = "a-token-for-ann"
)

// startRegistry NAME [basic|token|cut|forged]: serves an empty registry on loopback until the script ends and puts its
// host:port into the environment. With basic or token it is ann's, and her password is s3cret. With cut every answer with a
// blob breaks off after a while; with forged the blobs of layers are not what they should be.
func startRegistry(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: registry NAME [basic|token|cut|forged]")
	}
	h := http.Handler(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	switch {
	case len(args) == 1:
	case args[1] == "cut", args[1] == "forged":
		h = badLine(args[1], h)
	default:
		h = door(args[1], h)
	}
	server := httptest.NewServer(h)
	ts.Defer(server.Close)
	ts.Setenv(args[0], strings.TrimPrefix(server.URL, "http://"))
}

// door lets ann in, by basic or by token authentication (distribution-spec, "Authentication"; docker's token protocol).
func door(kind string, next http.Handler) http.Handler {
	known := func(r *http.Request) bool {
		user, secret, ok := r.BasicAuth()
		return ok && user == registryUser && secret == registrySecret
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		challenge := `Basic realm="test"`
		open := known(r)
		if kind == "token" {
			if r.URL.Path == "/token" {
				if !known(r) {
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				json.NewEncoder(w).Encode(map[string]string{"token": registryToken})
				return
			}
			challenge = `Bearer realm="http://` + r.Host + `/token",service="test"`
			open = r.Header.Get("Authorization") == "Bearer "+registryToken
		}
		if !open {
			w.Header().Set("WWW-Authenticate", challenge)
			w.WriteHeader(http.StatusUnauthorized)
			io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// badLine hands out large blobs cut off after 2 MB, or with one byte changed.
func badLine(kind string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/sha256:") {
			next.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		body := rec.Body.Bytes()
		if kind == "forged" && len(body) > 4096 {
			body[len(body)/2] ^= 1
		}
		w.WriteHeader(rec.Code)
		if kind == "cut" && len(body) > 2_000_000 {
			w.Write(body[:2_000_000])
			panic(http.ErrAbortHandler)
		}
		w.Write(body)
	})
}
