package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"strata/internal/cgroup"
	"strata/internal/errdef"
	"strata/internal/mount"
	"strata/internal/network"
	"strata/internal/program"
	"strata/internal/runtime"
)

// Streams are a caller's standard streams; nil ones are not connected.
type Streams struct{ In, Out, Err *os.File }

// supervision is one run of one container by the process that holds its lock.
type supervision struct {
	s     *Store
	rec   Record
	lock  *claim
	ports *network.Relay // nil: none are published
	net   nets
	// resolver answers the container's questions for names.
	resolver resolver
	// ran says that the container's process was started, also when it had ended before its record could say so.
	ran bool
	// problem is why the command could not be executed, if that is how it ended.
	problem *program.Problem
	// neverRan: it was the container's own command, not one that a shell in it tried.
	neverRan bool
	// group is the container's control group while it runs, if it has one.
	group *cgroup.Group
	// restarts counts what the restart policy has done.
	restarts int
}

// errStarted: somebody else has just started the container.
var errStarted = fmt.Errorf("it was started meanwhile: %w", errdef.ErrConflict)

// lockToStart takes the container's lock; errStarted when another is quicker.
func (s *Store) lockToStart(ctx context.Context, id string) (*claim, error) {
	for end := time.Now().Add(lockWait); ; time.Sleep(time.Millisecond) {
		l, err := s.tryLock(ctx, id)
		if !errors.Is(err, errdef.ErrConflict) {
			return l, err
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("container %s: %w", ShortID(id), errTaken)
		}
		if rec, err := s.get(id); err == nil && attended(rec.State) {
			return nil, errStarted
		}
	}
}

// attended reports whether a container that somebody holds runs, or is about to run again, under a supervisor that lives.
func attended(st State) bool {
	if st.Status != Restarting && (!st.Alive() || over(st)) {
		return false
	}
	return lives(st.Supervisor)
}

// lives reports whether a process has files open: one that was killed gives up its locks, and then may take long to be gone.
func lives(pid int) bool {
	dir, err := os.Open(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return !errors.Is(err, os.ErrNotExist)
	}
	defer dir.Close()
	_, err = dir.Readdirnames(1)
	return err == nil || errors.Is(err, os.ErrPermission)
}

// supervise takes the container's lock and checks that it may start.
func (s *Store) supervise(ctx context.Context, id string) (*supervision, error) {
	l, err := s.lockToStart(ctx, id)
	if err != nil {
		return nil, err
	}
	rec, err := s.there(id)
	if err == nil && s.unfinished(rec) {
		// We hold the lock, so its supervisor is dead.
		err = s.bury(ctx, &rec)
	}
	if err == nil && rec.State.Status == Dead {
		err = fmt.Errorf("container %s is marked for removal and cannot be started: %w", rec.Name, errdef.ErrConflict)
	}
	if err == nil && rec.Halted {
		rec.Halted = false
		err = s.setHalted(ctx, id, false)
	}
	if err != nil {
		return nil, errors.Join(err, l.release(verdict{}))
	}
	return &supervision{s: s, rec: rec, lock: l}, nil
}

// inMounts runs start in the private mount namespace in which the container's tree and bundle stand.
func (v *supervision) inMounts(ctx context.Context, start func(bundle string) error) error {
	if err := v.s.noteGroups(v.rec); err != nil {
		return engineFailed(err)
	}
	return v.s.opt.Rootfs.Private(func() error {
		n := v.net
		n.resolve = v.resolver.running()
		bundle, err := v.s.prepare(ctx, &v.rec, n)
		if err != nil {
			return engineFailed(err)
		}
		return start(bundle)
	})
}

// engineFailed gives an error of ours the exit class 125, unless it has a class already.
func engineFailed(err error) error {
	var se *runtime.StartError
	if err == nil || errors.As(err, &se) {
		return err
	}
	return &startFailure{runtime.StartError{Exit: 125, Message: err.Error()}, err}
}

// startFailure is a runtime.StartError that keeps the class of its cause.
type startFailure struct {
	runtime.StartError
	cause error
}

func (e *startFailure) Error() string { return e.cause.Error() }

func (e *startFailure) Unwrap() []error { return []error{&e.StartError, e.cause} }

