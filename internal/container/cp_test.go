package container

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

func cpOptions(t *testing.T) CopyOptions {
	t.Helper()
	return CopyOptions{Ref: "c", Dir: t.TempDir(), Moved: new(atomic.Int64)}
}

// outTar copies a path out and gives name→content of the tar.
func outTar(t *testing.T, s *Store, rec Record, p string) map[string]string {
	t.Helper()
	var b bytes.Buffer
	if err := s.CopyOutTar(t.Context(), rec, p, &b, cpOptions(t)); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for tr := tar.NewReader(&b); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		raw, _ := io.ReadAll(tr)
		files[h.Name] = string(raw)
	}
}

// The same paths are copied whether the container was never started, runs, is paused or has stopped, volumes and binds included.
func TestCopyInEveryState(t *testing.T) {
	s := liveStore(t)
	host := t.TempDir()
	write(t, filepath.Join(host, "from-host"), "bound", 0o644)
	c := sh("sleep 1000")
	c.Volumes = map[string]struct{}{"/data": {}}
	rec := make1(t, s, c, HostConfig{Binds: []Bind{{Source: host, Destination: "/mnt"}, {Source: host, Destination: "/ro", ReadOnly: true}}})
	src := filepath.Join(t.TempDir(), "file")
	check := func(state string) {
		t.Helper()
		rec = lookup(t, s, rec.ID)
		write(t, src, state, 0o644)
		for _, dest := range []string{"/tmp", "/data/in-volume", "/mnt/in-bind"} {
			o := cpOptions(t)
			done, err := s.CopyIn(t.Context(), rec, src, dest, o)
			if err != nil || done.Bytes != 2048 || done.Dest != "c:"+dest {
				t.Errorf("%s, to %s: %+v %v", state, dest, done, err)
			}
		}
		for p, want := range map[string]string{
			"/tmp/file": state, "/data/in-volume": state, "/mnt/in-bind": state, "/mnt/from-host": "bound", "/data/file": "from the image",
		} {
			if got := outTar(t, s, rec, p)[filepath.Base(p)]; got != want {
				t.Errorf("%s, %s: %q", state, p, got)
			}
		}
		if _, err := s.CopyIn(t.Context(), rec, src, "/ro", cpOptions(t)); err == nil || err.Error() != "mounted volume is marked read-only" {
			t.Errorf("%s: into a read-only bind: %v", state, err)
		}
		for _, p := range []string{"/proc", "/sys/kernel", "/dev/shm"} {
			if _, err := s.CopyIn(t.Context(), rec, src, p, cpOptions(t)); err == nil {
				t.Errorf("%s: copied into %s", state, p)
			}
		}
		if got, _ := os.ReadFile(filepath.Join(host, "in-bind")); string(got) != state {
			t.Errorf("%s: the host has %q", state, got)
		}
	}
	check("created")
	rec = startDetached(t, s, rec)
	check("running")
	if err := s.Pause(t.Context(), rec); err != nil {
		t.Log("not paused:", err) // no freezer here
	} else {
		check("paused")
		if err := s.Unpause(t.Context(), lookup(t, s, rec.ID)); err != nil {
			t.Fatal(err)
		}
	}
	none := 0
	if err := s.Stop(t.Context(), lookup(t, s, rec.ID), StopOptions{Timeout: &none}); err != nil {
		t.Fatal(err)
	}
	check("stopped")
}

