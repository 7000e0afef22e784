package container

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"strata/internal/errdef"
	"strata/internal/network"
)

func testStore(t *testing.T) *Store {
	t.Helper()
	dir := t.TempDir()
	s, err := Open(Options{
		Place:    Place{Root: filepath.Join(dir, "root"), Run: filepath.Join(dir, "run")},
		Networks: network.Open(network.Options{Dir: filepath.Join(dir, "networks"), Run: filepath.Join(dir, "net")}),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestValidName(t *testing.T) {
	for _, name := range []string{"a1", "web.1_x-y", "A0"} {
		if err := ValidName(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", "a", "-a", ".a", "a/b", "a b", "..", "é1"} {
		if err := ValidName(name); !errors.Is(err, errdef.ErrInvalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func create(t *testing.T, s *Store, name string) Record {
	t.Helper()
	rec, err := s.Create(t.Context(), CreateOptions{Name: name, ImageName: "img", Config: Config{Cmd: []string{"true"}}})
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func TestNameConflictAndReuse(t *testing.T) {
	s := testStore(t)
	rec := create(t, s, "web")
	if _, err := s.Create(t.Context(), CreateOptions{Name: "web", Config: Config{Cmd: []string{"true"}}}); !errors.Is(err, errdef.ErrConflict) {
		t.Fatalf("second: %v", err)
	}
	if all, _ := s.List(t.Context()); len(all) != 1 {
		t.Errorf("%d containers after a refused one", len(all))
	}
	if err := s.Remove(t.Context(), rec, RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	create(t, s, "web")
}

// A reservation whose container never came to be, or is gone, does not keep the name.
func TestStaleNames(t *testing.T) {
	s := testStore(t)
	for _, holder := range []string{newID(), "", "garbage"} {
		if err := os.WriteFile(filepath.Join(s.names.dir, "web"), []byte(holder), 0o600); err != nil {
			t.Fatal(err)
		}
		rec := create(t, s, "web")
		if err := s.Remove(t.Context(), rec, RemoveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOneNameManyCreators(t *testing.T) {
	s := testStore(t)
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			_, err := s.Create(t.Context(), CreateOptions{Name: "one", Config: Config{Cmd: []string{"true"}}})
			if err == nil {
				won.Add(1)
			} else if !errors.Is(err, errdef.ErrConflict) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d creators got the name", won.Load())
	}
}

func TestLookup(t *testing.T) {
	s := testStore(t)
	rec := create(t, s, "web")
	create(t, s, "")
	for _, ref := range []string{"web", "/web", rec.ID, rec.ID[:12]} {
		if got, err := s.Lookup(t.Context(), ref); err != nil || got.ID != rec.ID {
			t.Errorf("%q: %v %v", ref, got.ID, err)
		}
	}
	_, err := s.Lookup(t.Context(), "nosuch")
	if !errors.Is(err, errdef.ErrNotFound) || err.Error() != "No such container: nosuch" {
		t.Error(err)
	}
	if _, err := s.Lookup(t.Context(), "../web"); !errors.Is(err, errdef.ErrNotFound) {
		t.Error(err)
	}
}

func TestRename(t *testing.T) {
	s := testStore(t)
	rec := create(t, s, "old")
	if err := s.Rename(t.Context(), rec, "new"); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Lookup(t.Context(), "new"); err != nil || got.Name != "new" {
		t.Error(got.Name, err)
	}
	create(t, s, "old")
}

func TestRenameRefuses(t *testing.T) {
	s := testStore(t)
	rec := create(t, s, "one")
	other := create(t, s, "two")
	for name, class := range map[string]error{
		"": errdef.ErrInvalid, "/": errdef.ErrInvalid, "one": errdef.ErrInvalid, "/one": errdef.ErrInvalid, "a/b": errdef.ErrInvalid, "two": errdef.ErrConflict,
	} {
		if err := s.Rename(t.Context(), rec, name); !errors.Is(err, class) {
			t.Errorf("%q: %v", name, err)
		}
	}
	const want = `error when allocating new name: Conflict. The container name "/two" is already in use by container "%s". ` +
		"You have to remove (or rename) that container to be able to reuse that name."
	if err := s.Rename(t.Context(), rec, "two"); err.Error() != fmt.Sprintf(want, other.ID) {
		t.Error(err)
	}
	if got, err := s.Lookup(t.Context(), "one"); err != nil || got.ID != rec.ID {
		t.Error("the name was lost:", err)
	}
}

// TestOneNameManyRenames lets containers run for one name, while others are made that want it too.
func TestOneNameManyRenames(t *testing.T) {
	s := testStore(t)
	var won atomic.Int32
	var wg sync.WaitGroup
	got := func(err error) {
		if err == nil {
			won.Add(1)
		} else if !errors.Is(err, errdef.ErrConflict) {
			t.Error(err)
		}
	}
	for range 6 {
		rec := create(t, s, "")
		wg.Go(func() { got(s.Rename(t.Context(), rec, "one")) })
		wg.Go(func() {
			_, err := s.Create(t.Context(), CreateOptions{Name: "one", Config: Config{Cmd: []string{"true"}}})
			got(err)
		})
	}
	wg.Wait()
	all, err := s.List(t.Context())
	named := 0
	for _, rec := range all {
		if rec.Name == "one" {
			named++
		}
	}
	if won.Load() != 1 || named != 1 || err != nil {
		t.Errorf("%d got the name, %d have it, %v", won.Load(), named, err)
	}
}

// TestRenameCutShort leaves what a process leaves that is killed between two of rename's steps.
func TestRenameCutShort(t *testing.T) {
	s := testStore(t)
	rec := create(t, s, "old")
	// Killed after the new name was reserved: it is still to be had, by anybody.
	if err := s.names.reserve("new", rec.ID); err != nil {
		t.Fatal(err)
	}
	if got := lookup(t, s, "old"); got.ID != rec.ID {
		t.Error("the container lost its name")
	}
	if _, err := s.Lookup(t.Context(), "new"); !errors.Is(err, errdef.ErrNotFound) {
		t.Error("it has two names:", err)
	}
	create(t, s, "new")
	// Killed after the record was written, before the old name was given up.
	err := s.records.Update(t.Context(), rec.ID, func(r *Record, _ bool) error { r.Name = "newer"; return nil })
	if err == nil {
		err = s.names.reserve("newer", rec.ID)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := lookup(t, s, "newer"); got.ID != rec.ID {
		t.Error("the container has no name")
	}
	create(t, s, "old")
}
