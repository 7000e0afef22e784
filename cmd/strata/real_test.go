//go:build linux

package main_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sync/errgroup"
)

// bed is what the real tests share: the stand-in bases on a registry on loopback, which serves as a mirror of docker.io,
// and what is known of this machine's package registries. testdata/real/bases/README.md tells of the bases.
type bed struct {
	dir      string // of its own
	programs string
	registry string // HOST:PORT
	env      []string
	missing  map[string]string // condition → why it does not hold
}

// standIns are the directories below testdata/real/bases, and the names that the articles' Dockerfiles give.
var standIns = map[string]string{"node": "node:14-alpine", "python": "python:3.9-slim", "golang": "golang:1.16", "alpine": "alpine", "registry": "registry:2"}

// newBed makes the bases and serves them. It skips t where that cannot be done.
func newBed(t *testing.T) *bed {
	if os.Getuid() != 0 {
		return strangersBed(t)
	}
	for _, program := range []string{"mmdebstrap", "docker-registry", "apt-get"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("no %s: scripts/test-deps.sh --real installs it", program)
		}
	}
	dir, err := os.MkdirTemp("", "strata-real-")
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{dir: dir, programs: bin(t), missing: map[string]string{}}
	b.env = append(os.Environ(), "STRATA_ROOT="+dir+"/store", "STRATA_RUN="+dir+"/run", "NO_COLOR=1")
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Cleanup(func() { b.strata(context.Background(), "system", "reset", "--force") })
	b.probe(t)
	if b.registry = os.Getenv("STRATA_TEST_MIRROR"); b.registry != "" { // with the bases of an earlier run
		return b
	}
	b.registry = b.serve(t, "mirror", "")
	begin := time.Now()
	if err := b.make(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("bases made in %v", time.Since(begin).Round(time.Second))
	return b
}

// strangersBed is what a plain user gets of the bed of root's tests: its mirror, and what root found out.
func strangersBed(t *testing.T) *bed {
	b := &bed{programs: bin(t), registry: os.Getenv("STRATA_TEST_MIRROR"), missing: map[string]string{}}
	if b.registry == "" {
		t.Skip("mmdebstrap needs root here")
	}
	for _, what := range strings.Split(os.Getenv("STRATA_TEST_MISSING"), ",") {
		b.missing[what] = "root's tests could not reach it"
	}
	return b
}

// probe asks each package registry for something, as this machine is set up to.
func (b *bed) probe(t *testing.T) {
	uris, err := exec.Command("sh", "-c", `apt-get indextargets --format '$(SITE)' | sort -u`).Output()
	site, _, _ := strings.Cut(string(uris), "\n")
	if err == nil {
		err = reach(site)
	}
	if err != nil {
		t.Skipf("Debian's package registry cannot be reached: %v", err)
	}
	if out, err := exec.Command("npm", "ping").CombinedOutput(); err != nil {
		b.missing["npm"] = fmt.Sprintf("npm's package registry cannot be reached: %v %s", err, out)
	}
	proxy, _, _ := strings.Cut(goEnv("GOPROXY"), ",")
	if err := reach(proxy); err != nil {
		b.missing["goproxy"] = fmt.Sprintf("Go's module proxy cannot be reached: %v", err)
	}
}

// reach asks for a page. Any answer is one.
func reach(url string) error {
	client := http.Client{Timeout: 20 * time.Second}
	resp, err := client.Head(strings.TrimSpace(url))
	if err != nil {
		return errors.New("no answer") // the error has the host in it
	}
	return resp.Body.Close()
}

func goEnv(name string) string {
	out, _ := exec.Command("go", "env", name).Output()
	return strings.TrimSpace(string(out))
}

// serve starts a registry on a free port; users is an htpasswd file, or "".
func (b *bed) serve(t *testing.T, name, users string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	b.serveAt(t, name, users, address)
	return address
}

