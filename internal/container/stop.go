package container

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

const defaultStopTimeout = 10

// StopOptions says how to stop a container. The zero value is the container's own stop signal and timeout.
type StopOptions struct {
	Signal string
	// Timeout in seconds before it is killed; nil is the container's own, negative never kills.
	Timeout *int
	// Return leaves the restart policy as it is: the container comes back with the machine.
	Return bool
}

// Stop asks the container to end and kills it when it does not. It returns when the container's end is recorded. A container
// that does not run is no error.
func (s *Store) Stop(ctx context.Context, rec Record, o StopOptions) error {
	rec, err := s.begun(ctx, rec)
	if err != nil {
		return err
	}
	if !rec.State.Supervised() {
		return nil
	}
	if !o.Return {
		if err := s.halt(ctx, rec); err != nil && !errors.Is(err, errdef.ErrNotFound) && !takesNothing(err) {
			return err
		}
	}
	_ = s.wake(ctx, rec) // who does not hear it is asked again
	sig, err := ParseSignal(first(o.Signal, rec.Config.StopSignal, "SIGTERM"))
	if err != nil {
		return err
	}
	timeout := defaultStopTimeout
	if rec.Config.StopTimeout != nil {
		timeout = *rec.Config.StopTimeout
	}
	if o.Timeout != nil {
		timeout = *o.Timeout
	}
	waiting, cancel := ctx, context.CancelFunc(func() {})
	if timeout >= 0 {
		waiting, cancel = context.WithTimeout(ctx, time.Duration(timeout)*time.Second)
	}
	err = s.end(waiting, rec, sig)
	cancel()
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		err = s.end(ctx, rec, unix.SIGKILL)
	}
	if err != nil {
		return err
	}
	if err := s.settle(ctx, rec.ID); err != nil {
		return err
	}
	s.Emit(rec, "stop")
	return nil
}

// runLook is how often a container that is to end is looked at, whether its restart policy has started it once more.
const runLook = 50 * time.Millisecond

// end sends the container sig, and waits until it has no supervisor. One with a restart policy may be about to start it again, having
// looked before it was asked to stop: it is asked again then, and that run gets the signal, too.
func (s *Store) end(ctx context.Context, rec Record, sig unix.Signal) error {
	sending := context.WithoutCancel(ctx) // a timeout of nothing is one signal all the same
	if cur, err := s.get(rec.ID); err == nil {
		rec = cur
	}
	if err := s.send(sending, rec, sig, true); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() {
		_, err := s.await(ctx, rec.ID)
		ended <- err
	}()
	if rec.Host.Restart.none() {
		return <-ended
	}
	look := time.NewTicker(runLook)
	defer look.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-look.C:
		}
		cur, err := s.get(rec.ID)
		if err != nil || !cur.State.Supervised() || cur.State.Status == rec.State.Status && cur.State.RestartCount == rec.State.RestartCount {
			continue // when it is over the lock tells
		}
		rec = cur
		_ = s.wake(sending, rec) // one that changes just now is asked again
		if err := s.send(sending, rec, sig, true); err != nil {
			return err
		}
	}
}

// begun waits while somebody is just starting the container, or at other work on it, and gives its record after that.
func (s *Store) begun(ctx context.Context, rec Record) (Record, error) {
	return s.outlast(ctx, rec, func(rec Record) bool { return !rec.State.Supervised() && s.held(rec.ID) })
}

// outlast gives the container's record when it is no more as passing says, or has been so for too long.
func (s *Store) outlast(ctx context.Context, rec Record, passing func(rec Record) bool) (Record, error) {
	for end := time.Now().Add(lockWait); passing(rec) && time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return rec, ctx.Err()
		case <-time.After(time.Millisecond):
		}
		cur, err := s.there(rec.ID)
		if err != nil {
			return rec, err
		}
		rec = cur
	}
	return rec, nil
}

// settle makes sure that the record of a container whose lock is free tells the truth.
func (s *Store) settle(ctx context.Context, id string) error {
	cur, err := s.get(id)
	if err == nil {
		_, err = s.reconcile(ctx, cur)
	}
	if errors.Is(err, errdef.ErrNotFound) {
		return nil
	}
	return err
}

// killWait is how long a killed container may take to end: docker's. A process that the kernel holds may take for ever.
const killWait = 10 * time.Second

// Kill sends sig to the container's first process. After SIGKILL it waits until the container's end is recorded, so that the next
// command finds it ended; what another signal does is the process's own affair.
func (s *Store) Kill(ctx context.Context, rec Record, sig unix.Signal) error {
	rec, err := s.begun(ctx, rec)
	if err != nil {
		return err
	}
	if !rec.State.Supervised() {
		return fmt.Errorf("cannot kill container: %s: container %s is not running: %w", rec.Name, rec.ID, errdef.ErrConflict)
	}
	// Docker's rule: a signal that may end the container does not wait until somebody unpauses it.
	wake := sig == unix.SIGKILL || rec.Config.StopSignal == ""
	if own, err := ParseSignal(rec.Config.StopSignal); err == nil && own == sig {
		wake = true
	}
	if wake {
		if err := s.halt(ctx, rec); err != nil {
			return err
		}
	}
	if rec.State.Status == Restarting && wake {
		_ = s.wake(ctx, rec) // the record tells it, too
	}
	if sig != unix.SIGKILL {
		return s.send(ctx, rec, sig, wake)
	}
	waiting, cancel := context.WithTimeout(ctx, killWait)
	defer cancel()
	if err := s.end(waiting, rec, sig); err != nil {
		return fmt.Errorf("container %s was killed and has not ended yet: %w", rec.Name, err)
	}
	return s.settle(ctx, rec.ID)
}

