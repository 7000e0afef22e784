//go:build linux

package main_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// registryHash is registrySecret for htpasswd files.
const registryHash = "$2b$04$C54aCSZ6An/9OmQTJBJxUOCp25p0fUhao3VKQuQ.DuZx2D0zhqCUK"

// testRegistries pushes to and pulls from the registries that people run, behind each kind of door.
func testRegistries(t *testing.T) {
	h := newHouse(t)
	servers := map[string]string{"docker-registry": "", "distribution": ""}
	var err error
	if servers["docker-registry"], err = exec.LookPath("docker-registry"); err != nil {
		t.Skip("no docker-registry: scripts/test-deps.sh --real installs it")
	}
	servers["distribution"] = h.buildDistribution(t)
	for name, program := range servers {
		for _, door := range []string{"open", "tls", "basic", "token"} {
			t.Run(name+"/"+door, func(t *testing.T) { h.tour(t, h.serve(t, program, door), door == "basic" || door == "token") })
		}
		t.Run(name+"/broken", func(t *testing.T) { h.brokenUploads(t, h.serve(t, program, "open"), name == "distribution") })
		t.Run(name+"/nginx", func(t *testing.T) { h.tour(t, h.front(t, h.serve(t, program, "open")), true) })
	}
}

// house is what the registries of the test have in common: an authority and a directory.
type house struct {
	dir, programs string
	key           *ecdsa.PrivateKey
	cert          []byte // of key and of all servers, its own authority
}

func newHouse(t *testing.T) *house {
	h := &house{dir: t.TempDir(), programs: bin(t)}
	var err error
	if h.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "strata test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	if h.cert, err = x509.CreateCertificate(rand.Reader, template, template, &h.key.PublicKey, h.key); err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalECPrivateKey(h.key)
	if err != nil {
		t.Fatal(err)
	}
	h.write(t, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.cert})))
	h.write(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: key})))
	h.write(t, "htpasswd", registryUser+":"+registryHash+"\n")
	data := make([]byte, 12<<20) // more than one range
	_, _ = rand.Read(data)
	h.write(t, "context/data", string(data))
	h.write(t, "context/Dockerfile", "FROM strata.internal/static\nCOPY data /data\nLABEL a=b\n")
	return h
}

func (h *house) write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// buildDistribution builds the registry of the distribution project.
func (h *house) buildDistribution(t *testing.T) string {
	dir := filepath.Dir(h.write(t, "module/go.mod", "module registry\n"))
	out := filepath.Join(h.dir, "distribution")
	for _, args := range [][]string{
		{"get", "github.com/distribution/distribution/v3/cmd/registry@v3.1.2"},
		{"build", "-o", out, "github.com/distribution/distribution/v3/cmd/registry"},
	} {
		cmd := exec.Command("go", args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOFLAGS=-mod=mod", "CGO_ENABLED=0", "GOWORK=off")
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Skipf("distribution cannot be built here: %v: %s", err, text)
		}
	}
	return out
}

// serve runs a registry behind a door, and gives its host:port.
func (h *house) serve(t *testing.T, program, door string) string {
	host, dir := freeAddr(t), t.TempDir()
	config := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp:\n  addr: %s\n  secret: x\n", dir, host)
	if door != "open" {
		config += fmt.Sprintf("  tls: {certificate: %s/cert.pem, key: %s/key.pem}\n", h.dir, h.dir)
	}
	switch door {
	case "basic":
		config += fmt.Sprintf("auth: {htpasswd: {realm: test, path: %s/htpasswd}}\n", h.dir)
	case "token":
		service := httptest.NewUnstartedServer(http.HandlerFunc(h.token))
		service.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{h.cert}, PrivateKey: h.key}}} //nolint:gosec // versions: Go's
		service.StartTLS()
		t.Cleanup(service.Close)
		config += fmt.Sprintf("auth: {token: {realm: %s/token, service: test, issuer: test, rootcertbundle: %s/cert.pem}}\n", service.URL, h.dir)
	}
	return h.start(t, host, exec.Command(program, "serve", h.write(t, "registry-"+door+host[10:]+".yml", config)))
}

// start starts a server and waits until it listens.
func (h *house) start(t *testing.T, host string, cmd *exec.Cmd) string {
	t.Helper()
	log := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // it was killed
		if t.Failed() {
			t.Logf("%s: %s", cmd.Path, log)
		}
	})
	for end := time.Now().Add(waiting); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if conn, err := net.Dial("tcp", host); err == nil {
			conn.Close()
			return host
		}
	}
	t.Fatalf("%s does not come up", cmd.Path)
	return ""
}

