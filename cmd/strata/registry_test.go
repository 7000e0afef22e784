//go:build linux

package main_test

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"

	"strata/internal/reference"
	"strata/internal/remote"
)

// The one user that a registry with a door lets in.
const (
	registryUser   = "ann"
	registrySecret = "s3cret"
	registryToken  = "a-token-for-ann"
)

// startRegistry NAME [basic|token|cut|forged|once|lists|digests]: serves an empty registry on loopback until the script ends and puts its
// host:port into the environment. With basic or token it is ann's, and her password is s3cret. With cut every answer with a
// blob breaks off after a while; with forged the blobs of layers are not what they should be; with once each blob is given out
// once. With lists it lists
// referrers; with digests it removes by digest only, and then all tags too.
func startRegistry(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: registry NAME [basic|token|cut|forged|once|lists|digests]")
	}
	lists := len(args) == 2 && args[1] == "lists"
	h := registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(lists))
	switch {
	case len(args) == 1, lists:
	case args[1] == "cut", args[1] == "forged":
		h = badLine(args[1], h)
	case args[1] == "once":
		h = once(h)
	case args[1] == "digests":
		h = byDigest(h)
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

// once gives the bytes of each blob out one time: who wants it again must have kept it.
func once(next http.Handler) http.Handler {
	var mu sync.Mutex
	given := map[string]int{}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/sha256:") {
			next.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		total := rec.Body.Len()
		if _, size, ok := strings.Cut(rec.Header().Get("Content-Range"), "/"); ok {
			total, _ = strconv.Atoi(size)
		}
		mu.Lock()
		before := given[r.URL.Path]
		given[r.URL.Path] += rec.Body.Len()
		mu.Unlock()
		if before >= total {
			http.NotFound(w, r)
			return
		}
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		w.Write(rec.Body.Bytes())
	})
}

// byDigest removes as docker's registry does.
func byDigest(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		repo, digest, ok := strings.Cut(r.URL.Path, "/manifests/")
		if r.Method != http.MethodDelete || !ok {
			next.ServeHTTP(w, r)
			return
		}
		if !strings.HasPrefix(digest, "sha256:") {
			w.WriteHeader(http.StatusMethodNotAllowed)
			io.WriteString(w, `{"errors":[{"code":"UNSUPPORTED","message":"The operation is unsupported."}]}`)
			return
		}
		ask := func(method, path string) *httptest.ResponseRecorder {
			rec := httptest.NewRecorder()
			next.ServeHTTP(rec, httptest.NewRequest(method, path, nil))
			return rec
		}
		var list struct{ Tags []string }
		json.Unmarshal(ask(http.MethodGet, repo+"/tags/list").Body.Bytes(), &list)
		for _, tag := range list.Tags {
			if at := repo + "/manifests/" + tag; ask(http.MethodHead, at).Header().Get("Docker-Content-Digest") == digest {
				ask(http.MethodDelete, at)
			}
		}
		next.ServeHTTP(w, r)
	})
}

// attach REF TYPE: pushes a small artifact of the type about the image that REF stands for in a registry, as a tool for
// signatures would.
func attach(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: attach HOST/REPOSITORY:TAG TYPE")
	}
	ref, err := reference.Parse(args[0])
	ts.Check(err)
	c := remote.New(remote.Options{HostDirs: []string{}})
	ctx := context.Background()
	subject, err := c.Head(ctx, ref)
	ts.Check(err)
	blob := func(mediaType, text string) ocispec.Descriptor {
		desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromString(text), Size: int64(len(text))}
		ts.Check(c.PutBlob(ctx, ref, desc, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }))
		return desc
	}
	raw, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: args[1],
		Config: blob("application/vnd.oci.empty.v1+json", "{}"), Layers: []ocispec.Descriptor{blob("text/plain", args[1])}, Subject: &subject,
	})
	ts.Check(err)
	d, err := c.PutManifest(ctx, ref.Repository(), ocispec.MediaTypeImageManifest, raw)
	ts.Check(err)
	ts.Check(c.Attach(ctx, ref, subject.Digest, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: int64(len(raw)), ArtifactType: args[1]}))
}

// referrers REF N: the registry lists N documents about the image that REF stands for.
func referrers(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: referrers HOST/REPOSITORY:TAG NUMBER")
	}
	ref, err := reference.Parse(args[0])
	ts.Check(err)
	c := remote.New(remote.Options{HostDirs: []string{}})
	subject, err := c.Head(context.Background(), ref)
	ts.Check(err)
	list, err := c.Referrers(context.Background(), ref, subject.Digest)
	ts.Check(err)
	if (strconv.Itoa(len(list)) == args[1]) == neg {
		ts.Fatalf("%s has %d referrers", args[0], len(list))
	}
}
