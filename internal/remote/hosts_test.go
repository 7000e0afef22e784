package remote

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"strata/internal/errdef"
)

func TestParseHosts(t *testing.T) {
	h, err := parseHosts("/etc/x/docker.io/hosts.toml", []byte(`
server = "https://registry-1.docker.io"
ca = "server.crt"

[host."https://z.example/mirror"]
  capabilities = ["pull", "resolve"]
  ca = ["a.crt", "/b.crt"]
  client = [["c.cert", "c.key"], ["d.pem", ""]]
  skip_verify = true
  dial_timeout = "2s"
  [host."https://z.example/mirror".header]
    x-one = "1"
    x-two = ["2", "3"]

[host."http://a.example:5000/v2/hub"]
  override_path = true
  client = "both.pem"

[host."m.example"]
  capabilities = ["push"]
`))
	if err != nil {
		t.Fatal(err)
	}
	want := &hostsFile{
		file:   "/etc/x/docker.io/hosts.toml",
		server: hostEntry{at: place{"https", "registry-1.docker.io", "/v2"}, can: canAll, ca: []string{"/etc/x/docker.io/server.crt"}, header: http.Header{}},
		hosts: []hostEntry{
			{
				at: place{"https", "z.example", "/mirror/v2"}, can: canPull | canResolve, ca: []string{"/etc/x/docker.io/a.crt", "/b.crt"},
				client:     [][2]string{{"/etc/x/docker.io/c.cert", "/etc/x/docker.io/c.key"}, {"/etc/x/docker.io/d.pem", "/etc/x/docker.io/d.pem"}},
				skipVerify: true, header: http.Header{"X-One": {"1"}, "X-Two": {"2", "3"}}, dialTimeout: 2 * time.Second,
			},
			{
				at: place{"http", "a.example:5000", "/v2/hub"}, can: canAll, header: http.Header{},
				client: [][2]string{{"/etc/x/docker.io/both.pem", "/etc/x/docker.io/both.pem"}},
			},
			{at: place{"https", "m.example", "/v2"}, can: canPush, header: http.Header{}},
		},
	}
	if d := cmp.Diff(want, h, cmp.AllowUnexported(hostsFile{}, hostEntry{}, place{})); d != "" {
		t.Error(d)
	}
}

func TestParseHostsRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"serve = \"x\"":                                          `line 1: key "serve" is not known`,
		"[host.\"https://x\"]\n  rewrite = 1":                    `line 2: key "host.https://x.rewrite" is not known`,
		"[host.\"https://x\"]\n  skip_verify = \"yes\"":          "line 2",
		"[host.\"https://x\"]\n  capabilities = [\"fly\"]":       `"fly" is not one of`,
		"[host.\"ftp://x\"]":                                     "no URL of a registry",
		"[host.\"https://u:p@x\"]":                               "no URL of a registry",
		"[host.\"\"]":                                            "no name",
		"[host.\"https://x\"]\nca = 5":                           "ca: want",
		"[host.\"https://x\"]\nclient = [[\"a\", \"b\", \"c\"]]": "client: want",
		"[host.\"https://x\"]\ndial_timeout = \"soon\"":          "dial_timeout",
		"[host.\"https://x\"]\nheader = {a = 1}":                 "header.a: want",
		"server = ":                                              "line 1",
		"server = \"https:///x\"":                                "no URL of a registry",
		"[header]\n\"a b\" = \"c\"":                              `header."a b": it cannot be sent`,
		"[header]\na = \"b\\nc\"":                                `header."a": it cannot be sent`,
		"[[host]]\nx = 1":                                        "",
	} {
		_, err := parseHosts("/d/hosts.toml", []byte(text))
		if !errors.Is(err, errdef.ErrInvalid) || !strings.HasPrefix(err.Error(), "/d/hosts.toml: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestHostOrder(t *testing.T) {
	for _, text := range []string{
		"[host.b]\n[host.a]\n[host.a.header]\n[host.c]",
		"host.b.skip_verify = true\nhost.a.skip_verify = true\nhost.c.ca = 'x'",
		"host = {b = {skip_verify = true}, a = {}, c = {}}",
		"[host]\nb = {}\na.skip_verify = true\nc = {}",
	} {
		h, err := parseHosts("f", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		var got string
		for _, e := range h.hosts {
			got += e.at.host
		}
		if got != "bac" {
			t.Errorf("%q: %s", text, got)
		}
	}
}

func TestFindHosts(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	write(t, one+"/_default/hosts.toml", `server = "https://default"`)
	write(t, two+"/r.example_5000_/hosts.toml", `server = "https://five"`)
	write(t, two+"/s.example:6/hosts.toml", `server = "https://six"`)
	for registry, want := range map[string]string{"r.example:5000": "five", "s.example:6": "six", "other": "default"} {
		h, err := findHosts([]string{filepath.Join(one, "none"), one, two}, registry)
		if err != nil || h.server.at.host != want {
			t.Errorf("%s: %v, %v", registry, h, err)
		}
	}
}

func TestConfig(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	write(t, one+"/docker.io/hosts.toml", "[host.\"http://m.example\"]\n[host.\"https://n.example\"]\n[host.\"https://registry-1.docker.io\"]")
	write(t, two+"/docker.io/hosts.toml", `server = "https://hidden"`)
	write(t, two+"/r.example_5000_/hosts.toml", `skip_verify = true`)
	write(t, two+"/bad/hosts.toml", `x = 1`)
	write(t, two+"/certs-only/ca.crt", ``)
	write(t, two+"/README", ``)
	got, err := New(Options{HostDirs: []string{one, two, one + "/none"}}).Config(context.Background())
	if !errors.Is(err, errdef.ErrInvalid) {
		t.Error(err)
	}
	want := []Setting{
		{Registry: "docker.io", File: one + "/docker.io/hosts.toml", Mirrors: []string{"http://m.example", "https://n.example"}, Insecure: []string{"http://m.example"}},
		{Registry: "r.example:5000", File: two + "/r.example_5000_/hosts.toml", Insecure: []string{"https://r.example:5000"}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// authority is a private certificate authority.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	a.cert, a.key = a.issue(t, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

func (a *authority) issue(t *testing.T, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// leaf is a certificate for a server at loopback, or for a client.
func (a *authority) leaf(t *testing.T, notAfter time.Time) tls.Certificate {
	t.Helper()
	cert, key := a.issue(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "leaf"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: notAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

func pemCert(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func pemKey(t *testing.T, c tls.Certificate) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// serveTLS starts h with a certificate of a; clients must have one too if wanted.
func (a *authority) serveTLS(t *testing.T, h http.Handler, notAfter time.Time, wantClient bool) string {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = quiet()
	srv.EnableHTTP2 = true
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{a.leaf(t, notAfter)}}
	if wantClient {
		srv.TLS.ClientAuth = tls.RequireAndVerifyClientCert
		srv.TLS.ClientCAs = x509.NewCertPool()
		srv.TLS.ClientCAs.AddCert(a.cert)
	}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "https://")
}

func TestTLS(t *testing.T) {
	a, later := newAuthority(t), time.Now().Add(time.Hour)
	host := a.serveTLS(t, basic(plainRegistry()), later, false)
	ref := parse(t, host+"/app:1")
	ask := func(c *Client) error {
		_, err := c.Manifest(context.Background(), ref)
		return err
	}
	dir := t.TempDir()
	err := ask(newClient(t, dir))
	if !errors.Is(err, errdef.ErrUnavailable) || !strings.Contains(err.Error(), "registry "+host+": the certificate of "+host+" is signed by an authority that is not known here") {
		t.Error(err)
	}
	if want := "put the authority's certificate (PEM) into " + filepath.Join(dir, host, "ca.crt"); !strings.HasSuffix(errdef.Hint(err), want) {
		t.Errorf("hint %q, want … %q", errdef.Hint(err), want)
	}
	write(t, filepath.Join(dir, host, "ca.crt"), pemCert(a.cert.Raw)) // as the hint says
	c := newClient(t, dir)
	credentialsFor(t, os.Getenv("HOME"), host, userEntry())
	suite(t, c, host)

	insecure := newClient(t, hosts(t, host, "skip_verify = true"))
	if err := ask(insecure); !errors.Is(err, errdef.ErrDenied) {
		t.Errorf("unverified: %v", err)
	}
	old := a.serveTLS(t, plainRegistry(), time.Now().Add(-time.Hour), false)
	ref = parse(t, old+"/app:1")
	if err := ask(newClient(t, hosts(t, old, "ca = '"+filepath.Join(dir, host, "ca.crt")+"'"))); err == nil || !strings.Contains(err.Error(), "is not valid: certificate has expired") {
		t.Error(err)
	}
	ref = parse(t, strings.Replace(host, "127.0.0.1", "localhost", 1)+"/app:1")
	if err := ask(newClient(t, hosts(t, ref.Domain, "ca = '"+filepath.Join(dir, host, "ca.crt")+"'"))); err == nil || !strings.Contains(err.Error(), "is for another host") {
		t.Error(err)
	}
}

func TestClientCertificate(t *testing.T) {
	a, later := newAuthority(t), time.Now().Add(time.Hour)
	host := a.serveTLS(t, plainRegistry(), later, true)
	dir := t.TempDir()
	in := filepath.Join(dir, host)
	write(t, in+"/ca.crt", pemCert(a.cert.Raw))
	_, err := newClient(t, dir).Manifest(context.Background(), parse(t, host+"/app:1"))
	if !errors.Is(err, errdef.ErrUnavailable) || !strings.Contains(errdef.Hint(err), in+"/client.cert") {
		t.Error(err, errdef.Hint(err))
	}
	leaf := a.leaf(t, later)
	write(t, in+"/client.cert", pemCert(leaf.Certificate[0]))
	_, err = newClient(t, dir).Manifest(context.Background(), parse(t, host+"/app:1"))
	if err == nil || !strings.Contains(err.Error(), in+"/client.key") {
		t.Errorf("without key: %v", err)
	}
	write(t, in+"/client.key", pemKey(t, leaf))
	suite(t, newClient(t, dir), host)
}

// TestPlainHTTPElsewhere holds that plain HTTP is only for loopback, unless a file says so.
func TestPlainHTTPElsewhere(t *testing.T) {
	host, dir := serveOn(t, otherAddress(t), plainRegistry()), t.TempDir()
	_, err := newClient(t, dir).Manifest(context.Background(), parse(t, host+"/app:1"))
	if !errors.Is(err, errdef.ErrUnavailable) || !strings.Contains(err.Error(), host+" speaks plain HTTP, not HTTPS") {
		t.Fatal(err)
	}
	file := filepath.Join(dir, host, "hosts.toml")
	if want := "mkdir -p " + filepath.Dir(file) + " && echo 'server = \"http://" + host + "\"' > " + file; !strings.Contains(errdef.Hint(err), want) {
		t.Errorf("hint %q, want %q", errdef.Hint(err), want)
	}
	write(t, file, "server = \"http://"+host+"\"\n")
	suite(t, newClient(t, dir), host)
}

// serveOn is serve at an address that may be no loopback address.
func serveOn(t *testing.T, ip string, h http.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Skipf("no listener at %s: %v", ip, err)
	}
	srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: h, ReadHeaderTimeout: time.Minute, ErrorLog: quiet()}}
	srv.Start()
	t.Cleanup(srv.Close)
	return l.Addr().String()
}

// otherAddress is an address of this machine that is not loopback.
func otherAddress(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(addrs, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && n.IP.To4() != nil && !n.IP.IsLoopback()
	})
	if i < 0 {
		t.Skip("this machine has only loopback")
	}
	return addrs[i].(*net.IPNet).IP.String()
}

// TestMirrors falls from one mirror to the next and to the registry itself.
func TestMirrors(t *testing.T) {
	var asked []string
	named := func(name string, h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked = append(asked, name+" "+r.URL.Query().Get("ns"))
			h.ServeHTTP(w, r)
		})
	}
	registry := plainRegistry()
	broken := serve(t, named("broken", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotImplemented) })))
	empty := serve(t, named("empty", plainRegistry()))
	full := serve(t, named("full", registry))
	itself := serve(t, named("itself", plainRegistry()))
	unreached := closedPort(t)

	ctx := context.Background()
	raw := push(t, newClient(t), parse(t, full+"/app:1"))
	asked = nil
	order := `server = "http://` + itself + `"
[host."http://` + unreached + `"]
capabilities = ["pull", "resolve"]
[host."http://` + broken + `"]
capabilities = ["pull", "resolve"]
[host."http://` + empty + `"]
capabilities = ["pull", "resolve"]
[host."http://` + full + `"]
capabilities = ["pull"]
`
	c := newClient(t, hosts(t, "r.example", order))
	ref := parse(t, "r.example/app:1")
	byDigest := ref.WithDigest(descriptor(raw).Digest)
	if doc, err := c.Manifest(ctx, byDigest); err != nil || string(doc.Raw) != string(raw) {
		t.Fatal(err)
	}
	if want := []string{"broken r.example", "empty r.example", "full r.example"}; !slices.Equal(asked, want) {
		t.Errorf("asked %q, want %q", asked, want)
	}
	asked = nil
	_, err := c.Manifest(ctx, ref) // a tag: the full mirror is not good for that
	if !errors.Is(err, errdef.ErrNotFound) || !strings.Contains(err.Error(), "mirror "+broken+" of r.example: answered 501") {
		t.Error(err)
	}
	if strings.Contains(err.Error(), unreached) {
		t.Errorf("a mirror that is down was asked again: %v", err)
	}
	if want := []string{"broken r.example", "empty r.example", "itself "}; !slices.Equal(asked, want) {
		t.Errorf("asked %q, want %q", asked, want)
	}
	asked = nil
	push(t, c, ref)
	if slices.ContainsFunc(asked, func(s string) bool { return s != "itself " }) {
		t.Errorf("pushed to %q", asked)
	}
}

