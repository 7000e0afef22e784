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
	if err := s.wake(ctx, rec); err != nil && o.Return && s.held(rec.ID) {
		return err
	}
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
	if err := s.send(ctx, rec, sig, true); err != nil {
		return err
	}
	waiting, cancel := ctx, context.CancelFunc(func() {})
	if timeout >= 0 {
		waiting, cancel = context.WithTimeout(ctx, time.Duration(timeout)*time.Second)
	}
	_, err = s.await(waiting, rec.ID)
	cancel()
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		if err := s.send(ctx, rec, unix.SIGKILL, true); err != nil {
			return err
		}
		_, err = s.await(ctx, rec.ID)
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

// begun waits while somebody is just starting the container, or at other work on it, and gives its record after that.
func (s *Store) begun(ctx context.Context, rec Record) (Record, error) {
	for end := time.Now().Add(lockWait); !rec.State.Supervised() && s.held(rec.ID) && time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return rec, ctx.Err()
		case <-time.After(time.Millisecond):
		}
		cur, err := s.get(rec.ID)
		if errors.Is(err, errdef.ErrNotFound) {
			return rec, noSuch(rec.ID)
		}
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
	if rec.State.Status == Restarting {
		return fmt.Errorf("cannot kill container: %s: container %s is restarting, stop ends that: %w", rec.Name, rec.ID, errdef.ErrConflict)
	}
	if !rec.State.Alive() {
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
	if err := s.send(ctx, rec, sig, wake); err != nil || sig != unix.SIGKILL {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, killWait)
	defer cancel()
	if _, err := s.await(waiting, rec.ID); err != nil {
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

// Remove removes the container.
func (s *Store) Remove(ctx context.Context, rec Record, o RemoveOptions) error {
	rec, err := s.begun(ctx, rec)
	if errors.Is(err, errdef.ErrNotFound) && (rec.Host.AutoRemove || o.Force) {
		return nil
	}
	if err != nil {
		return err
	}
	if rec.State.Supervised() {
		if !o.Force {
			err := fmt.Errorf("cannot remove container %q: container is %s: stop the container before removing or force remove: %w",
				"/"+rec.Name, rec.State.Status, errdef.ErrConflict)
			return errdef.WithHint(err, fmt.Sprintf("strata stop %s && strata rm %s   (or: strata rm -f %s)", rec.Name, rec.Name, rec.Name))
		}
		if err := s.halt(ctx, rec); err != nil && !errors.Is(err, errdef.ErrNotFound) {
			return err
		}
		_ = s.wake(ctx, rec) // the record tells it, too
		if err := s.send(ctx, rec, unix.SIGKILL, true); err != nil {
			return err
		}
		if _, err := s.await(ctx, rec.ID); err != nil {
			return err
		}
	}
	l, err := s.lock(ctx, rec.ID)
	if err != nil {
		return err
	}
	err = s.removeLocked(ctx, rec, o)
	return errors.Join(err, l.release(verdict{Done: true, Code: rec.State.ExitCode}))
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
