package container

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/oci"
	"strata/internal/runtime"
)

// Health is what a container's health check found, in docker's words.
type Health struct {
	Status        string // starting, healthy or unhealthy
	FailingStreak int
	Log           []HealthResult `json:",omitempty"` // the last five
}

// HealthResult is one run of a health check.
type HealthResult struct {
	Start, End time.Time
	ExitCode   int // -1: it took too long, or could not be run
	Output     string
}

const (
	healthResults = 5
	healthOutput  = 4096
)

// checked reports whether a container has a health check.
func checked(h *oci.Healthcheck) bool {
	return h != nil && len(h.Test) > 0 && h.Test[0] != "NONE"
}

// newHealth is what is known at the start.
func newHealth(c Config) *Health {
	if !checked(c.Healthcheck) {
		return nil
	}
	return &Health{Status: "starting"}
}

// withHealthDefaults fills in docker's defaults.
func withHealthDefaults(h oci.Healthcheck) oci.Healthcheck {
	for _, d := range []struct {
		value *time.Duration
		by    time.Duration
	}{{&h.Interval, 30 * time.Second}, {&h.Timeout, 30 * time.Second}, {&h.StartInterval, 5 * time.Second}} {
		if *d.value == 0 {
			*d.value = d.by
		}
	}
	if h.Retries == 0 {
		h.Retries = 3
	}
	return h
}

// healthCommand is what a check runs.
func healthCommand(h oci.Healthcheck, shell []string) []string {
	if h.Test[0] == "CMD-SHELL" {
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		return append(append([]string{}, shell...), h.Test[1:]...)
	}
	return h.Test[1:]
}

// judge adds a result to what is known. early says that failures do not count yet. It gives the new state.
func (h Health) judge(r HealthResult, check oci.Healthcheck, early bool) Health {
	h.Log = append(append([]HealthResult{}, h.Log...), r)
	h.Log = h.Log[max(0, len(h.Log)-healthResults):]
	switch {
	case r.ExitCode == 0:
		h.Status, h.FailingStreak = "healthy", 0
	case h.Status == "starting" && early:
	default:
		if h.FailingStreak++; h.FailingStreak >= check.Retries {
			h.Status = "unhealthy"
		}
	}
	return h
}

