package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"strata/internal/errdef"
)

// credentialsFor writes docker's config.json with an entry for host.
func credentialsFor(t *testing.T, home, host, entry string) {
	t.Helper()
	write(t, filepath.Join(home, ".docker/config.json"), fmt.Sprintf(`{"auths":{%q:%s}}`, host, entry))
}

func userEntry() string { return `{"auth":"` + basicAuth(testUser, testSecret) + `"}` }

func TestBasic(t *testing.T) {
	host := serve(t, basic(plainRegistry()))
	c := newClient(t)
	ref := parse(t, host+"/app:1")
	_, err := c.Manifest(context.Background(), ref)
	if !errors.Is(err, errdef.ErrDenied) || errdef.Hint(err) != "log in: `strata login "+host+"`" {
		t.Fatalf("without login: %v (%s)", err, errdef.Hint(err))
	}
	if !strings.HasPrefix(err.Error(), "pull access denied for "+host+"/app, repository does not exist or may require a login") {
		t.Error(err)
	}
	credentialsFor(t, os.Getenv("HOME"), host, userEntry())
	suite(t, c, host)
}

func TestToken(t *testing.T) {
	reg := &tokens{next: plainRegistry()}
	host := serve(t, reg)
	c := newClient(t)
	credentialsFor(t, os.Getenv("HOME"), host, userEntry())
	suite(t, c, host)
	reg.mu.Lock()
	defer reg.mu.Unlock()
	want := "repository:team/app:pull repository:team/other:pull,push"
	if !slices.Contains(reg.asked, want) {
		t.Errorf("no token for a mount (%s) among %q", want, reg.asked)
	}
	if len(reg.asked) > 8 {
		t.Errorf("tokens are not kept: %q", reg.asked)
	}
}

// TestTokenAnonymous pulls without a login, and may not push.
func TestTokenAnonymous(t *testing.T) {
	reg := &tokens{next: plainRegistry()}
	host := serve(t, reg)
	c := newClient(t)
	ref := parse(t, host+"/app:1")
	credentialsFor(t, os.Getenv("HOME"), host, userEntry())
	raw := push(t, c, ref)
	anonymous := newClient(t)
	readSuite(t, anonymous, ref, raw)
	err := anonymous.PutBlob(context.Background(), ref, descriptor(nil), opener(nil))
	if !errors.Is(err, errdef.ErrDenied) || !strings.HasPrefix(err.Error(), "push access denied for "+host+"/app") {
		t.Error(err)
	}
}

func TestIdentityToken(t *testing.T) {
	host := serve(t, &tokens{next: plainRegistry()})
	c := newClient(t)
	credentialsFor(t, os.Getenv("HOME"), host, `{"identitytoken":"refresh-me"}`)
	push(t, c, parse(t, host+"/app:1"))
}

func TestWrongPassword(t *testing.T) {
	host := serve(t, &tokens{next: plainRegistry()})
	c := newClient(t)
	credentialsFor(t, os.Getenv("HOME"), host, `{"auth":"`+basicAuth(testUser, "wrong-one")+`"}`)
	_, err := c.Manifest(context.Background(), parse(t, host+"/app:1"))
	if !errors.Is(err, errdef.ErrDenied) || strings.Contains(err.Error(), "wrong-one") {
		t.Error(err)
	}
}

// TestTokenServiceBeside has the token service at another private address than the registry.
func TestTokenServiceBeside(t *testing.T) {
	reg := &tokens{next: plainRegistry()}
	service := serve(t, reg)
	reg.realm = "http://" + strings.Replace(service, "127.0.0.1", "localhost", 1) + "/token?kept=1"
	c := newClient(t)
	credentialsFor(t, os.Getenv("HOME"), service, userEntry())
	push(t, c, parse(t, service+"/app:1"))
}