// started records that the container runs.
func (v *supervision) started(ctx context.Context, pid int, shim bool) error {
	v.ran = true
	defer v.s.emitStart(v.rec)
	start, err := startTime(pid)
	if err != nil {
		return fmt.Errorf("container %s: it ended at once: %w", v.rec.Name, err)
	}
	v.rec.State = State{
		Status: Running, Pid: pid, PidStart: start, BootID: bootID(), Supervisor: os.Getpid(), Shim: shim, StartedAt: time.Now().UTC(),
		Ports: v.ports.Bindings(), RestartCount: v.restarts, Health: newHealth(v.rec.Config),
	}
	if shim { // a runtime in the foreground has removed the group when we could ask it
		if g, err := cgroup.Machine().Of(pid, v.rec.ID); err == nil {
			v.group = &g
		}
	}
	// Who changes networks or limits from now on finds it running, and sees to that itself.
	return v.s.putState(ctx, &v.rec, func(limits bool) {
		ctx := context.WithoutCancel(ctx)
		if limits && v.s.apply(ctx, v.rec) != nil {
			v.rec.State.Error = "limits that were changed while it started do not hold"
		}
		if err := v.rejoin(ctx); err != nil {
			v.rec.State.Error = "networks that were changed while it started: " + err.Error()
		}
	})
}

// finish records how the run ended, or removes the container if it asked for that, and gives up the lock. said is called
// then, before the record is flushed to the disk: whoever it tells finds everything done, and does not wait for the disk.
func (v *supervision) finish(ctx context.Context, code int, failure error, said func()) error {
	left := errors.Join(v.tidy(ctx, failure), v.disconnect(ctx))
	st := &v.rec.State
	st.ExitCode, st.Error = code, ""
	if failure != nil {
		var se *runtime.StartError
		st.ExitCode, st.Error = 125, failure.Error()
		if errors.As(failure, &se) {
			st.ExitCode = se.Exit
		}
	} else if v.neverRan {
		st.Error = v.problem.Error()
	}
	if st.Status == Restarting { // its end is told of already
		st.Status, v.ran = Exited, false
	}
	if st.Alive() {
		st.Status, st.FinishedAt = Exited, time.Now().UTC()
	}
	st.Pid, st.PidStart, st.Supervisor, st.Shim, st.Ports = 0, 0, 0, false, nil
	var err error
	remove := v.rec.Host.AutoRemove && !v.s.restarting(v.rec.ID)
	if !remove {
		err = v.s.putState(ctx, &v.rec, nil)
		if v.rec.Host.AutoRemove {
			err = errors.Join(err, v.s.forgetVolatile(v.rec.ID))
		}
	}
	if v.ran {
		v.s.emitDie(v.rec)
	}
	if remove {
		v.s.mergeOthers(&v.rec)
		err = v.s.destroy(ctx, v.rec, true)
	}
	err = errors.Join(err, left, v.lock.release(verdict{Done: true, Code: st.ExitCode, Error: st.Error}))
	if said != nil {
		said()
	}
	if !remove {
		v.s.sync(v.rec.ID)
	}
	return err
}

// tidy ends what a runtime that was killed has left of this run. Where nothing went wrong there is nothing.
func (v *supervision) tidy(ctx context.Context, failure error) error {
	r := v.s.runtime(v.rec)
	if failure == nil && !r.Known(v.rec.ID) {
		return r.Forget(v.rec.ID)
	}
	return r.Clear(context.WithoutCancel(ctx), v.rec.ID, v.s.groups(v.rec.ID))
}

// runHere supervises the container in this process until it ends: for one in the foreground that removes itself and
// needs neither a terminal, nor input, nor a log.
func (s *Store) runHere(ctx context.Context, id string, o StartOptions) (Result, error) {
	v, err := s.supervise(ctx, id)
	if err != nil {
		return Result{}, engineFailed(err)
	}
	if o.SigProxy {
		ctx = context.WithoutCancel(ctx) // the signal that ends ctx goes to the container, which ends as it likes
	}
	var code int
	var proxy *signalProxy
	if o.SigProxy {
		proxy = catchSignals()
		defer proxy.stop()
	}
	wires, err := foreignProof(o.Streams, v.rec.Host.Access.IDs)
	if err == nil {
		err = v.open(ctx, nil)
	}
	if err == nil {
		err = v.inMounts(ctx, func(bundle string) (err error) {
			code, err = s.runtime(v.rec).Run(ctx, id, bundle, wires.stdio, func(pid int) {
				wires.begin()
				if v.started(ctx, pid, false) == nil && proxy != nil {
					proxy.forward(func(sig os.Signal) { s.proxied(v.rec, sig) })
				}
			})
			code = v.explained(code, runtime.Examine(bundle, code, err))
			// The namespace goes some time after this thread, and who removes the directories below a tree that is just going spins until it
			// has gone. A tree that is no mount is none here.
			_ = mount.Unmount(v.s.treeDir(id))
			return err
		})
		wires.end(err)
	}
	if v.rec.State.Status != Running {
		v.rec.State.StartedAt = time.Time{}
	}
	if e := v.finish(ctx, code, err, nil); e != nil && err == nil {
		err = e
	}
	if err != nil {
		return Result{}, engineFailed(err)
	}
	return Result{Code: code, Problem: v.problem}, nil
}
