package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"strata/internal/errdef"
)

// RestartPolicy says when a container that ended is started again.
type RestartPolicy struct {
	// Name is "no" (also when empty), "on-failure", "always" or "unless-stopped".
	Name string `json:",omitempty"`
	// MaxRetries bounds the restarts of on-failure; 0 is no bound.
	MaxRetries int `json:",omitempty"`
}

// ParseRestart reads docker's --restart: "no", "always", "unless-stopped", "on-failure[:N]".
func ParseRestart(s string) (RestartPolicy, error) {
	name, count, counted := strings.Cut(s, ":")
	p := RestartPolicy{Name: name}
	switch name {
	case "", "no", "always", "unless-stopped":
		if counted {
			return p, fmt.Errorf("invalid restart policy: maximum retry count can only be used with 'on-failure': %w", errdef.ErrInvalid)
		}
	case "on-failure":
		n, err := strconv.Atoi(count)
		if counted && (err != nil || n < 0) {
			return p, fmt.Errorf("invalid restart policy format: maximum retry count must be an integer, not negative: %w", errdef.ErrInvalid)
		}
		p.MaxRetries = n
	default:
		return p, fmt.Errorf("invalid restart policy: unknown policy '%s'; use one of 'no', 'always', 'on-failure', or 'unless-stopped': %w", name, errdef.ErrInvalid)
	}
	return p, nil
}

// none reports whether the container is never started again by itself.
func (p RestartPolicy) none() bool { return p.Name == "" || p.Name == "no" }

// wants reports whether a container that ended with code, having been started again so many times, is started again.
func (p RestartPolicy) wants(code, restarts int) bool {
	switch p.Name {
	case "always", "unless-stopped":
		return true
	case "on-failure":
		return code != 0 && (p.MaxRetries == 0 || restarts < p.MaxRetries)
	}
	return false
}

const (
	firstPause = 100 * time.Millisecond
	mostPause  = time.Minute
	// steady is how long a run lasts after which the pauses begin anew.
	steady = 10 * time.Second
)

// attend runs the container, again and again as its restart policy has it, to the end.
func (v *supervision) attend(ctx context.Context, c *control, told func(error)) error {
	for pause := firstPause; ; pause = min(2*pause, mostPause) {
		began := time.Now()
		code, failure := v.serve(ctx, c, told)
		if time.Since(began) >= steady {
			pause = firstPause
		}
		if !v.again(c, code, failure) {
			return v.finish(ctx, code, failure, func() { c.end(code, failure, v, told) })
		}
		next, err := v.rest(ctx, c, code, failure, pause)
		if err != nil || next == nil {
			return v.finish(ctx, code, err, nil)
		}
		c = next
		v.problem, v.neverRan, v.group = nil, false, nil
	}
}

// end tells those who are attached how it ended, or the starter why it did not begin.
func (c *control) end(code int, failure error, v *supervision, told func(error)) {
	if failure != nil {
		told(failure)
	}
	c.hub.exit(code, v.problem)
}

// again reports whether the container is to be started again. One that could not be started at all is not.
func (v *supervision) again(c *control, code int, failure error) bool {
	select {
	case <-c.halted:
		return false
	default:
	}
	cur, err := v.s.get(v.rec.ID)
	if err != nil || cur.Halted || !v.ran {
		return false
	}
	if failure != nil {
		code = 125
	}
	return cur.Host.Restart.wants(code, v.restarts)
}

// rest records that the container is to be started again, and waits. It gives the control of the next run, nil when somebody
// asked the container to stop meanwhile.
func (v *supervision) rest(ctx context.Context, c *control, code int, failure error, pause time.Duration) (*control, error) {
	if err := v.disconnect(ctx); err != nil {
		return nil, err
	}
	v.restarts++
	st := &v.rec.State
	st.Status, st.ExitCode, st.FinishedAt, st.RestartCount = Restarting, code, time.Now().UTC(), v.restarts
	if failure != nil {
		st.ExitCode, st.Error = 125, failure.Error()
	}
	st.Pid, st.PidStart, st.Supervisor, st.Shim, st.Ports, st.Health = 0, 0, os.Getpid(), true, nil, nil
	next := newControl(v.rec, c.resolve)
	l, err := v.s.listen(v.rec.ID) // before the record says so: who then asks us to halt is heard
	if err != nil {
		return nil, err
	}
	defer l.Close()
	go next.serve(l)
	if err := v.s.putState(ctx, &v.rec, nil); err != nil {
		return nil, err
	}
	v.s.emitDie(v.rec)
	c.hub.exit(code, v.problem)
	if cur, err := v.s.get(v.rec.ID); err != nil || cur.Halted {
		return nil, err
	}
	select {
	case <-next.halted:
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(pause):
	}
	cur, err := v.s.get(v.rec.ID)
	if err != nil || cur.Halted {
		return nil, err
	}
	v.s.mergeOthers(&v.rec) // the next run has the name, the networks and the limits of now
	return next, nil
}

// halt notes that somebody asked the container to stop: its restart policy rests until it is started again.
func (s *Store) halt(ctx context.Context, rec Record) error {
	if rec.Host.Restart.none() {
		return nil
	}
	return s.setHalted(ctx, rec.ID, true)
}

func (s *Store) setHalted(ctx context.Context, id string, halted bool) error {
	return s.records.Locked(ctx, id, func() error {
		cur, err := s.get(id)
		if err != nil || cur.Halted == halted {
			return err
		}
		cur.Halted = halted
		return s.put(cur)
	})
}

// wake tells a shim that the run that ends next is the last, and ends its pause between two. One that is just changing from the one to
// the other, or is gone, does not hear it.
func (s *Store) wake(ctx context.Context, rec Record) error {
	if rec.Host.Restart.none() {
		return nil
	}
	conn, err := s.call(ctx, rec.ID, request{Op: "halt"})
	if err == nil {
		err = conn.Close()
	}
	return err
}

// Due lists the containers that are to run after the machine's start: those whose policy says so.
func (s *Store) Due(ctx context.Context) ([]Record, error) {
	all, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	var due []Record
	for _, rec := range all {
		p := rec.Host.Restart
		ranBefore := rec.State.Status == Exited && !rec.State.StartedAt.IsZero()
		switch {
		case rec.State.Supervised():
		case p.Name == "always" && ranBefore,
			p.Name == "unless-stopped" && ranBefore && !rec.Halted,
			p.Name == "on-failure" && ranBefore && !rec.Halted && p.wants(rec.State.ExitCode, rec.State.RestartCount):
			due = append(due, rec)
		}
	}
	return due, nil
}

// StopAll stops every container at once, as the machine's end does; restart policies stay as they are.
func (s *Store) StopAll(ctx context.Context) (stopped []Record, err error) {
	all, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(rec Record) bool { return !rec.State.Supervised() })
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, rec := range all {
		wg.Go(func() { errs[i] = s.Stop(ctx, rec, StopOptions{Return: true}) })
	}
	wg.Wait()
	return all, errors.Join(errs...)
}
