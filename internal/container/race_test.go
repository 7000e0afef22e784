package container

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// TestEndOfEveryRun: a container that its restart policy starts once more, while somebody waits for its end, gets the signal again.
func TestEndOfEveryRun(t *testing.T) {
	s := liveStore(t)
	rec := startDetached(t, s, make1(t, s, sh("sleep 1000"), HostConfig{Restart: RestartPolicy{Name: "always"}}))
	// The policy is not told, as it has just looked when somebody asks for the end: this run ends, and another one comes.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.end(ctx, rec, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if rec = lookup(t, s, rec.ID); rec.State.Status != Exited || rec.State.RestartCount == 0 {
		t.Errorf("%+v", rec.State)
	}
}

// TestKillOfRestarting ends the pause between two runs.
func TestKillOfRestarting(t *testing.T) {
	s := liveStore(t)
	rec := startDetached(t, s, make1(t, s, sh("exit 3"), HostConfig{Restart: RestartPolicy{Name: "always"}}))
	eventually(t, "third pause", func() bool {
		rec = lookup(t, s, rec.ID)
		return rec.State.Status == Restarting && rec.State.RestartCount > 2 // it is long enough by then
	})
	if err := s.Kill(t.Context(), rec, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if rec = lookup(t, s, rec.ID); rec.State.Status != Exited {
		t.Errorf("%+v", rec.State)
	}
}

// TestAttachTooLate: who attaches when the end was told already is told it, too.
func TestAttachTooLate(t *testing.T) {
	c := newControl(Record{}, nil)
	c.hub.exit(5, nil)
	ours, theirs := net.Pipe()
	defer ours.Close()
	go c.handle(theirs)
	if err := ours.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if err := ask(ours, request{Op: "attach", Out: true}); err != nil {
		t.Fatal(err)
	}
	f := frames{conn: ours}
	k, p, err := f.receive()
	if err != nil || k != frameExit {
		t.Fatal(k, err)
	}
	if code, err := exitCode(p); code != 5 || err != nil {
		t.Error(code, err)
	}
	eventually(t, "it is let go", func() bool { return len(c.hub.all()) == 0 })
}

// TestStartWaitsForTruth: the supervisor was killed, and somebody is just clearing up. A start is not to take the container for
// a running one.
func TestStartWaitsForTruth(t *testing.T) {
	s := liveStore(t)
	rec := startDetached(t, s, make1(t, s, sh("sleep 1000"), HostConfig{}))
	kill(t, rec.State.Supervisor)
	eventually(t, "supervisor gone", func() bool { return !s.held(rec.ID) })
	l, err := s.tryLock(t.Context(), rec.ID)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := s.Start(t.Context(), rec, StartOptions{}); err != nil {
			t.Error(err)
		}
	})
	time.Sleep(20 * time.Millisecond) // it may look as early as that
	_, err = s.bringInOrder(t.Context(), rec.ID)
	if err = errors.Join(err, l.release(verdict{Done: true})); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if cur := lookup(t, s, rec.ID); cur.State.Status != Running || cur.State.Pid == rec.State.Pid {
		t.Errorf("%+v", cur.State)
	}
}

