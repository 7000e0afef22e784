package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/atomicfile"
	"strata/internal/cgroup"
	"strata/internal/errdef"
	"strata/internal/oci"
)

// reconcile gives the record as it truly is. When it tells of a supervisor that is dead, what that one left is finished: its processes
// are killed, the end recorded, a self-removing container removed (errdef.ErrNotFound).
func (s *Store) reconcile(ctx context.Context, rec Record) (Record, error) {
	if !s.abandoned(rec) {
		return rec, nil
	}
	l, err := s.tryLock(ctx, rec.ID)
	if errors.Is(err, errdef.ErrConflict) {
		return s.get(rec.ID) // a supervisor has come, or another process is doing this
	}
	if err != nil {
		return rec, err
	}
	rec, err = s.bringInOrder(ctx, rec.ID)
	v := verdict{Done: err == nil, Code: rec.State.ExitCode, Error: rec.State.Error}
	return rec, errors.Join(err, l.release(v))
}

// abandoned reports whether the container has no supervisor but something that only a supervisor leaves: a living state,
// or a bundle in the run directory; or is one that removes itself, whose restart was not finished.
func (s *Store) abandoned(rec Record) bool {
	return (s.unfinished(rec) || s.overdue(rec)) && !s.held(rec.ID)
}

// unfinished reports whether there is something that only a supervisor leaves, or the record does not tell yet how it ended. To the holder of the lock that is one who is dead.
func (s *Store) unfinished(rec Record) bool {
	if rec.State.Supervised() {
		return true
	}
	if _, ok := s.kept(rec.ID); ok {
		return true
	}
	_, err := os.Stat(s.treeDir(rec.ID))
	return err == nil
}

// overdue reports whether the container should have removed itself.
func (s *Store) overdue(rec Record) bool {
	return rec.Host.AutoRemove && rec.State.Status == Exited && !s.restarting(rec.ID)
}

// bringInOrder is reconcile's work under the lock.
func (s *Store) bringInOrder(ctx context.Context, id string) (Record, error) {
	rec, err := s.get(id)
	if err != nil {
		return rec, err
	}
	alive := rec.State.Supervised()
	if err := s.bury(ctx, &rec); err != nil {
		return rec, err
	}
	if (alive || s.overdue(rec)) && rec.Host.AutoRemove {
		if err := s.destroy(ctx, rec, true); err != nil {
			return rec, err
		}
		return rec, noSuch(id)
	}
	return rec, nil
}

// bury ends what a killed supervisor left and records it. The caller holds the lock.
func (s *Store) bury(ctx context.Context, rec *Record) error {
	st := &rec.State
	if _, ok := s.kept(rec.ID); ok && !st.Supervised() { // it was no killed one
		return s.putState(ctx, rec, nil)
	}
	rebooted := st.Supervised() && st.BootID != "" && st.BootID != bootID()
	if err := errors.Join(s.killFrozen(ctx, *rec), killLeftover(ctx, *st)); err != nil {
		return fmt.Errorf("container %s: left by its supervisor: %w", rec.Name, err)
	}
	if !rebooted {
		// Also for a container whose supervisor died between the start and its record, or while its runtime was at work.
		if err := s.runtime(*rec).Clear(ctx, rec.ID, s.groups(rec.ID)); err != nil {
			return fmt.Errorf("container %s: left by its supervisor: %w", rec.Name, err)
		}
	}
	_, err := s.leaveNetworks(ctx, rec.ID)
	if err := errors.Join(err, s.runtime(*rec).Forget(rec.ID), s.forgetVolatile(rec.ID)); err != nil {
		return err
	}
	if !st.Supervised() {
		return nil
	}
	resting := st.Status == Restarting
	st.Status, st.ExitCode, st.Error = Exited, 128+int(unix.SIGKILL), "supervisor was killed"
	if rebooted {
		st.ExitCode, st.Error = 255, "the machine was restarted"
	}
	st.FinishedAt = time.Now().UTC()
	st.Pid, st.PidStart, st.Supervisor, st.Shim, st.Ports = 0, 0, 0, false, nil
	if err := s.putState(ctx, rec, nil); err != nil {
		return err
	}
	if !resting {
		s.emitDie(*rec)
	}
	s.sync(rec.ID)
	return nil
}

// noteGroups writes down where the runtime makes the container's control groups, for whoever has to clear away after us: that depends
// on which process starts it.
func (s *Store) noteGroups(rec Record) error {
	told := cgroupPath(rec.ID)
	if parent := s.cgroupBelow(rec, told); parent != "" {
		told = parent
	}
	dirs, err := cgroup.Machine().Made(rec.ID, told)
	if err != nil {
		return nil // no groups, or none that can be told
	}
	return os.WriteFile(s.groupsFile(rec.ID), []byte(strings.Join(dirs, "\n")), 0o600)
}

func (s *Store) groupsFile(id string) string { return filepath.Join(s.RunDir(id), "groups") }

// groups are the directories that the container's supervisor noted.
func (s *Store) groups(id string) []string {
	raw, err := os.ReadFile(s.groupsFile(id))
	if err != nil || len(raw) == 0 {
		return nil
	}
	return strings.Split(string(raw), "\n")
}

// sweepRunDirs removes the run directories of containers that are gone, whose last supervisor was killed while it removed them. They have
// nothing in them any more but a lock that nobody holds.
func (s *Store) sweepRunDirs(ctx context.Context, all map[string]Record) error {
	entries, err := os.ReadDir(s.opt.Place.Run)
	if err != nil {
		return err
	}
	there := make(map[string]bool, len(all))
	for id := range all {
		there[ShortID(id)] = true
	}
	for _, e := range entries {
		dir := filepath.Join(s.opt.Place.Run, e.Name())
		if !e.IsDir() || len(e.Name()) != 12 || !oci.IsHex(e.Name()) || there[e.Name()] {
			continue
		}
		if inside, err := os.ReadDir(dir); err != nil || len(inside) > 1 || len(inside) == 1 && inside[0].Name() != "lock" {
			continue
		}
		l, err := atomicfile.TryExclusive(filepath.Join(dir, "lock"))
		if errors.Is(err, errdef.ErrConflict) || errors.Is(err, os.ErrNotExist) {
			continue // it is being made, or removed
		}
		if err != nil {
			return err
		}
		os.Remove(filepath.Join(dir, "lock"))
		os.Remove(dir)
		if err := l.Unlock(); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// forgetVolatile removes the mark by which a volatile overlay forbids to mount over the same directory again. The
// container's data is as good as its page cache, which has not been lost unless the machine restarted.
func (s *Store) forgetVolatile(id string) error {
	return os.RemoveAll(filepath.Join(s.Dir(id), "work"))
}
