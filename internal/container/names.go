package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"strata/internal/atomicfile"
	"strata/internal/errdef"
)

// names reserves container names: one file a name, holding the id of the container that has it. A file appears whole by
// link(2), so that of two processes one wins.
type names struct {
	dir string
	// owns reports whether container id exists, or is being made, and has the name.
	owns func(id, name string) (bool, error)
}

// ValidName checks a name against docker's pattern, [a-zA-Z0-9][a-zA-Z0-9_.-]+.
func ValidName(name string) error {
	bad := len(name) < 2 || len(name) > 128
	for i := 0; i < len(name) && !bad; i++ {
		c := name[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		bad = !alnum && (i == 0 || c != '_' && c != '.' && c != '-')
	}
	if bad {
		return fmt.Errorf("container name %.140q: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed, 2 to 128 characters: %w", name, errdef.ErrInvalid)
	}
	return nil
}

// NameTaken is the error about a name that another container has.
type NameTaken struct {
	Name, ID string
	// Running: that container is up.
	Running bool
}

// Error says it in docker's words.
func (e *NameTaken) Error() string {
	return fmt.Sprintf("Conflict. The container name %q is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name.",
		"/"+e.Name, e.ID)
}

// Unwrap gives the class.
func (e *NameTaken) Unwrap() error { return errdef.ErrConflict }

// locked runs fn while nobody else gives or takes names. A name that is reserved and not yet in its container's record
// is taken from it by whoever asks for it next: until the record is published the lock must be held, or the container's.
func (n *names) locked(ctx context.Context, fn func() error) error {
	l, err := atomicfile.LockExclusive(ctx, filepath.Join(n.dir, ".lock"))
	if err != nil {
		return fmt.Errorf("container names: %w", err)
	}
	defer l.Unlock()
	return fn()
}

// reserve gives name to the container id, or errdef.ErrConflict when another container has it. The caller holds the lock.
func (n *names) reserve(name, id string) error {
	for range 10 {
		holder, err := n.try(name, id)
		if err != nil || holder == "" {
			return err
		}
		owned, err := n.owns(holder, name)
		if err != nil {
			return err
		}
		if owned {
			return &NameTaken{Name: name, ID: holder}
		}
		if err := n.release(name, holder); err != nil {
			return err
		}
	}
	return fmt.Errorf("container name %q: others keep taking it: %w", name, errdef.ErrConflict)
}

// try links a file with id to name; when there is one already it returns the id that is in it.
func (n *names) try(name, id string) (holder string, err error) {
	tmp := filepath.Join(n.dir, ".tmp-"+id)
	if err := os.WriteFile(tmp, []byte(id), 0o600); err != nil {
		return "", err
	}
	defer os.Remove(tmp)
	path := filepath.Join(n.dir, name)
	for range 10 {
		err = os.Link(tmp, path)
		if !errors.Is(err, fs.ErrExist) {
			return "", err
		}
		holder, err = n.holder(name)
		if !errors.Is(err, errdef.ErrNotFound) {
			return holder, err
		}
	}
	return "", err
}

// holder is the id in the reservation of name.
func (n *names) holder(name string) (string, error) {
	raw, err := os.ReadFile(filepath.Join(n.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("container name %q: %w", name, errdef.ErrNotFound)
	}
	return strings.TrimSpace(string(raw)), err
}

// release removes the reservation of name if it is id's; the caller holds the lock. It is taken aside first: between reading and removing another
// process may have given the name away, and then it is put back.
func (n *names) release(name, id string) error {
	path := filepath.Join(n.dir, name)
	aside := filepath.Join(n.dir, ".gone-"+id)
	if err := os.Rename(path, aside); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	defer os.Remove(aside)
	raw, err := os.ReadFile(aside)
	if err == nil && strings.TrimSpace(string(raw)) != id {
		return os.Link(aside, path)
	}
	return nil
}

// random reserves a made-up name for id and returns it.
func (n *names) random(id string) (string, error) {
	for i := range 50 {
		name := adjectives[rand.IntN(len(adjectives))] + "_" + surnames[rand.IntN(len(surnames))]
		if i > 5 {
			name = fmt.Sprintf("%s%d", name, rand.IntN(10_000))
		}
		err := n.reserve(name, id)
		if err == nil || !errors.Is(err, errdef.ErrConflict) {
			return name, err
		}
	}
	return "", fmt.Errorf("container name: no free random name found: %w", errdef.ErrConflict)
}

// named reports for names.owns: a container whose record is not there yet is being made while its lock is held.
func (s *Store) named(id, name string) (bool, error) {
	return s.holds(id, func(rec Record) bool { return rec.Name == name })
}

// holds reports whether has holds for the record of container id, or may: it is being made.
func (s *Store) holds(id string, has func(Record) bool) (bool, error) {
	if !validID(id) {
		return false, nil
	}
	rec, err := s.get(id)
	if errors.Is(err, errdef.ErrNotFound) {
		if s.held(id) {
			return true, nil
		}
		rec, err = s.get(id) // it may have been finished between the two looks
	}
	if errors.Is(err, errdef.ErrNotFound) {
		return false, nil
	}
	return err == nil && has(rec), err
}

// Rename gives the container another name; its host name stays.
func (s *Store) Rename(ctx context.Context, rec Record, name string) error {
	name = strings.TrimPrefix(name, "/")
	if name == "" {
		return fmt.Errorf("neither old nor new names may be empty: %w", errdef.ErrInvalid)
	}
	if err := ValidName(name); err != nil {
		return fmt.Errorf("error when allocating new name: %w", err)
	}
	old := rec.Name
	err := s.names.locked(ctx, func() error {
		err := s.records.Locked(ctx, rec.ID, func() error {
			cur, err := s.there(rec.ID)
			if err != nil {
				return err
			}
			if name == cur.Name {
				return fmt.Errorf("renaming a container with the same name as its current name: %q: %w", name, errdef.ErrInvalid)
			}
			if err := s.names.reserve(name, rec.ID); err != nil {
				return fmt.Errorf("error when allocating new name: %w", err)
			}
			old, cur.Name = cur.Name, name
			if err := s.put(cur); err != nil || !cur.State.Alive() {
				return err // who is just starting it notices when it runs
			}
			return s.opt.Networks.Rename(rec.ID, name)
		})
		if err != nil {
			return err
		}
		return s.names.release(old, rec.ID)
	})
	if err != nil {
		return err
	}
	rec.Name = name
	s.Emit(rec, "rename", "oldName", "/"+old)
	return nil
}
