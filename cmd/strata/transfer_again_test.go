//go:build linux

package main_test

import (
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// asked is what a registry was asked for, until it is read.
type asked struct {
	next http.Handler
	mu   sync.Mutex
	list []string
}

func (a *asked) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.list = append(a.list, r.Method+" "+r.URL.Path)
	a.mu.Unlock()
	a.next.ServeHTTP(w, r)
}

func (a *asked) read() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := a.list
	a.list = nil
	return list
}

// records is what the store's files of references, images and layers are: their names, inodes and times.
func records(t *testing.T, store string) (all []string) {
	t.Helper()
	for _, dir := range []string{"refs", "images", "layers", "blobs"} {
		err := filepath.WalkDir(filepath.Join(store, dir), func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || strings.HasSuffix(path, ".lock") {
				return err
			}
			info, err := e.Info()
			if err == nil {
				all = append(all, fmt.Sprint(path, info.Sys().(*syscall.Stat_t).Ino, info.ModTime()))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// TestSecondTransfer does a push and a pull of what is there already: that takes questions only, and writes nothing.
func TestSecondTransfer(t *testing.T) {
	m, _ := newMeter(t)
	a := &asked{next: m}
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	host, dir, programs := strings.TrimPrefix(server.URL, "http://"), t.TempDir(), bin(t)
	run := func(store string, args ...string) string {
		t.Helper()
		cmd := exec.Command(filepath.Join(programs, "strata"), args...)
		cmd.Env = append(os.Environ(), "STRATA_ROOT="+filepath.Join(dir, store), "STRATA_RUN="+filepath.Join(dir, "run"), "HOME="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("strata %s: %v: %s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM strata.internal/static\nCOPY Dockerfile /\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { run("first", "system", "reset", "--force"); run("second", "system", "reset", "--force") })
	run("first", "build", "-q", "-t", host+"/app", dir)
	digest := run("first", "push", host+"/app")
	run("second", "pull", "-q", host+"/app")
	a.read()

	for store, args := range map[string][]string{"first": {"push", host + "/app"}, "second": {"pull", host + "/app"}} {
		before := records(t, filepath.Join(dir, store))
		out := run(store, args...)
		if diff := cmp.Diff(before, records(t, filepath.Join(dir, store))); diff != "" {
			t.Errorf("%s wrote: %s", args[0], diff)
		}
		got := a.read()
		slices.Sort(got)
		if args[0] == "pull" {
			if want := []string{"HEAD /v2/app/manifests/latest"}; !slices.Equal(got, want) {
				t.Errorf("pull asked for %q", got)
			}
			continue
		}
		if slices.ContainsFunc(got, func(s string) bool { return !strings.HasPrefix(s, "HEAD ") }) || len(got) != 4 {
			t.Errorf("push asked for %q", got)
		}
		if last := func(s string) string { return s[strings.LastIndex(s, "latest: digest"):] }; last(out) != last(digest) {
			t.Errorf("push said %q, before that %q", out, digest)
		}
	}

	// Where somebody else has moved the tag meanwhile, it is moved back.
	run("first", "build", "-q", "-t", host+"/app", "--label", "a=b", dir)
	run("first", "push", "-q", host+"/app")
	run("second", "push", "-q", host+"/app")
	if out := run("first", "pull", host+"/app"); !strings.Contains(digest, strings.Fields(out[strings.Index(out, "Digest: "):])[1]) {
		t.Errorf("the tag was not moved back: %s; want %s", out, digest)
	}
}
