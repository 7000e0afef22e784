package container

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"strata/internal/errdef"
)

func TestParseUserMode(t *testing.T) {
	for text, want := range map[string]string{
		"": "-", "host": "-", "private": "{false 65536 }", "auto": "{true 65536 }", "auto:size=7": "{true 7 }", "container:x": "{false 0 x}",
		"auto:size=0": "error", "auto:size=-1": "error", "auto:size=4294967296": "error", "auto:": "error", "container:": "error", "nomap": "error", "keep-id:uid=1": "error", "ns:/x": "error",
	} {
		mode, err := parseUserMode(text)
		got := "-"
		if mode != nil {
			got = fmt.Sprint(*mode)
		}
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q: %s, %v; want %s", text, got, err, want)
		}
	}
}

// Containers that are made at once have ids of their own; those of removed ones, and of what died while it was made, are given again.
func TestIDsOfTheirOwn(t *testing.T) {
	s := liveStore(t)
	pool := func() (IDs, error) { return IDs{UID: 1_000_000, GID: 2_000_000, Count: 6 * idBlock}, nil }
	create := func(mode string) (Record, error) {
		return s.Create(t.Context(), CreateOptions{ImageName: "base", Config: sh("true"), Host: HostConfig{Network: "none", Access: Access{Userns: mode}}, IDs: pool})
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[uint32]Record{}
	for range 3 {
		wg.Go(func() {
			rec, err := create("auto")
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			ids := rec.Host.Access.IDs
			if _, twice := seen[ids.UID]; twice || ids.UID < 1_000_000+idBlock || ids.GID-ids.UID != 1_000_000 || ids.Count != idBlock {
				t.Errorf("ids %+v", ids)
			}
			seen[ids.UID] = rec
		})
	}
	wg.Wait()
	if _, err := create("auto:size=131073"); !errors.Is(err, errdef.ErrLimit) {
		t.Errorf("three blocks where two are left: %v", err)
	}
	wide, err := create("auto:size=65537")
	if err != nil || wide.Host.Access.IDs.UID != 1_000_000+4*idBlock {
		t.Fatalf("%+v, %v", wide.Host.Access.IDs, err)
	}
	if _, err := create("auto"); !errors.Is(err, errdef.ErrLimit) {
		t.Errorf("none are left: %v", err)
	}
	for range 2 { // the first ones are for all
		rec, err := create("private")
		if err != nil || rec.Host.Access.IDs.UID != 1_000_000 {
			t.Errorf("%+v, %v", rec.Host.Access.IDs, err)
		}
	}
	gone := seen[1_000_000+idBlock]
	if err := s.records.Delete(gone.ID); err != nil { // as if it had never been finished
		t.Fatal(err)
	}
	again, err := create("auto")
	if err != nil || again.Host.Access.IDs.UID != 1_000_000+idBlock {
		t.Errorf("%+v, %v", again.Host.Access.IDs, err)
	}
	if err := s.records.Put(gone.ID, gone); err != nil { // for the test's end
		t.Fatal(err)
	}
}