func (b *bed) serveAt(t *testing.T, name, users, address string) {
	config := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}, delete: {enabled: true}}\nhttp: {addr: %q}\n",
		filepath.Join(b.dir, name), address)
	if users != "" {
		config += fmt.Sprintf("auth: {htpasswd: {realm: strata, path: %s}}\n", users)
	}
	file := filepath.Join(b.dir, name+".yml")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.Command("docker-registry", "serve", file)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for end := time.Now().Add(waiting); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if resp, err := http.Get("http://" + address + "/v2/"); err == nil {
			resp.Body.Close()
			return
		}
	}
	t.Fatalf("docker-registry does not answer: %s", log.String())
}

// mirror writes into a configuration directory that docker.io's images are found on the bed's registry.
func (b *bed) mirror(config string) error {
	dir := filepath.Join(config, "strata", "certs.d", "docker.io")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text := fmt.Sprintf("server = \"http://%s\"\n", b.registry) // and docker.io itself is never asked
	return os.WriteFile(filepath.Join(dir, "hosts.toml"), []byte(text), 0o644)
}

// make makes the bases and pushes them.
func (b *bed) make(ctx context.Context) error {
	tar := filepath.Join(b.dir, "ubuntu.tar")
	if err := b.run(ctx, b.dir, "mmdebstrap", "--quiet", "--variant=minbase", "bookworm", tar); err != nil {
		return err
	}
	if err := b.strata(ctx, "import", "-c", `CMD ["/bin/bash"]`, tar, "ubuntu"); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(3) // they wait for the network more than for a processor
	g.Go(func() error { return b.push(ctx, "ubuntu") })
	for _, name := range []string{"golang", "python", "node", "registry", "alpine"} {
		if name == "node" && b.missing["npm"] != "" {
			continue
		}
		g.Go(func() error { return b.standIn(ctx, name) })
	}
	return g.Wait()
}

// standIn builds one base from testdata/real/bases.
func (b *bed) standIn(ctx context.Context, name string) error {
	from, err := filepath.Abs(filepath.Join("testdata", "real", "bases", name))
	if err != nil {
		return err
	}
	src := filepath.Join(b.dir, name)
	if err := os.CopyFS(src, os.DirFS(from)); err != nil {
		return err
	}
	if ca := hostBundle(); ca != nil {
		if err := os.WriteFile(filepath.Join(src, "ca.crt"), ca, 0o644); err != nil {
			return err
		}
	}
	args := []string{"build", "-q", "-t", standIns[name]}
	switch name {
	case "node":
		if err := b.run(ctx, src, "sh", "-ec", "npm pack --silent npm@10.9.4 && mv npm-*.tgz npm.tgz"); err != nil {
			return err
		}
		registry, err := exec.Command("npm", "config", "get", "registry").Output()
		if err != nil {
			return fmt.Errorf("npm: %w", err)
		}
		args = append(args, "--build-arg", "NPM_REGISTRY="+strings.TrimSpace(string(registry)))
	case "golang":
		for _, v := range []string{"GOPROXY", "GONOSUMDB", "GOSUMDB"} {
			args = append(args, "--build-arg", v+"="+goEnv(v))
		}
	}
	if err := b.strata(ctx, append(args, src)...); err != nil {
		return err
	}
	return b.push(ctx, standIns[name])
}

// hostBundle is this machine's bundle of certificates, where Debian has it.
func hostBundle() []byte {
	raw, _ := os.ReadFile("/etc/ssl/certs/ca-certificates.crt")
	return raw
}

// push puts a base where docker.io has it.
func (b *bed) push(ctx context.Context, name string) error {
	there := b.registry + "/library/" + name
	if err := b.strata(ctx, "tag", name, there); err != nil {
		return err
	}
	return b.strata(ctx, "push", "-q", there)
}

func (b *bed) strata(ctx context.Context, args ...string) error {
	return b.run(ctx, "", filepath.Join(b.programs, "strata"), args...)
}

func (b *bed) run(ctx context.Context, dir, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env = dir, b.env
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", filepath.Base(program), strings.Join(args, " "), err, out)
	}
	return nil
}

// setup gives a script the mirror, and MIRROR and CONFIG in its environment. A script without a bed gets nothing.
func (b *bed) setup(env *testscript.Env) error {
	if b == nil {
		return nil
	}
	config := filepath.Join(env.WorkDir, ".config")
	env.Setenv("XDG_CONFIG_HOME", config)
	env.Setenv("MIRROR", b.registry)
	return b.mirror(config)
}