// watchHealth runs the health check of the container whose first process is pid for as long as it runs; end stops it and waits for it.
func (v *supervision) watchHealth(ctx context.Context, pid int) (end func()) {
	if !checked(v.rec.Config.Healthcheck) {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	w := healthWatch{s: v.s, rec: v.rec, pid: pid, check: withHealthDefaults(*v.rec.Config.Healthcheck), health: *v.rec.State.Health}
	wg.Go(func() { w.run(ctx) })
	return func() {
		cancel()
		wg.Wait()
		v.rec.State.Health = &w.health
	}
}

// healthWatch checks one container.
type healthWatch struct {
	s      *Store
	rec    Record
	pid    int // the container's first process
	check  oci.Healthcheck
	health Health
	// orphans: a runtime failed, and may have left processes in the container.
	orphans bool
}

// orphanLook is how long a process that such a runtime left may keep the container from ending.
const orphanLook = time.Second

// early reports whether the container still has time to get ready.
func (w *healthWatch) early() bool { return time.Since(w.rec.State.StartedAt) < w.check.StartPeriod }

func (w *healthWatch) run(ctx context.Context) {
	next := time.Now().Add(w.pause())
	for {
		wait := time.Until(next)
		if w.orphans {
			wait = min(wait, orphanLook)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		if w.orphans {
			living, err := runtime.Orphans(w.pid)
			w.orphans = living > 0 && err == nil
		}
		if time.Now().Before(next) {
			continue
		}
		next = time.Now().Add(w.pause())
		cur, err := w.s.get(w.rec.ID)
		if err != nil || cur.State.Status != Running {
			continue // paused: what stands still cannot answer
		}
		result := w.probe(ctx)
		if ctx.Err() != nil {
			return // the container has ended meanwhile: that is not the check's failure
		}
		w.note(ctx, result)
		next = time.Now().Add(w.pause())
	}
}

// pause is the time between two checks.
func (w *healthWatch) pause() time.Duration {
	if w.health.Status == "starting" && w.early() {
		return w.check.StartInterval
	}
	return w.check.Interval
}

// note records a result, and tells of a change.
func (w *healthWatch) note(ctx context.Context, r HealthResult) {
	before := w.health.Status
	w.health = w.health.judge(r, w.check, w.early())
	// What cannot be recorded now is so after the next check.
	_ = w.s.changeState(ctx, w.rec.ID, func(st *State) bool {
		health := w.health
		st.Health = &health
		return st.Alive()
	})
	if w.health.Status != before {
		w.s.Emit(w.rec, "health_status: "+w.health.Status)
	}
}

// probe runs the check once.
func (w *healthWatch) probe(ctx context.Context) HealthResult {
	r := HealthResult{Start: time.Now().UTC()}
	timed, cancel := context.WithTimeout(ctx, w.check.Timeout)
	defer cancel()
	var err error
	if r.ExitCode, r.Output, err = w.s.probe(timed, w.rec, healthCommand(w.check, w.rec.Config.Shell)); err != nil {
		r.ExitCode, w.orphans = -1, true
		r.Output += err.Error()
		if timed.Err() != nil {
			r.Output = fmt.Sprintf("Health check exceeded timeout (%v)", w.check.Timeout)
		}
	}
	r.End = time.Now().UTC()
	return r
}

// probe runs a command in the container and gives what it wrote, as much as is kept. It is killed when ctx ends.
func (s *Store) probe(ctx context.Context, rec Record, args []string) (code int, output string, err error) {
	p, root, err := s.execProcess(rec, ExecOptions{Args: args})
	if err != nil {
		return 0, "", err
	}
	root.Close()
	r, w, err := rec.Host.Access.IDs.pipe()
	if err != nil {
		return 0, "", err
	}
	defer r.Close()
	// Not cut short: of a runtime that is killed half way a process would be left that nobody knows.
	pid, _, err := s.runtime(rec).Exec(context.WithoutCancel(ctx), rec.ID, s.bundleDir(rec.ID), *p, runtime.Stdio{Out: w, Err: w})
	w.Close()
	if err != nil {
		return 0, "", err
	}
	var b bytes.Buffer
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(&b, io.LimitReader(r, healthOutput))
		_, _ = io.Copy(io.Discard, r) // the command is not to be stopped by what nobody keeps
	}()
	code, err = runtime.Wait(ctx, pid)
	if err != nil && ctx.Err() != nil {
		_ = unix.Kill(pid, unix.SIGKILL) // it is our child, not yet waited for: the pid is its own
		_, _ = runtime.Wait(context.WithoutCancel(ctx), pid)
	}
	// What the command left behind may hold the pipe open.
	_ = r.SetReadDeadline(time.Now().Add(terminalDrain))
	<-read
	_ = r.SetReadDeadline(time.Time{})
	for left := make([]byte, healthOutput); unread(r) && b.Len() < healthOutput; { // on a busy machine the time may be over before anything was read
		n, _ := r.Read(left[b.Len():])
		b.Write(left[b.Len():][:n])
	}
	return code, b.String(), err
}

// mergeHealth fills what the user left open of the check with the image's.
func mergeHealth(own, img *oci.Healthcheck) *oci.Healthcheck {
	if own == nil || img == nil {
		return cmp.Or(own, img)
	}
	all := *own
	if len(all.Test) == 0 {
		all.Test = img.Test
	}
	all.Interval, all.Timeout = cmp.Or(all.Interval, img.Interval), cmp.Or(all.Timeout, img.Timeout)
	all.StartPeriod, all.StartInterval = cmp.Or(all.StartPeriod, img.StartPeriod), cmp.Or(all.StartInterval, img.StartInterval)
	all.Retries = cmp.Or(all.Retries, img.Retries)
	return &all
}

// checkHealth holds docker's rules of what is a sensible check. An image's is foreign, and held to them, too.
func checkHealth(h *oci.Healthcheck) error {
	if h == nil {
		return nil
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"Interval", h.Interval}, {"Timeout", h.Timeout}, {"StartPeriod", h.StartPeriod}, {"StartInterval", h.StartInterval}} {
		if d.value != 0 && d.value < time.Millisecond {
			return fmt.Errorf("%s in Healthcheck cannot be less than %s: %w", d.name, time.Millisecond, errdef.ErrInvalid)
		}
	}
	switch {
	case h.Retries < 0:
		return fmt.Errorf("retries of a health check cannot be negative: %w", errdef.ErrInvalid)
	case len(h.Test) == 0 || h.Test[0] == "NONE" || h.Test[0] == "CMD" && len(h.Test) > 1 || h.Test[0] == "CMD-SHELL" && len(h.Test) == 2:
		return nil
	}
	return fmt.Errorf("unknown type %q in healthcheck: %w", h.Test[0], errdef.ErrInvalid)
}