// Whatever links the container has, and changes while it is copied, nothing of this machine is read or written.
func TestCopyNeverLeaves(t *testing.T) {
	s := liveStore(t)
	outside := t.TempDir()
	write(t, filepath.Join(outside, "secret"), "OUTSIDE", 0o644)
	rec := make1(t, s, sh("mkdir /t; cd /t; ln -s "+outside+" abs; ln -s ../../../../../../../.."+outside+" rel; ln -s /proc/self/root"+outside+" magic;"+
		"mkdir real; echo fine > real/secret; echo ready; exec sleep 1000"), HostConfig{})
	rec = startDetached(t, s, rec)
	eventually(t, "links", func() bool {
		_, err := os.Stat(filepath.Join(s.Upper(rec.ID), "t/real/secret"))
		return err == nil
	})
	src := filepath.Join(t.TempDir(), "planted")
	write(t, src, "planted", 0o644)
	for _, link := range []string{"abs", "rel", "magic"} {
		for _, p := range []string{"/t/" + link + "/secret", "/t/" + link + "/"} {
			if err := s.CopyOutTar(t.Context(), rec, p, io.Discard, cpOptions(t)); err == nil {
				t.Errorf("copied out of %s", p)
			}
		}
		if _, err := s.CopyIn(t.Context(), rec, src, "/t/"+link+"/planted", cpOptions(t)); err == nil {
			t.Errorf("copied into %s", link)
		}
	}
	// What stands under a name is exchanged all the time.
	dir := filepath.Join(s.Upper(rec.ID), "t")
	if err := os.Symlink(outside, filepath.Join(dir, "evil")); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		inside := filepath.Join("/proc", strconv.Itoa(rec.State.Pid), "root/t")
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, inside+"/real", unix.AT_FDCWD, inside+"/evil", unix.RENAME_EXCHANGE)
			}
		}
	}()
	for range 40 {
		var b bytes.Buffer
		if err := s.CopyOutTar(t.Context(), rec, "/t/real/secret", &b, cpOptions(t)); err == nil && bytes.Contains(b.Bytes(), []byte("OUTSIDE")) {
			t.Error("read outside")
		}
		_, _ = s.CopyIn(t.Context(), rec, src, "/t/real/planted", cpOptions(t))
	}
	close(stop)
	<-stopped
	if left, _ := os.ReadDir(outside); len(left) != 1 {
		t.Errorf("outside has %v", left)
	}
}

// Nobody can start a container while files are copied into it, and a copy waits for nobody else.
func TestCopyHoldsStoppedContainer(t *testing.T) {
	s := liveStore(t)
	rec := make1(t, s, sh("cat /tmp/x"), HostConfig{})
	r, w := io.Pipe()
	copied := make(chan error)
	go func() { copied <- s.CopyInTar(t.Context(), rec, r, "/tmp", cpOptions(t)) }()
	tw := tar.NewWriter(w)
	if err := tw.WriteHeader(&tar.Header{Name: "x", Mode: 0o644, Size: 5}); err != nil {
		t.Fatal(err)
	}
	if !s.held(rec.ID) {
		t.Error("the container is free while it is written to")
	}
	if _, err := tw.Write([]byte("there")); err != nil {
		t.Fatal(err)
	}
	tw.Close()
	w.Close()
	if err := <-copied; err != nil {
		t.Fatal(err)
	}
	if code, out, _ := run(t, s, rec, ""); code != 0 || out != "there" {
		t.Errorf("%d %q", code, out)
	}
}

// A container that has ended, its supervisor having taken away what it ran in and about to record the end, is not running any
// more to anybody.
func TestEndsMeanwhile(t *testing.T) {
	s := liveStore(t)
	rec := startDetached(t, s, make1(t, s, sh("sleep 1000"), HostConfig{}))
	if err := unix.Kill(rec.State.Supervisor, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	// The store's end would wait for it.
	defer unix.Kill(rec.State.Supervisor, unix.SIGCONT)
	if err := signalProcess(rec.State, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its end", func() bool { return gone(rec.State) })
	if err := os.RemoveAll(s.bundleDir(rec.ID)); err != nil {
		t.Fatal(err)
	}
	if err := s.Pause(t.Context(), rec); !errors.Is(err, errdef.ErrConflict) {
		t.Errorf("pause: %v", err)
	}
	if err := s.Update(t.Context(), rec, Change{Resources: Resources{Memory: 64 << 20}}); err != nil {
		t.Errorf("update: %v", err)
	}
	if err := s.frozen(t.Context(), rec, false, func() error { return nil }); err != nil {
		t.Errorf("commit: %v", err)
	}
	go func() {
		time.Sleep(50 * time.Millisecond)
		_ = unix.Kill(rec.State.Supervisor, unix.SIGCONT)
	}()
	if got := outTar(t, s, rec, "/data/file")["file"]; got != "from the image" {
		t.Errorf("cp: %q", got)
	}
	if rec = lookup(t, s, rec.ID); rec.State.Status != Exited || rec.Host.Resources.Memory != 64<<20 {
		t.Errorf("%+v, %d bytes", rec.State, rec.Host.Resources.Memory)
	}
}
