package container

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"strata/internal/atomicfile"
	"strata/internal/errdef"
)

// A container starts and ends also while nothing can be written where its record is: the disk is full, or became read-only. Its state
// is kept in the run directory then, and stands for the record's until the record can be written again.

// keptName is the name, in a run directory, of a state that the disk did not take.
const keptName = "state.json"

func (s *Store) keptFile(id string) string { return filepath.Join(s.RunDir(id), keptName) }

// get reads the container's record, with the state that was kept for it if there is one.
func (s *Store) get(id string) (Record, error) {
	rec, err := s.records.Get(id)
	if err != nil {
		return rec, err
	}
	if st, ok := s.kept(id); ok {
		rec.State = st
	}
	return rec, nil
}

// there is [Store.get] for who was told of the container before: if it has been removed since, docker's words say so.
func (s *Store) there(id string) (Record, error) {
	rec, err := s.get(id)
	if errors.Is(err, errdef.ErrNotFound) {
		err = noSuch(id)
	}
	return rec, err
}

// all is [Store.get] for every container, by id.
func (s *Store) all() (map[string]Record, error) {
	recs, err := s.records.All()
	for id, rec := range recs {
		if st, ok := s.kept(id); ok {
			rec.State = st
			recs[id] = rec
		}
	}
	return recs, err
}

// kept gives the container's state, if the disk did not take it.
func (s *Store) kept(id string) (st State, ok bool) {
	raw, err := os.ReadFile(s.keptFile(id))
	return st, err == nil && json.Unmarshal(raw, &st) == nil
}

// putVolatile publishes the record, its state at least, without waiting for the disk.
func (s *Store) putVolatile(rec Record) error {
	return s.orKeep(rec, s.records.PutVolatile(rec.ID, rec))
}

// orKeep keeps the record's state when err says that the disk took nothing. Without an error the record has been published, and what was kept
// for it goes.
func (s *Store) orKeep(rec Record, err error) error {
	switch {
	case err == nil:
		os.Remove(s.keptFile(rec.ID)) // mostly there is none
	case takesNothing(err):
		raw, merr := json.Marshal(rec.State)
		if merr != nil {
			return merr
		}
		return atomicfile.Write(s.keptFile(rec.ID), raw, 0o600)
	}
	return err
}

// takesNothing reports whether an error is that of a file system on which nothing can be written just now.
func takesNothing(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EROFS)
}

// putState publishes a new state of the container; names, networks and limits changed meanwhile by others are kept. It
// does so also when ctx has ended: nobody else knows the state. merged is called before, with whether the limits were changed; nil: what others
// changed does not matter any more.
func (s *Store) putState(ctx context.Context, rec *Record, merged func(limits bool)) error {
	err := s.records.Locked(context.WithoutCancel(ctx), rec.ID, func() error {
		if limits := s.mergeOthers(rec); merged != nil {
			merged(limits)
		}
		return s.putVolatile(*rec)
	})
	if takesNothing(err) { // not even the lock could be made
		return s.orKeep(*rec, err)
	}
	return err
}

// changeState changes the recorded state of a container by its present one, as long as change wants it.
func (s *Store) changeState(ctx context.Context, id string, change func(st *State) bool) error {
	return s.records.Locked(ctx, id, func() error {
		cur, err := s.get(id)
		if err != nil || !change(&cur.State) {
			return err
		}
		return s.putVolatile(cur)
	})
}

// put publishes the record, durably unless the container removes itself anyway.
func (s *Store) put(rec Record) error {
	write := s.records.Put
	if rec.Host.AutoRemove {
		write = s.records.PutVolatile
	}
	if err := write(rec.ID, rec); err != nil {
		return err
	}
	return s.orKeep(rec, nil)
}

// mergeOthers takes over into rec what others may have changed in the record since it was read: the name, the networks, the restart policy, and the limits.
// It reports whether the limits differ. The caller holds the record's lock.
func (s *Store) mergeOthers(rec *Record) (limits bool) {
	cur, err := s.records.Get(rec.ID)
	if err != nil {
		return false
	}
	limits = !rec.Host.Resources.equal(cur.Host.Resources)
	rec.Name, rec.Host.Resources, rec.Host.Networks = cur.Name, cur.Host.Resources, cur.Host.Networks
	rec.Halted, rec.Host.Restart = cur.Halted, cur.Host.Restart
	return limits
}

// sync flushes the record to the disk, if it is still there.
func (s *Store) sync(id string) {
	f, err := os.Open(s.records.Path() + "/" + id + ".json")
	if err != nil {
		return
	}
	defer f.Close()
	if f.Sync() == nil {
		_ = atomicfile.SyncDir(s.records.Path()) // as far as the disk lets us: the record is published
	}
}
