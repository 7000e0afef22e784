package container

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"strata/internal/errdef"
)

// TestVolumesDoNotWait holds that nobody waits for a volume's files to be deleted, for another container's record to reach the disk, or,
// without volumes, for anything.
func TestVolumesDoNotWait(t *testing.T) {
	s := testStore(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := s.CreateVolume(ctx, "old", VolumeOptions{}); err != nil {
		t.Fatal(err)
	}
	deleted := ""
	err := s.removing(ctx, func(dir string) error {
		deleted = dir
		_, err := s.CreateVolume(ctx, "new", VolumeOptions{})
		return err
	}, func(remove func(string) error) error { return remove("old") })
	if err != nil {
		t.Fatal("while one is deleted:", err)
	}
	if _, err := os.Lstat(deleted); !errors.Is(err, os.ErrNotExist) || filepath.Dir(deleted) != filepath.Join(s.opt.Place.Root, "trash") {
		t.Errorf("left at %q: %v", deleted, err)
	}
	if _, err := s.getVolume("old"); !errors.Is(err, errdef.ErrNotFound) {
		t.Error("it is still there:", err)
	}
	if err := s.keepVolumes(ctx, func() error { return s.keepVolumes(ctx, func() error { return nil }) }); err != nil {
		t.Error("while a record is written:", err)
	}
	err = s.withVolumes(ctx, func() error {
		_, err := s.Create(ctx, CreateOptions{Config: Config{Cmd: []string{"true"}}})
		return err
	})
	if err != nil {
		t.Error("without volumes:", err)
	}
}

// TestVolumesGone holds that a container's volumes are made again when somebody removes them before its record names them.
func TestVolumesGone(t *testing.T) {
	s := testStore(t)
	list := []Volume{{Name: "named", Named: true}, {Destination: "/own"}}
	for range 2 {
		if err := s.ready(t.Context(), list, "id"); err != nil {
			t.Fatal(err)
		}
		for _, v := range list {
			if rec, err := s.getVolume(v.Name); err != nil || rec.Anonymous == v.Named {
				t.Fatalf("%q: %+v, %v", v.Name, rec, err)
			}
			if err := s.RemoveVolume(t.Context(), v.Name); err != nil {
				t.Fatal(err)
			}
		}
	}
}
