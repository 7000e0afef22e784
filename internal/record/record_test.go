package record_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"strata/internal/errdef"
	"strata/internal/record"
)

type counter struct{ N int }

func open(t *testing.T) *record.Dir[counter] {
	t.Helper()
	d, err := record.OpenDir[counter](filepath.Join(t.TempDir(), "d"), "counter")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDirKeepsWhatItIsGiven(t *testing.T) {
	d := open(t)
	for _, key := range []string{"a", "docker.io/library/ubuntu:latest", "sha256:00", "..", "é/ü", "a%2fb"} {
		if key == ".." {
			if err := d.Put(key, counter{1}); !errors.Is(err, errdef.ErrInvalid) {
				t.Errorf("Put(%q) = %v, want ErrInvalid", key, err)
			}
			continue
		}
		if err := d.Put(key, counter{len(key)}); err != nil {
			t.Fatal(err)
		}
		if got, err := d.Get(key); err != nil || got.N != len(key) {
			t.Errorf("Get(%q) = %v, %v", key, got, err)
		}
	}
	keys, err := d.Keys()
	if err != nil || len(keys) != 5 {
		t.Errorf("Keys = %q, %v", keys, err)
	}
	if err := d.Delete("a"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Get("a"); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("after Delete: %v", err)
	}
	if err := os.WriteFile(filepath.Join(d.Path(), "bad.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Get("bad"); !errors.Is(err, errdef.ErrCorrupt) {
		t.Errorf("torn record: %v", err)
	}
}

func TestUpdateLosesNothing(t *testing.T) {
	d := open(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 25 {
				err := d.Update(t.Context(), "n", func(c *counter, _ bool) error { c.N++; return nil })
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got, _ := d.Get("n"); got.N != 200 {
		t.Errorf("200 updates gave %d", got.N)
	}
}

func TestLeaseLivesAsLongAsItsHolder(t *testing.T) {
	root := t.TempDir()
	guard := record.NewGuard(filepath.Join(root, "gc.lock"))
	leases, err := record.OpenLeases(filepath.Join(root, "leases"), guard)
	if err != nil {
		t.Fatal(err)
	}
	a, err := leases.Acquire()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Hold(context.Background(), "layer:x", "blob:y"); err != nil {
		t.Fatal(err)
	}
	tmp, err := a.TempDir()
	if err != nil {
		t.Fatal(err)
	}
	live, err := leases.Live()
	if err != nil || !live["layer:x"] || !live["blob:y"] {
		t.Fatalf("Live = %v, %v", live, err)
	}
	if err := a.Release(); err != nil {
		t.Fatal(err)
	}
	if live, _ := leases.Live(); len(live) != 0 {
		t.Errorf("after Release: %v", live)
	}
	if _, err := os.Stat(tmp); !os.IsNotExist(err) {
		t.Errorf("temporary directory outlived its lease: %v", err)
	}

	// What a killed process leaves: a file that nobody locks, with its directory.
	dead := filepath.Join(root, "leases", "lease-dead")
	os.MkdirAll(dead+".tmp/deep", 0o700)
	os.WriteFile(dead, []byte("layer:z\n"), 0o600)
	if live, _ := leases.Live(); live["layer:z"] {
		t.Error("a dead process's lease counts")
	}
	if err := leases.Sweep(t.Context(), func() ([]string, error) { return nil, nil }, nil); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(filepath.Join(root, "leases")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestSweepTakesWhatNobodyHas: a sweep that looks at records while others go on leaves them what they have named by the time it takes
// something, and what those had named that ended since it began to look: a record of theirs may be younger than the look.
func TestSweepTakesWhatNobodyHas(t *testing.T) {
	root := t.TempDir()
	leases, err := record.OpenLeases(filepath.Join(root, "leases"), record.NewGuard(filepath.Join(root, "gc.lock")))
	if err != nil {
		t.Fatal(err)
	}
	hold := func(name string) *record.Lease {
		l, err := leases.Acquire()
		if err == nil {
			err = l.Hold(t.Context(), name)
		}
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	before, ended := hold("before"), hold("ended")
	if err := hold("long over").Release(); err != nil {
		t.Fatal(err)
	}
	var during *record.Lease
	var took []string
	err = leases.Sweep(t.Context(), func() ([]string, error) {
		during = hold("during")
		if err := errors.Join(ended.Release(), hold("short").Release()); err != nil {
			t.Error(err)
		}
		return []string{"before", "ended", "during", "short", "long over", "nobody's"}, nil
	}, func(free []string) error {
		took = free
		return nil
	})
	if want := []string{"long over", "nobody's"}; err != nil || !slices.Equal(took, want) {
		t.Errorf("it took %q, want %q: %v", took, want, err)
	}
	if left, _ := os.ReadDir(filepath.Join(root, "leases")); len(left) != 2 {
		t.Errorf("two live: %v", left)
	}
	if err := errors.Join(before.Release(), during.Release()); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(filepath.Join(root, "leases")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestReleaseMakesNothing: a lease that ends after its store was removed leaves nothing in the way of a new one.
func TestReleaseMakesNothing(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "leases")
	leases, err := record.OpenLeases(dir, record.NewGuard(filepath.Join(root, "gc.lock")))
	if err != nil {
		t.Fatal(err)
	}
	l, err := leases.Acquire()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := l.Release(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the lease was there: %v", err)
	}
	if left, _ := os.ReadDir(root); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