func TestLogin(t *testing.T) {
	for name, h := range map[string]http.Handler{
		"basic": basic(plainRegistry()), "token": &tokens{next: plainRegistry()}, "open": halfOpen(basic(plainRegistry())),
	} {
		t.Run(name, func(t *testing.T) {
			host := serve(t, h)
			c, ctx := newClient(t), context.Background()
			file := filepath.Join(os.Getenv("HOME"), ".docker/config.json")

			_, err := c.Login(ctx, host, testUser, "wrong-one")
			if !errors.Is(err, errdef.ErrDenied) || !strings.Contains(err.Error(), "unauthorized: incorrect username or password") {
				t.Fatalf("wrong password: %v", err)
			}
			if _, err := os.Stat(file); err == nil {
				t.Fatal("wrong credentials were kept")
			}
			write(t, file, `{"auths":{"other":{"auth":"eDp5"}},"psFormat":"<b>","HttpHeaders":{"a":"b"},"n":12345678901234567890}`)
			if err := os.Chmod(file, 0o644); err != nil {
				t.Fatal(err)
			}
			got, err := c.Login(ctx, "http://"+host+"/v2/", testUser, testSecret)
			if err != nil || got != (LoginResult{File: file}) {
				t.Fatal(got, err)
			}
			checkKept(t, file, `"psFormat": "<b>"`, `"n": 12345678901234567890`, `"eDp5"`, `"`+host+`"`)
			push(t, c, parse(t, host+"/app:1"))

			if had, err := c.Logout(ctx, host); !had || err != nil {
				t.Fatal(had, err)
			}
			checkKept(t, file, `"psFormat": "<b>"`, `"eDp5"`)
			if data, _ := os.ReadFile(file); strings.Contains(string(data), host) {
				t.Errorf("still there: %s", data)
			}
			if had, err := c.Logout(ctx, host); had || err != nil {
				t.Error("second logout:", had, err)
			}
			if err := c.PutBlob(ctx, parse(t, host+"/app:1"), descriptor(nil), opener(nil)); !errors.Is(err, errdef.ErrDenied) {
				t.Error("after logout:", err)
			}
		})
	}
}