// send signals the first process. One that has ended meanwhile is no error. wake thaws a paused container, which would not
// notice the signal.
func (s *Store) send(ctx context.Context, rec Record, sig unix.Signal, wake bool) error {
	err := signalProcess(rec.State, sig)
	if err != nil && !errors.Is(err, errdef.ErrNotFound) {
		return fmt.Errorf("container %s: signal %d: %w", rec.Name, sig, err)
	}
	if err == nil {
		s.emitKill(rec, sig)
	}
	if wake {
		return s.thaw(ctx, rec)
	}
	return nil
}

// Wait blocks until the container does not run and returns its exit code, of a created one 0 at once. It waits on the
// supervisor's lock, which also tells when the supervisor is killed.
func (s *Store) Wait(ctx context.Context, rec Record) (int, error) {
	if !rec.State.Supervised() {
		return rec.State.ExitCode, nil
	}
	if !rec.Host.Restart.none() && rec.State.Alive() && rec.State.Shim {
		return s.awaitRun(ctx, rec)
	}
	return s.awaitEnd(ctx, rec)
}

// awaitEnd waits until the container has no supervisor any more.
func (s *Store) awaitEnd(ctx context.Context, rec Record) (int, error) {
	v, err := s.await(ctx, rec.ID)
	if err != nil {
		return 0, err
	}
	if v.Done {
		return v.Code, nil
	}
	cur, err := s.get(rec.ID)
	if err == nil {
		cur, err = s.reconcile(ctx, cur)
	}
	if errors.Is(err, errdef.ErrNotFound) {
		return 0, noSuch(rec.ID)
	}
	return cur.State.ExitCode, err
}

// awaitRun waits for the end of the present run of a container that may be started again: as one who is attached to none of
// its streams.
func (s *Store) awaitRun(ctx context.Context, rec Record) (int, error) {
	conn, err := s.call(ctx, rec.ID, request{Op: "attach"})
	if err != nil { // the shim opens to nobody any more: the last run is over, and it is clearing away
		return s.awaitEnd(ctx, rec)
	}
	res, err := s.attend(ctx, rec, conn, Streams{}, nil)
	return res.Code, err
}

// RemoveOptions says how to remove a container.
type RemoveOptions struct {
	Force   bool // kill it first
	Volumes bool // and remove its anonymous volumes
}

// Remove removes the container. One that somebody starts while it is being removed by force is killed once more.
func (s *Store) Remove(ctx context.Context, rec Record, o RemoveOptions) error {
	for end := time.Now().Add(lockWait); ; time.Sleep(time.Millisecond) {
		l, err := s.freed(ctx, rec, o.Force)
		if errors.Is(err, errTaken) && time.Now().Before(end) {
			continue
		}
		if errors.Is(err, errdef.ErrNotFound) && (rec.Host.AutoRemove || o.Force) {
			return nil
		}
		if err != nil {
			return err
		}
		err = s.removeLocked(ctx, rec, o)
		return errors.Join(err, l.release(verdict{Done: true, Code: rec.State.ExitCode}))
	}
}

// freed takes the lock of a container that does not run; with force it is killed if it does.
func (s *Store) freed(ctx context.Context, rec Record, force bool) (*claim, error) {
	cur, err := s.there(rec.ID)
	if err == nil {
		rec, err = s.begun(ctx, cur)
	}
	if err != nil {
		return nil, err
	}
	if rec.State.Supervised() {
		if !force {
			err := fmt.Errorf("cannot remove container %q: container is %s: stop the container before removing or force remove: %w",
				"/"+rec.Name, rec.State.Status, errdef.ErrConflict)
			return nil, errdef.WithHint(err, fmt.Sprintf("strata stop %s && strata rm %s   (or: strata rm -f %s)", rec.Name, rec.Name, rec.Name))
		}
		if err := s.halt(ctx, rec); err != nil && !errors.Is(err, errdef.ErrNotFound) {
			return nil, err
		}
		_ = s.wake(ctx, rec) // the record tells it, too
		if err := s.end(ctx, rec, unix.SIGKILL); err != nil {
			return nil, err
		}
	}
	l, err := s.tryLock(ctx, rec.ID)
	if errors.Is(err, errdef.ErrConflict) {
		err = fmt.Errorf("container %s: %w", ShortID(rec.ID), errTaken)
	}
	return l, err
}

func (s *Store) removeLocked(ctx context.Context, rec Record, o RemoveOptions) error {
	cur, err := s.get(rec.ID)
	if errors.Is(err, errdef.ErrNotFound) {
		if rec.Host.AutoRemove || o.Force {
			return nil
		}
		return noSuch(rec.ID)
	}
	if err != nil {
		return err
	}
	if s.unfinished(cur) {
		if err := s.bury(ctx, &cur); err != nil {
			return err
		}
	}
	return s.destroy(ctx, cur, o.Volumes)
}
