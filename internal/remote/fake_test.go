package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/reference"
)

const (
	testUser   = "ann"
	testSecret = "s3cret:with colon"
)

// plainRegistry is a registry that lets everybody in.
func plainRegistry() http.Handler { return registry.New(registry.Logger(log.New(io.Discard, "", 0))) }

// basic wants a user's password of everybody.
func basic(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, secret, ok := r.BasicAuth(); !ok || user != testUser || secret != testSecret {
			w.Header().Set("WWW-Authenticate", `Basic realm="a realm, with comma"`)
			refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q}]}`, code, message)
}

// tokens is a token service with the registry that believes it. Tokens name the scopes that they are good for. Whoever
// has no password may pull.
type tokens struct {
	next  http.Handler
	realm string // "" is /token here

	mu     sync.Mutex
	asked  []string // scopes of each token that was asked for
	issued map[string]bool
}

func (t *tokens) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/token" {
		t.issue(w, r)
		return
	}
	need := needed(r)
	got := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	t.mu.Lock()
	ok := t.issued[got]
	t.mu.Unlock()
	for _, n := range need {
		ok = ok && strings.Contains(got, n)
	}
	if ok {
		t.next.ServeHTTP(w, r)
		return
	}
	realm := t.realm
	if realm == "" {
		realm = "http://" + r.Host + "/token"
	}
	w.Header().Add("WWW-Authenticate", "Negotiate") // as some do: not to be tripped over
	w.Header().Add("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s",service="test",scope="%s"`, realm, strings.Join(need, " ")))
	refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
}

func needed(r *http.Request) []string {
	path := strings.TrimPrefix(r.URL.Path, "/v2/")
	for _, end := range []string{"/manifests/", "/blobs/", "/tags/"} {
		if repo, _, ok := strings.Cut(path, end); ok {
			if r.Method == http.MethodGet || r.Method == http.MethodHead {
				return []string{"repository:" + repo + ":pull"}
			}
			return []string{"repository:" + repo + ":pull,push"}
		}
	}
	return nil
}

func (t *tokens) issue(w http.ResponseWriter, r *http.Request) {
	user, secret, ok := r.BasicAuth()
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	scopes := strings.Join(r.Form["scope"], " ")
	refreshed := r.Method == http.MethodPost && r.Form.Get("refresh_token") == "refresh-me"
	known := refreshed || ok && user == testUser && secret == testSecret
	if ok && !known || r.Method == http.MethodPost && !refreshed {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"details":"incorrect username or password"}`)
		return
	}
	if !known {
		scopes = strings.ReplaceAll(scopes, ":pull,push", ":pull")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asked = append(t.asked, scopes)
	token := fmt.Sprintf("t%d/%s", len(t.asked), scopes)
	if t.issued == nil {
		t.issued = map[string]bool{}
	}
	t.issued[token] = true
	_ = json.NewEncoder(w).Encode(map[string]string{"token": token, "access_token": token})
}

// serve starts h and gives its host:port.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

// newClient makes a client without any configuration of this machine, that does not wait long.
func newClient(t *testing.T, dirs ...string) *Client {
	t.Helper()
	ownHome(t)
	c := New(Options{HostDirs: append([]string{}, dirs...), UserAgent: "strata/test"})
	c.pause = time.Millisecond
	return c
}

// ownHome gives the test a home of its own: no credentials of whoever runs it.
func ownHome(t *testing.T) string {
	t.Helper()
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_RUNTIME_DIR", filepath.Join(home, "run"))
	for _, k := range []string{"XDG_CONFIG_HOME", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"} {
		t.Setenv(k, "")
	}
	return home
}

func parse(t *testing.T, s string) reference.Ref {
	t.Helper()
	ref, err := reference.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// hosts writes a hosts.toml for a registry and gives the directory for Options.HostDirs.
func hosts(t *testing.T, registry, text string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, registry, "hosts.toml"), text)
	return dir
}

// descriptor is that of some bytes.
func descriptor(b []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: octets, Digest: digest.FromBytes(b), Size: int64(len(b))}
}

func opener(b []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
}

// manifestFor is a small manifest with config as its only blob.
func manifestFor(config []byte) []byte {
	raw, err := json.Marshal(ocispec.Manifest{
		MediaType: ocispec.MediaTypeImageManifest, Config: descriptor(config), Layers: []ocispec.Descriptor{},
		Versioned: versioned(),
	})
	if err != nil {
		panic(err)
	}
	return raw
}

// push puts a small image under ref and gives its manifest.
func push(t *testing.T, c *Client, ref reference.Ref) []byte {
	t.Helper()
	ctx := context.Background()
	config := []byte(`{"architecture":"amd64","os":"linux"}`)
	if err := c.PutBlob(ctx, ref, descriptor(config), opener(config)); err != nil {
		t.Fatal(err)
	}
	raw := manifestFor(config)
	if _, err := c.PutManifest(ctx, ref, ocispec.MediaTypeImageManifest, raw); err != nil {
		t.Fatal(err)
	}
	return raw
}
