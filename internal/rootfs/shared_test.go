package rootfs_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"strata/internal/layer"
	"strata/internal/mount"
	"strata/internal/oci"
	"strata/internal/rootfs"
)

// oneFile takes a layer of one file in, whose content is its name.
func oneFile(t *testing.T, layers *layer.Store, name string) oci.DiffID {
	t.Helper()
	var raw bytes.Buffer
	w := tar.NewWriter(&raw)
	must(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(name))}))
	fmt.Fprint(w, name)
	must(t, w.Close())
	m, err := layers.Ingest(t.Context(), &raw, "")
	must(t, err)
	return m.DiffID
}

// device is that of the file system in which the layer's tree lies, whose file must be the right one.
func device(t *testing.T, s *rootfs.Stacks, id oci.DiffID, name string) uint64 {
	t.Helper()
	lower, err := s.Lower([]oci.DiffID{id})
	must(t, err)
	target := t.TempDir()
	must(t, mount.Private(func() error {
		if err := s.Mount([]oci.DiffID{id}, rootfs.Mount{Target: target}); err != nil {
			return err
		}
		if got, err := os.ReadFile(filepath.Join(target, name)); err != nil || string(got) != name {
			return fmt.Errorf("%s has %q, %w", name, got, err)
		}
		return nil
	}))
	info, err := os.Stat(lower[0])
	must(t, err)
	return info.Sys().(*syscall.Stat_t).Dev
}

// TestSharedMounts holds that a layer which another process has mounted is not mounted again, and that only that layer's mount is taken.
func TestSharedMounts(t *testing.T) {
	layers, alone := tarStore(t)
	run := filepath.Join(t.TempDir(), "layers")
	another := func() *rootfs.Stacks {
		return rootfs.New(layers, t.TempDir(), rootfs.Options{Shared: run})
	}
	a, b := oneFile(t, layers, "a"), oneFile(t, layers, "b")
	first := another()
	dev := device(t, first, a, "a")
	second := another()
	if got := device(t, second, a, "a"); got != dev {
		t.Errorf("the second has device %x, the first %x: it is another mount", got, dev)
	}
	if got := device(t, alone, a, "a"); got == dev {
		t.Error("whoever shares nothing has the mount of the first")
	}

	links, err := os.ReadDir(run)
	must(t, err)
	if len(links) != 1 {
		t.Fatalf("%d links for one layer", len(links))
	}
	slot := filepath.Join(run, links[0].Name())

	// A link that leads to the mount of another layer.
	other, err := first.Lower([]oci.DiffID{b})
	must(t, err)
	for _, place := range []string{filepath.Dir(other[0]), "/proc/self/fd/0", "/", "/nowhere"} {
		must(t, os.Remove(slot))
		must(t, os.Symlink(place, slot))
		if got := device(t, another(), a, "a"); got == dev {
			t.Errorf("%s is a mount of the layer", place)
		}
	}

	// The same layer in other files: these are what is read.
	place, err := layers.Place(a)
	must(t, err)
	must(t, os.RemoveAll(filepath.Dir(place.Image)))
	if again := oneFile(t, layers, "a"); again != a {
		t.Fatal("one layer has two digests")
	}
	if got := device(t, another(), a, "a"); got == dev {
		t.Error("files that were replaced are shown")
	}

	must(t, os.Symlink("/proc/self/fd/none", filepath.Join(run, "dead")))
	must(t, second.Tidy())
	links, err = os.ReadDir(run)
	must(t, err)
	for _, l := range links {
		if l.Name() == "dead" {
			t.Error("a link that leads nowhere is kept")
		}
	}
	if len(links) == 0 {
		t.Error("links of this process are gone")
	}
	must(t, rootfs.New(layers, t.TempDir(), rootfs.Options{Shared: filepath.Join(run, "none")}).Tidy())
}
