//go:build linux

package main_test

import (
	"context"
	"crypto/rand"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

// meter is a registry that counts the bytes of blobs that it sends, and lets none pass beyond a mark until the mark moves.
type meter struct {
	next http.Handler
	sent atomic.Int64
	mark atomic.Int64
	full chan struct{} // told when the mark is reached
	done chan struct{}
}

func newMeter(t *testing.T) (*meter, string) {
	m := &meter{next: registry.New(registry.Logger(log.New(io.Discard, "", 0))), full: make(chan struct{}, 100), done: make(chan struct{})}
	server := httptest.NewServer(m)
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(m.done) })
	return m, strings.TrimPrefix(server.URL, "http://")
}

func (m *meter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
		w = &metered{w, m, r.Context()}
	}
	m.next.ServeHTTP(w, r)
}

type metered struct {
	http.ResponseWriter
	m   *meter
	ctx context.Context //nolint:containedctx // of the one request that this is the answer of
}

func (w *metered) Write(p []byte) (int, error) {
	if mark := w.m.mark.Load(); mark > 0 && w.m.sent.Load() >= mark {
		w.m.full <- struct{}{}
		select {
		case <-w.ctx.Done():
		case <-w.m.done:
		}
		return 0, http.ErrAbortHandler
	}
	n, err := w.ResponseWriter.Write(p)
	w.m.sent.Add(int64(n))
	return n, err
}

// arrived waits until the file in dir holds the bytes that were sent, but for blocks that are not whole: what a killed process
// had not read yet is lost to it.
func arrived(t *testing.T, dir string, sent int64) {
	t.Helper()
	for end := time.Now().Add(waiting); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		var st syscall.Stat_t
		if err == nil && len(files) == 1 && syscall.Stat(files[0], &st) == nil && st.Blocks*512 >= sent-1<<20 {
			return
		}
	}
	t.Fatal("what was sent does not arrive")
}

// TestKilledPullGoesOn kills a pull three times and counts what the registry sends in all.
func TestKilledPullGoesOn(t *testing.T) {
	m, host := newMeter(t)
	dir, programs := t.TempDir(), bin(t)
	strata := func(store string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(programs, "strata"), args...)
		cmd.Env = append(os.Environ(), "STRATA_ROOT="+filepath.Join(dir, store), "STRATA_RUN="+filepath.Join(dir, "run"), "HOME="+dir)
		return cmd
	}
	run := func(store string, args ...string) string {
		t.Helper()
		out, err := strata(store, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("strata %s: %v: %s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	t.Cleanup(func() {
		for _, store := range []string{"first", "second"} {
			_ = strata(store, "system", "reset", "--force").Run() // a plain user's store is not his to remove by hand
		}
	})
	const size = 48 << 20
	data := make([]byte, size)
	_, _ = rand.Read(data)
	for name, text := range map[string][]byte{"data": data, "Dockerfile": []byte("FROM strata.internal/static\nCOPY data /data\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run("first", "build", "-q", "-t", host+"/data", dir)
	run("first", "push", "-q", host+"/data")

	for i := range 3 {
		m.mark.Store(int64(i+1) * 12 << 20)
		pull := strata("second", "pull", host+"/data")
		if err := pull.Start(); err != nil {
			t.Fatal(err)
		}
		<-m.full
		arrived(t, filepath.Join(dir, "second", "partial"), m.sent.Load())
		if err := pull.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = pull.Wait() // it was killed
	}
	m.mark.Store(0)
	run("second", "pull", "-q", host+"/data")
	if sent := m.sent.Load(); sent > size*105/100 {
		t.Errorf("the registry sent %d bytes of a layer of %d", sent, size)
	}
	run("second", "system", "check")
	if left, err := os.ReadDir(filepath.Join(dir, "second", "partial")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
