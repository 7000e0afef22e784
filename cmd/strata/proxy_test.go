//go:build linux

package main_test

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

const proxySecret = "pr0xy-s3cret"

// forwarder is a proxy that wants a password and finds every name at one server each for HTTP and HTTPS.
type forwarder struct {
	plain, tls string // host:port
	passed     atomic.Int32
}

func (f *forwarder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("me:"+proxySecret))
	if r.Header.Get("Proxy-Authorization") != want {
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	}
	f.passed.Add(1)
	if r.Method != http.MethodConnect {
		(&httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) { p.Out.URL.Host, p.Out.Host = f.plain, p.In.Host }}).ServeHTTP(w, r)
		return
	}
	there, err := net.Dial("tcp", f.tls)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer there.Close()
	w.WriteHeader(http.StatusOK)
	here, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer here.Close()
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(here, there) // until either is closed
		here.Close()
	})
	_, _ = io.Copy(there, here)
	there.Close()
	back.Wait()
}

// randomText is n bytes that nothing compresses.
func randomText(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return string(b)
}

// TestThroughProxy pushes and pulls where only a proxy knows the registry, by HTTP and by HTTPS, in ranges too. The registry never
// sees the proxy's password, nor does anybody else.
func TestThroughProxy(t *testing.T) {
	m, _ := newMeter(t)
	var told atomic.Int32
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Proxy-Authorization") != "" {
			told.Add(1)
		}
		m.ServeHTTP(w, r)
	})
	plain, secure := httptest.NewServer(h), httptest.NewTLSServer(h)
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	f := &forwarder{plain: strings.TrimPrefix(plain.URL, "http://"), tls: strings.TrimPrefix(secure.URL, "https://")}
	proxy := httptest.NewServer(f)
	t.Cleanup(proxy.Close)

	dir, programs := t.TempDir(), bin(t)
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	for name, text := range map[string]string{
		"strata/certs.d/plain.example/hosts.toml": "server = \"http://plain.example\"\n",
		"strata/certs.d/example.com/ca.crt":       string(authority), // whose name the test server's certificate has
		"Dockerfile":                              "FROM strata.internal/static\nCOPY data /\n",
		"data":                                    randomText(6 << 20), // more than one range
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	strata := func(by, store string, args ...string) (string, error) {
		cmd := exec.Command(filepath.Join(programs, "strata"), args...)
		cmd.Env = append(os.Environ(), "STRATA_ROOT="+filepath.Join(dir, store), "STRATA_RUN="+filepath.Join(dir, "run"), "HOME="+dir, "XDG_CONFIG_HOME="+dir,
			"HTTP_PROXY="+by, "HTTPS_PROXY="+by, "NO_PROXY=", "http_proxy=", "https_proxy=", "no_proxy=")
		out, err := cmd.CombinedOutput()
		if strings.Contains(string(out), proxySecret) {
			t.Errorf("strata %s tells the password: %s", args[0], out)
		}
		return string(out), err
	}
	t.Cleanup(func() {
		for _, store := range []string{"first", "second"} {
			_, _ = strata("", store, "system", "reset", "--force")
		}
	})
	by := "http://me:" + proxySecret + "@" + strings.TrimPrefix(proxy.URL, "http://")
	for _, host := range []string{"plain.example", "example.com"} {
		f.passed.Store(0)
		for _, args := range [][]string{{"first", "build", "-q", "-t", host + "/app", dir}, {"first", "push", host + "/app"}, {"second", "pull", host + "/app"}} {
			if out, err := strata(by, args[0], args[1:]...); err != nil {
				t.Fatalf("strata %s: %v: %s", strings.Join(args[1:], " "), err, out)
			}
		}
		if f.passed.Load() == 0 || told.Load() != 0 {
			t.Errorf("%s: %d requests passed the proxy; the registry was told its password %d times", host, f.passed.Load(), told.Load())
		}
		// A wrong password, and a proxy that is not there.
		for wrong, says := range map[string]string{
			strings.Replace(by, "me:", "you:", 1):       "Proxy Authentication Required",
			"http://me:" + proxySecret + "@127.0.0.1:1": "the proxy 127.0.0.1:1 cannot be reached",
		} {
			if out, err := strata(wrong, "second", "pull", host+"/other"); err == nil || !strings.Contains(strings.ToLower(out), strings.ToLower(says)) {
				t.Errorf("%s by %s: %v: %s", host, wrong, err, out)
			}
		}
	}
}