// TestMirrorTakesPush pushes to a host that hosts.toml says is good for it.
func TestMirrorTakesPush(t *testing.T) {
	host := serve(t, plainRegistry())
	c := newClient(t, hosts(t, "docker.io", "server = \"http://127.0.0.1:1\"\n[host.\"http://"+host+"\"]"))
	raw := push(t, c, parse(t, "app:1"))
	_, err := c.Manifest(context.Background(), parse(t, "app:none"))
	if !errors.Is(err, errdef.ErrUnavailable) || !strings.Contains(err.Error(), "registry docker.io: 127.0.0.1:1 refuses the connection") ||
		!strings.Contains(err.Error(), "manifest for app:none") {
		t.Error(err)
	}
	readSuite(t, newClient(t), parse(t, host+"/library/app:1"), raw)
}

// TestOwnHostIsNoMirror has the form in which many say that their registry is insecure.
func TestOwnHostIsNoMirror(t *testing.T) {
	host := newAuthority(t).serveTLS(t, plainRegistry(), time.Now().Add(time.Hour), false)
	c := newClient(t, hosts(t, host, "server = \"https://"+host+"\"\n[host.\"https://"+host+"\"]\nskip_verify = true\ncapabilities = [\"pull\", \"resolve\"]"))
	s, err := c.site(host)
	if err != nil || len(s.mirrors) != 0 {
		t.Fatal(s, err)
	}
	suite(t, c, host)
}

func TestNoPushAllowed(t *testing.T) {
	c := newClient(t, hosts(t, "r.example", `capabilities = ["pull", "resolve"]`))
	err := c.PutBlob(context.Background(), parse(t, "r.example/x"), descriptor(nil), opener(nil))
	if !errors.Is(err, errdef.ErrUnsupported) {
		t.Error(err)
	}
}

func TestDirNames(t *testing.T) {
	for host, want := range map[string][]string{
		"r.example": {"r.example"}, "r.example:5": {"r.example_5_", "r.example:5"}, "[::1]:5": {"[::1]_5_", "[::1]:5"},
		"[::1]": {"[::1]"}, "../x": nil, "..": nil, "a/b": nil,
	} {
		if got := dirNames(host); !slices.Equal(got, want) {
			t.Errorf("%s: %q", host, got)
		}
	}
}