// TestStartedTwice: of two who start a container at the same time both find it running.
func TestStartedTwice(t *testing.T) {
	s := liveStore(t)
	rec := make1(t, s, sh("sleep 1000"), HostConfig{})
	began := time.Now()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if _, err := s.Start(t.Context(), rec, StartOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if cur := lookup(t, s, rec.ID); cur.State.Status != Running {
		t.Errorf("%+v after %v", cur.State, time.Since(began))
	}
}

// TestFrozenOneAfterTheOther: two who need a container to stand still do not let it go on before both are done, nor does a pause.
func TestFrozenOneAfterTheOther(t *testing.T) {
	s := liveStore(t)
	rec := startDetached(t, s, make1(t, s, sh("sleep 1000"), HostConfig{}))
	if err := s.freezable(rec); err != nil {
		t.Skip("needs a control group that freezes:", err)
	}
	still := func() error {
		time.Sleep(5 * time.Millisecond)
		if !s.frozenNow(rec) {
			t.Error("it goes on")
		}
		return nil
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := s.frozen(t.Context(), rec, false, still); err != nil {
				t.Error(err)
			}
		})
	}
	var mu sync.Mutex
	var refused []error
	for range 2 {
		wg.Go(func() {
			if err := s.Pause(t.Context(), rec); err != nil {
				mu.Lock()
				defer mu.Unlock()
				refused = append(refused, err)
			}
		})
	}
	wg.Wait()
	if len(refused) != 1 || !strings.Contains(refused[0].Error(), "already paused") {
		t.Error(refused)
	}
	if cur := lookup(t, s, rec.ID); cur.State.Status != Paused || !s.frozenNow(cur) {
		t.Errorf("%+v", cur.State)
	}
	if left, _ := filepath.Glob(filepath.Join(s.Dir(rec.ID), "*.lock")); len(left) > 0 {
		t.Error(left)
	}
}

// TestFrozenMeetsTheEnd: a container that is killed while it stands still ends, and is no error to who wanted it so.
func TestFrozenMeetsTheEnd(t *testing.T) {
	s := liveStore(t)
	rec := startDetached(t, s, make1(t, s, sh("sleep 1000"), HostConfig{}))
	if err := s.freezable(rec); err != nil {
		t.Skip("needs a control group that freezes:", err)
	}
	if err := s.frozen(t.Context(), rec, false, func() error { return s.Kill(t.Context(), rec, unix.SIGKILL) }); err != nil {
		t.Error(err)
	}
	if cur := lookup(t, s, rec.ID); cur.State.Status != Exited {
		t.Errorf("%+v", cur.State)
	}
}

// TestRemoveMeetsStart removes by force a container that somebody keeps starting.
func TestRemoveMeetsStart(t *testing.T) {
	s := liveStore(t)
	for range 5 {
		rec := startDetached(t, s, make1(t, s, sh("sleep 1000"), HostConfig{}))
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				cur, err := s.Lookup(t.Context(), rec.ID)
				if err == nil {
					_, err = s.Start(t.Context(), cur, StartOptions{})
				}
				if err != nil && !strings.Contains(err.Error(), "another operation") {
					if !strings.Contains(err.Error(), "No such container") && !errors.Is(err, errdef.ErrConflict) {
						t.Error(err)
					}
					return
				}
			}
		})
		if err := s.Remove(t.Context(), rec, RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
		wg.Wait()
	}
}

// TestRemovedSinceLookup: what is asked of a container that is gone by then is told so, in docker's words.
func TestRemovedSinceLookup(t *testing.T) {
	s := liveStore(t)
	rec := make1(t, s, sh("echo hi"), HostConfig{})
	if code, out, _ := run(t, s, rec, ""); code != 0 || out != "hi\n" {
		t.Fatal(code, out)
	}
	if err := s.Remove(t.Context(), rec, RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Start(t.Context(), rec, StartOptions{}); err == nil || !strings.Contains(err.Error(), "No such container: "+rec.ID) {
		t.Error("start:", err)
	}
	live := rec
	live.State.Status = Running
	for what, err := range map[string]error{
		"logs":  s.Logs(t.Context(), rec, LogOptions{Tail: -1}, nil, nil),
		"cp":    s.CopyOutTar(t.Context(), rec, "/etc", io.Discard, CopyOptions{Dir: t.TempDir()}),
		"pause": s.Pause(t.Context(), live),
		"rm":    s.Remove(t.Context(), rec, RemoveOptions{}),
	} {
		if !errors.Is(err, errdef.ErrNotFound) || !strings.Contains(err.Error(), "No such container: "+rec.ID) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
