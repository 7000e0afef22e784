package container

import (
	"bytes"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// trapping gives a running container that ends with 7 at a SIGTERM.
func trapping(t *testing.T, s *Store, h HostConfig) Record {
	t.Helper()
	rec := startDetached(t, s, make1(t, s, sh("trap 'exit 7' TERM; echo up; while true; do sleep 0.05; done"), h))
	eventually(t, "up", func() bool {
		var out bytes.Buffer
		return s.Logs(t.Context(), rec, LogOptions{Tail: -1}, &out, nil) == nil && out.Len() > 0
	})
	return rec
}

// paused gives a container that stands still.
func paused(t *testing.T, s *Store, h HostConfig) Record {
	t.Helper()
	rec := trapping(t, s, h)
	if err := s.freezable(rec); err != nil {
		t.Skip("no freezer here:", err)
	}
	if err := s.Pause(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	return lookup(t, s, rec.ID)
}

func TestPausedRefuses(t *testing.T) {
	s := liveStore(t)
	rec := paused(t, s, HostConfig{})
	_, exec := s.Exec(t.Context(), rec, ExecOptions{Args: []string{"true"}})
	_, attach := s.Attach(t.Context(), rec, AttachOptions{})
	_, start := s.Start(t.Context(), rec, StartOptions{})
	for what, err := range map[string]error{
		"pause": s.Pause(t.Context(), rec), "exec": exec, "attach": attach, "start": start, "rm": s.Remove(t.Context(), rec, RemoveOptions{}),
	} {
		if !errors.Is(err, errdef.ErrConflict) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := s.Unpause(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	rec = lookup(t, s, rec.ID)
	if err := s.Unpause(t.Context(), rec); rec.State.Status != Running || s.frozenNow(rec) || !errors.Is(err, errdef.ErrConflict) {
		t.Errorf("%+v %v", rec.State, err)
	}
}

// TestPausedEnds ends paused containers in every way there is; none may hang.
func TestPausedEnds(t *testing.T) {
	s := liveStore(t)
	long := int(patience.Seconds())
	for name, c := range map[string]struct {
		end  func(rec Record) error
		code int
	}{
		"stop":         {func(rec Record) error { return s.Stop(t.Context(), rec, StopOptions{Timeout: &long}) }, 7},
		"kill":         {func(rec Record) error { return s.Kill(t.Context(), rec, unix.SIGKILL) }, 137},
		"kill -s TERM": {func(rec Record) error { return s.Kill(t.Context(), rec, unix.SIGTERM) }, 7},
		"lost shim":    {func(rec Record) error { return unix.Kill(rec.State.Supervisor, unix.SIGKILL) }, 137},
	} {
		rec := paused(t, s, HostConfig{})
		if err := c.end(rec); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if code, err := s.Wait(t.Context(), rec); code != c.code || err != nil {
			t.Errorf("%s: exit code %d, want %d; %v", name, code, c.code, err)
		}
	}
	rec := paused(t, s, HostConfig{})
	if err := s.Remove(t.Context(), rec, RemoveOptions{Force: true}); err != nil {
		t.Error("rm -f:", err)
	}
}

// TestFrozenByTheDead thaws what somebody froze who was killed before he could thaw it.
func TestFrozenByTheDead(t *testing.T) {
	s := liveStore(t)
	rec := paused(t, s, HostConfig{})
	if err := s.setStatus(t.Context(), rec.ID, Paused, Running); err != nil {
		t.Fatal(err)
	}
	rec = lookup(t, s, rec.ID)
	if err := s.Unpause(t.Context(), rec); err != nil || s.frozenNow(rec) {
		t.Error(err)
	}
	rec = paused(t, s, HostConfig{})
	if err := s.setStatus(t.Context(), rec.ID, Paused, Running); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), lookup(t, s, rec.ID), RemoveOptions{Force: true}); err != nil {
		t.Error(err)
	}
}

func TestRestart(t *testing.T) {
	s := liveStore(t)
	for _, h := range []HostConfig{{}, {AutoRemove: true}} {
		rec := trapping(t, s, h)
		if err := s.Restart(t.Context(), rec, StopOptions{}); err != nil {
			t.Fatal(err)
		}
		again := lookup(t, s, rec.ID)
		if again.State.Status != Running || again.State.Pid == rec.State.Pid || again.Name != rec.Name {
			t.Errorf("%+v", again.State)
		}
		if err := s.Stop(t.Context(), again, StopOptions{Timeout: new(int)}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Lookup(t.Context(), rec.ID); errors.Is(err, errdef.ErrNotFound) != h.AutoRemove {
			t.Error("after the end:", err)
		}
	}
}

// TestRestartCutShort: a container that removes itself does not stay when its restart is killed after the stop.
func TestRestartCutShort(t *testing.T) {
	s := testStore(t)
	rec, err := s.Create(t.Context(), CreateOptions{Name: "short", Config: Config{Cmd: []string{"true"}}, Host: HostConfig{AutoRemove: true}})
	if err != nil {
		t.Fatal(err)
	}
	s.opt.Runtime = liveStore(t).opt.Runtime
	if rec = lookup(t, s, rec.ID); rec.State.Status != Created {
		t.Fatalf("%+v", rec.State)
	}
	rec.State.Status = Exited
	if err := s.put(rec); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Lookup(t.Context(), "short"); !errors.Is(err, errdef.ErrNotFound) {
		t.Error(err)
	}
}

// TestUpdateRunning sets limits on a running container and on one that is not started yet.
func TestUpdateRunning(t *testing.T) {
	s := liveStore(t)
	limit := int64(50)
	r := Resources{PidsLimit: &limit}
	if err := s.enforceable(r); err != nil {
		t.Skip(err)
	}
	rec := make1(t, s, sh("sleep 1000"), HostConfig{})
	if err := s.Update(t.Context(), rec, Change{Resources: r}); err != nil {
		t.Fatal(err)
	}
	rec = startDetached(t, s, lookup(t, s, rec.ID))
	more := int64(60)
	if err := s.Update(t.Context(), rec, Change{Resources: Resources{PidsLimit: &more}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Rename(t.Context(), rec, "renamed"); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(t.Context(), lookup(t, s, rec.ID), StopOptions{Timeout: new(int)}); err != nil {
		t.Fatal(err)
	}
	// The shim, which wrote the end, knew neither the name nor the limit.
	if rec = lookup(t, s, "renamed"); rec.Host.Resources.PidsLimit == nil || *rec.Host.Resources.PidsLimit != more {
		t.Errorf("%+v", rec.Host.Resources)
	}
}