// halfOpen is a registry that lets everybody ask whether it is one, and still looks at passwords that come along.
func halfOpen(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/" && r.Header.Get("Authorization") == "" {
			w.WriteHeader(http.StatusOK)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// checkKept checks a written file: its mode, its form, and that it has the texts.
func checkKept(t *testing.T, file string, texts ...string) {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	data, err := os.ReadFile(file)
	if err != nil || !json.Valid(data) {
		t.Errorf("%s: %v", data, err)
	}
	for _, want := range texts {
		if !strings.Contains(string(data), want) {
			t.Errorf("%s is lost: %s", want, data)
		}
	}
	rest, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(rest) != 1 {
		t.Errorf("beside the file: %v, %v", rest, err)
	}
}

func TestLoginNowhere(t *testing.T) {
	c, ctx := newClient(t), context.Background()
	host := serve(t, http.NotFoundHandler())
	if _, err := c.Login(ctx, host, "a", "b"); !errors.Is(err, errdef.ErrUnsupported) {
		t.Error(err)
	}
	for _, bad := range []string{"a b", "a/../b c:d", "$HOME"} {
		if _, err := loginName(bad); bad != "a/../b c:d" && !errors.Is(err, errdef.ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for in, want := range map[string]string{"": "docker.io", "https://index.docker.io/v1/": "docker.io", "https://r.example:5/v2/": "r.example:5"} {
		if got, err := loginName(in); got != want || err != nil {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

// TestLoginKeepsLink holds that a config.json that is a link stays one.
func TestLoginKeepsLink(t *testing.T) {
	host := serve(t, basic(plainRegistry()))
	c := newClient(t)
	home := os.Getenv("HOME")
	real := filepath.Join(home, "dotfiles/docker.json")
	write(t, real, "")
	link := filepath.Join(home, ".docker/config.json")
	if err := errors.Join(os.Mkdir(filepath.Dir(link), 0o700), os.Symlink(real, link)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Login(context.Background(), host, testUser, testSecret); err != nil {
		t.Fatal(err)
	}
	if target, err := os.Readlink(link); target != real || err != nil {
		t.Error(target, err)
	}
	checkKept(t, real, host)
}

// fakeHelper puts docker-credential-fake into PATH; it keeps its secrets in the directory that is given back.
func fakeHelper(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	script := `#!/bin/sh
cd "` + dir + `" || exit 1
case $1 in
store) cat >in; name=$(sed 's/.*"ServerURL":"\([^"]*\)".*/\1/' in | tr / _); mv in "kept.$name" ;;
get) name=$(cat | tr / _); cat "kept.$name" 2>/dev/null || { echo "credentials not found in native keychain"; exit 1; } ;;
erase) name=$(cat | tr / _); rm "kept.$name" ;;
esac
`
	program := filepath.Join(dir, "docker-credential-fake")
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return dir
}

func TestHelper(t *testing.T) {
	host := serve(t, basic(plainRegistry()))
	for name, config := range map[string]string{
		"store": `{"credsStore":"fake"}`, "one": fmt.Sprintf(`{"credHelpers":{%q:"fake"},"credsStore":"other"}`, host),
	} {
		t.Run(name, func(t *testing.T) {
			c, ctx := newClient(t), context.Background()
			dir := fakeHelper(t)
			file := filepath.Join(os.Getenv("HOME"), ".docker/config.json")
			write(t, file, config)
			got, err := c.Login(ctx, host, testUser, testSecret)
			if err != nil || got != (LoginResult{File: file, Helper: "fake"}) {
				t.Fatal(got, err)
			}
			kept, err := os.ReadFile(filepath.Join(dir, "kept."+host))
			if err != nil || !strings.Contains(string(kept), testSecret) {
				t.Fatal(string(kept), err)
			}
			if data, _ := os.ReadFile(file); strings.Contains(string(data), basicAuth(testUser, testSecret)) || !strings.Contains(string(data), host) {
				t.Errorf("%s", data)
			}
			push(t, c, parse(t, host+"/app:1"))
			if had, err := c.Logout(ctx, host); !had || err != nil {
				t.Error(had, err)
			}
			if _, err := os.Stat(filepath.Join(dir, "kept."+host)); err == nil {
				t.Error("the helper still has it")
			}
		})
	}
}

// TestHelperMissing holds that what needs no credentials works without the helper, and that the helper is named where it
// was needed.
func TestHelperMissing(t *testing.T) {
	open, closed := serve(t, &tokens{next: plainRegistry()}), serve(t, basic(plainRegistry()))
	c, ctx := newClient(t), context.Background()
	write(t, filepath.Join(os.Getenv("HOME"), ".docker/config.json"), `{"credsStore":"nothing-such"}`)
	if _, err := c.Manifest(ctx, parse(t, open+"/app:1")); !errors.Is(err, errdef.ErrNotFound) {
		t.Error(err)
	}
	_, err := c.Manifest(ctx, parse(t, closed+"/app:1"))
	if !errors.Is(err, errdef.ErrDenied) || !strings.Contains(errdef.Hint(err), "docker-credential-nothing-such: it is not installed") {
		t.Error(err, errdef.Hint(err))
	}
}

func TestFindCredential(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ name, file, registry, repo, want string }{
		{"exact", `{"auths":{"r.example":{"auth":"YTpi"},"https://r.example/v1/":{"auth":"eDp5"}}}`, "r.example", "x", "a:b"},
		{"url", `{"auths":{"https://r.example/v1/":{"auth":"eDp5"}}}`, "r.example", "x", "x:y"},
		{"hub", `{"auths":{"https://index.docker.io/v1/":{"auth":"eDp5"}}}`, "docker.io", "library/x", "x:y"},
		{"podman's hub", `{"auths":{"docker.io":{"auth":"eDp5"}}}`, "docker.io", "library/x", "x:y"},
		{"namespace", `{"auths":{"r.example":{"auth":"YTpi"},"r.example/team":{"auth":"eDp5"}}}`, "r.example", "team/x", "x:y"},
		{"other namespace", `{"auths":{"r.example":{"auth":"YTpi"},"r.example/team":{"auth":"eDp5"}}}`, "r.example", "teams/x", "a:b"},
		{"other port", `{"auths":{"r.example:1":{"auth":"YTpi"}}}`, "r.example", "x", ":"},
		{"plain words", `{"auths":{"r.example":{"username":"a","password":"b"}}}`, "r.example", "x", "a:b"},
		{"a mark only", `{"auths":{"r.example":{}}}`, "r.example", "x", ":"},
		{"null", `{"auths":null}`, "r.example", "x", ":"},
		{"empty", ``, "r.example", "x", ":"},
	} {
		file := filepath.Join(dir, "auth.json")
		write(t, file, c.file)
		got, err := findCredential(context.Background(), []string{filepath.Join(dir, "none"), file}, c.registry, c.repo)
		if s := got.user + ":" + got.secret; s != c.want || err != nil {
			t.Errorf("%s: %q, %v", c.name, s, err)
		}
	}
	for _, bad := range []string{`[]`, `{"auths":[]}`, `{"auths":{"r.example":{"auth":"c2VjcmV0"}}}`, `{"auths":{"r.example":{"auth":"!secret"}}}`} {
		file := filepath.Join(dir, "auth.json")
		write(t, file, bad)
		_, err := findCredential(context.Background(), []string{file}, "r.example", "x")
		if !errors.Is(err, errdef.ErrInvalid) || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestCredentialFiles(t *testing.T) {
	home := ownHome(t)
	want := []string{home + "/.docker/config.json", home + "/run/containers/auth.json", home + "/.config/containers/auth.json"}
	if got := credentialFiles(); !slices.Equal(got, want) {
		t.Error(got)
	}
	t.Setenv("DOCKER_CONFIG", "/d")
	if got := credentialFiles(); got[0] != "/d/config.json" {
		t.Error(got)
	}
	t.Setenv("REGISTRY_AUTH_FILE", "/r")
	if got := credentialFiles(); !slices.Equal(got, []string{"/r"}) {
		t.Error(got)
	}
}

// TestLogoutPodman holds that podman's files are podman's.
func TestLogoutPodman(t *testing.T) {
	c := newClient(t)
	write(t, filepath.Join(os.Getenv("HOME"), ".config/containers/auth.json"), `{"auths":{"r.example":{"auth":"eDp5"}}}`)
	had, err := c.Logout(context.Background(), "r.example")
	if had || !errors.Is(err, errdef.ErrConflict) || errdef.Hint(err) != "podman logout r.example" {
		t.Error(had, err)
	}
}

// TestRedirectLosesCredentials follows a redirect to another host, which must see nothing of ours.
func TestRedirectLosesCredentials(t *testing.T) {
	blob := []byte("blob in a bucket")
	bucket := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, k := range []string{"Authorization", "X-Secret", "Cookie"} {
			if v := r.Header.Get(k); v != "" {
				t.Errorf("the other host was sent %s: %s", k, v)
			}
		}
		if r.URL.Path == "/again" { // a 401 of the other host must not bring credentials out
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = w.Write(blob)
	}))
	defer bucket.Close()
	next := plainRegistry()
	to := "/data"
	host := serve(t, basic(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Secret") != "sesame" {
			t.Error("the registry itself was not sent its header")
		}
		if strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, bucket.URL+to, http.StatusTemporaryRedirect)
			return
		}
		next.ServeHTTP(w, r)
	})))
	c := newClient(t, hosts(t, host, "server = \"http://"+host+"\"\n[header]\nX-Secret = \"sesame\""))
	credentialsFor(t, os.Getenv("HOME"), host, userEntry())
	rc, err := c.Blob(context.Background(), parse(t, host+"/app"), descriptor(blob))
	if err != nil {
		t.Fatal(err)
	}
	rc.Close()
	to = "/again"
	if _, err := c.Blob(context.Background(), parse(t, host+"/app"), descriptor(blob)); !errors.Is(err, errdef.ErrDenied) {
		t.Error(err)
	}
}

// What is told of credentials is where they are, and nothing of them.
func TestAccounts(t *testing.T) {
	home := ownHome(t)
	write(t, home+"/.docker/config.json", `{"auths":{"a.example":`+userEntry()+`,"https://index.docker.io/v1/":{"identitytoken":"deep secret"},"marked.example":{}},
		"credsStore":"all","credHelpers":{"b.example":"one"}}`)
	write(t, home+"/.config/containers/auth.json", `{"auths":{"a.example/team":{"auth":"c2VjcmV0OnNlY3JldA=="}}}`)
	docker, podman := home+"/.docker/config.json", home+"/.config/containers/auth.json"
	want := []Account{
		{"b.example", "helper one", docker}, {"", "helper all", docker}, {"a.example", "password", docker},
		{"docker.io", "identity token", docker}, {"a.example/team", "password", podman},
	}
	got, err := New(Options{HostDirs: []string{}}).Accounts()
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v\n got %v\nwant %v", err, got, want)
	}
}

