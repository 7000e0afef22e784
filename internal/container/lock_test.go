package container

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"strata/internal/errdef"
)

// TestRemovedMeanwhile has commands come with the record of a container that another one removed since: they clear away
// nothing but what was that container's.
func TestRemovedMeanwhile(t *testing.T) {
	s := liveStore(t)
	other := make1(t, s, sh("sleep 1000"), HostConfig{})
	startDetached(t, s, other)
	before := listing(t, s.RunDir(other.ID))
	for name, command := range map[string]func(ctx context.Context, rec Record) error{
		"reconcile": func(ctx context.Context, rec Record) error {
			_, err := s.reconcile(ctx, rec)
			return err
		},
		"cp": func(ctx context.Context, rec Record) error {
			return s.withTree(ctx, rec, t.TempDir(), func(*fileTree) error { return nil })
		},
		"rm": func(ctx context.Context, rec Record) error { return s.Remove(ctx, rec, RemoveOptions{}) },
	} {
		rec := make1(t, s, sh("true"), HostConfig{})
		if err := s.Remove(t.Context(), rec, RemoveOptions{}); err != nil {
			t.Fatal(err)
		}
		if name == "reconcile" { // it was read while its supervisor lived
			rec.State.Status = Running
		}
		if err := command(t.Context(), rec); !errors.Is(err, errdef.ErrNotFound) {
			t.Errorf("%s of a removed container: %v", name, err)
		}
		if _, err := os.Stat(s.RunDir(rec.ID)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s of a removed container left its run directory: %v", name, err)
		}
		if after := listing(t, s.RunDir(other.ID)); after != before {
			t.Fatalf("%s of a removed container: another's run directory had %s, and has %s", name, before, after)
		}
	}
	if cur := lookup(t, s, other.ID); cur.State.Status != Running || !s.held(other.ID) {
		t.Errorf("the other container is %s", cur.State.Status)
	}
	if _, err := s.lock(t.Context(), ""); !errors.Is(err, errdef.ErrInvalid) {
		t.Errorf("a lock without an id: %v", err)
	}
}

// listing names what is in a directory.
func listing(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}