func freeAddr(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// front puts nginx before a registry, with a password, and sends whoever wants a blob to another host, which wants nobody's
// password.
func (h *house) front(t *testing.T, registry string) string {
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		t.Skip("no nginx: scripts/test-deps.sh --real installs it")
	}
	host, dir := freeAddr(t), t.TempDir()
	store := strings.Replace(freeAddr(t), "127.0.0.1", "localhost", 1)
	config := h.write(t, "nginx"+host[10:]+".conf", strings.NewReplacer("DIR", dir, "HOUSE", h.dir, "HOST", host, "REGISTRY", registry, "STORE", store).Replace(`
daemon off; master_process off; pid DIR/pid; error_log DIR/error.log;
events {}
http {
  access_log off; client_max_body_size 0;
  client_body_temp_path DIR/a; proxy_temp_path DIR/b; fastcgi_temp_path DIR/c; uwsgi_temp_path DIR/d; scgi_temp_path DIR/e;
  map $request_method:$uri $away { "~^GET:.*/blobs/sha256:" 1; default ""; }
  server {
    listen HOST;
    location / {
      auth_basic test; auth_basic_user_file HOUSE/htpasswd;
      if ($away) { return 307 http://STORE$request_uri; }
      proxy_set_header Host $http_host; proxy_set_header Authorization ""; proxy_pass http://REGISTRY;
    }
  }
  server {
    listen STORE;
    location / {
      if ($http_authorization) { return 400; }
      proxy_pass http://REGISTRY;
    }
  }
}
`))
	return h.start(t, host, exec.Command(nginx, "-p", dir, "-e", dir+"/error.log", "-c", config))
}

// tour is what people do with a registry: log in, push, push again and to another repository, pull elsewhere.
func (h *house) tour(t *testing.T, host string, locked bool) {
	dir := t.TempDir()
	h.write(t, "config/strata/certs.d/"+host+"/ca.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.cert})))
	strata := func(store, input string, args ...string) (string, error) {
		cmd := exec.Command(filepath.Join(h.programs, "strata"), args...)
		cmd.Env = append(os.Environ(), "STRATA_ROOT="+filepath.Join(dir, store), "STRATA_RUN="+filepath.Join(dir, "run"), "HOME="+dir,
			"XDG_CONFIG_HOME="+filepath.Join(h.dir, "config"), "NO_COLOR=1")
		cmd.Stdin = strings.NewReader(input)
		var problems strings.Builder
		cmd.Stderr = &problems
		out, err := cmd.Output()
		if err != nil {
			err = fmt.Errorf("strata %s: %w: %s", strings.Join(args, " "), err, problems.String())
		}
		return string(out), err
	}
	must := func(store string, args ...string) string {
		t.Helper()
		out, err := strata(store, "", args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	id := must("first", "build", "-q", "-t", host+"/team/app:1", filepath.Join(h.dir, "context"))
	if locked {
		if _, err := strata("first", "", "push", host+"/team/app:1"); err == nil || !strings.Contains(err.Error(), "strata login "+host) {
			t.Errorf("push without a login: %v", err)
		}
		if _, err := strata("first", "guess\n", "login", "-u", registryUser, "--password-stdin", host); err == nil {
			t.Error("a wrong password")
		}
		if _, err := strata("first", registrySecret+"\n", "login", "-u", registryUser, "--password-stdin", host); err != nil {
			t.Fatal(err)
		}
	}
	pushed := must("first", "push", host+"/team/app:1")
	if again := must("first", "push", host+"/team/app:1"); again != pushed {
		t.Errorf("pushed as %s, then as %s", pushed, again)
	}
	must("first", "tag", host+"/team/app:1", host+"/other/app:2")
	must("first", "push", host+"/other/app:2")
	must("second", "pull", "-q", host+"/other/app:2")
	if got := must("second", "images", "-q", "--no-trunc"); got != id {
		t.Errorf("pulled %s, pushed %s", got, id)
	}
	must("second", "system", "check")
	if _, err := strata("second", "", "pull", host+"/other/app:3"); err == nil || !strings.Contains(err.Error(), `no tag "3"`) {
		t.Errorf("a tag that is not there: %v", err)
	}
	for _, store := range []string{"first", "second"} {
		must(store, "system", "reset", "--force")
	}
}

// token is a token service: ann gets what she asks for (distribution, "Token Authentication Implementation").
func (h *house) token(w http.ResponseWriter, r *http.Request) {
	if user, secret, ok := r.BasicAuth(); ok && (user != registryUser || secret != registrySecret) || r.ParseForm() != nil {
		w.WriteHeader(http.StatusUnauthorized)
		return
	} else if !ok { // strangers get a token that is good for nothing
		r.Form.Del("scope")
	}
	access := []map[string]any{}
	for _, scope := range strings.Fields(strings.Join(r.Form["scope"], " ")) {
		if f := strings.Split(scope, ":"); len(f) == 3 {
			access = append(access, map[string]any{"type": f[0], "name": f[1], "actions": strings.Split(f[2], ",")})
		}
	}
	now := time.Now().Unix()
	part := func(v any) string {
		raw, _ := json.Marshal(v) // of maps of texts: nothing fails
		return base64.RawURLEncoding.EncodeToString(raw)
	}
	signed := part(map[string]any{"typ": "JWT", "alg": "ES256", "x5c": []string{base64.StdEncoding.EncodeToString(h.cert)}}) + "." +
		part(map[string]any{"iss": "test", "aud": "test", "sub": registryUser, "jti": fmt.Sprint(now), "iat": now, "nbf": now - 60, "exp": now + 600, "access": access})
	sum := sha256.Sum256([]byte(signed))
	a, b, err := ecdsa.Sign(rand.Reader, h.key, sum[:])
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	signature := append(a.FillBytes(make([]byte, 32)), b.FillBytes(make([]byte, 32))...)
	_ = json.NewEncoder(w).Encode(map[string]string{"token": signed + "." + base64.RawURLEncoding.EncodeToString(signature)})
}