// A login costs no connection: what a registry says with its challenge is read to its end.
func TestChallengeKeepsConnection(t *testing.T) {
	var connections atomic.Int32
	s := httptest.NewUnstartedServer(&tokens{next: plainRegistry()})
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	host := strings.TrimPrefix(s.URL, "http://")
	c := newClient(t, hosts(t, host, `server = "http://`+host+`"`)) // it need not be asked what it speaks
	if _, err := c.HasBlob(t.Context(), parse(t, host+"/app"), digest.FromString("x")); err != nil && !errors.Is(err, errdef.ErrDenied) {
		t.Fatal(err)
	}
	if _, err := c.Tags(t.Context(), parse(t, host+"/app"), 0); err != nil && !errors.Is(err, errdef.ErrNotFound) {
		t.Fatal(err)
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

type closing struct {
	io.Reader
	closed atomic.Bool
}

func (c *closing) Close() error { c.closed.Store(true); return nil }

// Of a request that is never sent, since the server wants to be left alone, the body is closed too.
func TestUnsentBodyIsClosed(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	body := &closing{Reader: strings.NewReader("x")}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://h/", body)
	if err != nil {
		t.Fatal(err)
	}
	again := &retrying{clock: time.After, name: func() string { return "h" }}
	again.gate("h").close(time.Hour)
	if _, err := again.RoundTrip(req); !errors.Is(err, context.Canceled) || !body.closed.Load() {
		t.Errorf("%v, closed: %v", err, body.closed.Load())
	}
}
