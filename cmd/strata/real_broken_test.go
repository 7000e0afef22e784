//go:build linux

package main_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// line passes connections on to a server and counts the bytes that go there. At the mark it does once what it is told to.
type line struct {
	server string
	sent   atomic.Int64
	mark   atomic.Int64 // 0 is none
	cut    atomic.Bool  // at the mark the connection is reset; else nothing passes any more
	held   chan struct{}

	mu   sync.Mutex
	open []net.Conn
}

// newLine gives the address of a line to server.
func newLine(t *testing.T, server string) (*line, string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &line{server: server, held: make(chan struct{}, 1)}
	var workers sync.WaitGroup
	workers.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			workers.Go(func() { n.pass(conn.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		n.hangUp()
		workers.Wait()
	})
	return n, l.Addr().String()
}

// hangUp ends all connections.
func (n *line) hangUp() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.open {
		c.Close()
	}
}

func (n *line) pass(client *net.TCPConn) {
	conn, err := net.Dial("tcp", n.server)
	if err != nil {
		client.Close()
		return
	}
	server := conn.(*net.TCPConn)
	n.mu.Lock()
	n.open = append(n.open, client, server)
	n.mu.Unlock()
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = client.ReadFrom(server) // until either is closed
		client.Close()
	})
	defer back.Wait()
	defer server.Close()
	buf := make([]byte, 32<<10)
	for {
		k, err := client.Read(buf)
		if _, e := server.Write(buf[:k]); err != nil || e != nil {
			return
		}
		sent := n.sent.Add(int64(k))
		if mark := n.mark.Load(); mark == 0 || sent < mark || !n.mark.CompareAndSwap(mark, 0) {
			continue
		}
		if n.cut.Load() {
			_ = client.SetLinger(0) // a reset
			client.Close()
			return
		}
		n.held <- struct{}{}
		_, _ = client.Read(make([]byte, 1)) // one byte more, or the end of whoever was killed
		return
	}
}

// brokenUploads cuts a push in the middle, and kills another one, and counts what is sent. A server that keeps what came before its
// connection broke is sent the rest, another one all of it again.
func (h *house) brokenUploads(t *testing.T, server string, keeps bool) {
	n, host := newLine(t, server)
	dir := t.TempDir()
	strata := func(store string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(h.programs, "strata"), args...)
		cmd.Env = append(os.Environ(), "STRATA_ROOT="+filepath.Join(dir, store), "STRATA_RUN="+filepath.Join(dir, "run"), "HOME="+dir, "XDG_CONFIG_HOME="+dir)
		return cmd
	}
	must := func(store string, args ...string) string {
		t.Helper()
		out, err := strata(store, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("strata %s: %v: %s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	const size, mark = 12 << 20, 6 << 20
	within := func(what string) {
		t.Helper()
		most := int64(size)
		if !keeps {
			most += mark
		}
		t.Logf("%s: %d bytes sent for a layer of %d", what, n.sent.Load(), size)
		if sent := n.sent.Load(); sent < size || sent > most+1<<20 { // what was under way when the line broke comes again
			t.Errorf("%s: %d bytes were sent of a layer of %d", what, sent, size)
		}
	}
	id := must("first", "build", "-q", "-t", host+"/cut/app", filepath.Join(h.dir, "context"))

	n.cut.Store(true)
	n.mark.Store(mark)
	must("first", "push", "-q", host+"/cut/app")
	within("cut")

	// In another repository, so that the layer is sent again; what could be mounted is forgotten with the store.
	must("first", "save", "-o", filepath.Join(dir, "app.tar"), host+"/cut/app")
	must("killed", "load", "-q", "-i", filepath.Join(dir, "app.tar"))
	must("killed", "tag", host+"/cut/app", host+"/killed/app")
	n.cut.Store(false)
	n.sent.Store(0)
	n.mark.Store(mark)
	push := strata("killed", "push", host+"/killed/app")
	if err := push.Start(); err != nil {
		t.Fatal(err)
	}
	<-n.held
	if err := push.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = push.Wait() // it was killed
	if resp, err := http.Head(fmt.Sprintf("http://%s/v2/killed/app/manifests/latest", server)); err != nil || resp.StatusCode != http.StatusNotFound {
		t.Errorf("half of a push has a name: %v %v", resp, err)
	}
	must("killed", "push", "-q", host+"/killed/app")
	within("killed")
	if left, err := filepath.Glob(filepath.Join(dir, "killed", "partial", "*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	for _, name := range []string{"/cut/app", "/killed/app"} {
		must("second", "pull", "-q", host+name)
		if got := must("second", "images", "-q", "--no-trunc", host+name); got != id {
			t.Errorf("%s: pulled %s, pushed %s", name, got, id)
		}
	}
	must("second", "system", "check")
	for _, store := range []string{"first", "killed", "second"} {
		must(store, "system", "reset", "--force")
	}
}
