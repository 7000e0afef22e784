package rootfs_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"strata/internal/errdef"
	"strata/internal/layer"
	"strata/internal/mount"
	"strata/internal/oci"
	"strata/internal/rootfs"
)

// tarStore is a store that keeps layers as tars, where those can be mounted.
func tarStore(t *testing.T) (*layer.Store, *rootfs.Stacks) {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	if err := rootfs.TryTarForm(t.Context(), dir); errors.Is(err, errdef.ErrUnsupported) || errors.Is(err, errdef.ErrDenied) {
		t.Skipf("no tar form here: %v", err)
	} else {
		must(t, err)
	}
	s, err := layer.Open(filepath.Join(dir, "layers"), layer.Options{TarForm: func() (bool, error) { return true, nil }})
	must(t, err)
	return s, rootfs.New(s, filepath.Join(dir, "fixups"), rootfs.Options{})
}

func TestLongStackOfTars(t *testing.T) {
	layers, stacks := tarStore(t)
	var ids []oci.DiffID
	const n = 400
	for i := range n {
		var raw bytes.Buffer
		w := tar.NewWriter(&raw)
		must(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("dir/file%d", i), Mode: 0o644, Size: 4, ModTime: time.Unix(1, 0)}))
		fmt.Fprintf(w, "%04d", i)
		must(t, w.Close())
		m, err := layers.Ingest(t.Context(), &raw, "")
		must(t, err)
		ids = append(ids, m.DiffID)
	}
	target := t.TempDir()
	start := time.Now()
	must(t, mount.Private(func() error {
		if err := stacks.Mount(ids, rootfs.Mount{Target: target}); err != nil {
			return err
		}
		t.Logf("%d layers mounted in %v", n, time.Since(start))
		for _, i := range []int{0, n / 2, n - 1} {
			if b, err := os.ReadFile(filepath.Join(target, fmt.Sprintf("dir/file%d", i))); err != nil || string(b) != fmt.Sprintf("%04d", i) {
				return fmt.Errorf("file%d: %q, %v", i, b, err)
			}
		}
		list, err := os.ReadDir(filepath.Join(target, "dir"))
		if err == nil && len(list) != n {
			err = fmt.Errorf("%d files", len(list))
		}
		return err
	}))
}

// TestLayerTwice holds that an image may have one layer at two places: overlay would not take it.
func TestLayerTwice(t *testing.T) {
	layers, stacks := tarStore(t)
	one := func(name string) oci.DiffID {
		var raw bytes.Buffer
		w := tar.NewWriter(&raw)
		must(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}))
		must(t, w.Close())
		m, err := layers.Ingest(t.Context(), &raw, "")
		must(t, err)
		return m.DiffID
	}
	a, gone := one("a"), one(".wh.a")
	target := t.TempDir()
	for _, ids := range [][]oci.DiffID{{a, a}, {a, gone, a}} {
		must(t, mount.Private(func() error {
			if err := stacks.Mount(ids, rootfs.Mount{Target: target}); err != nil {
				return err
			}
			_, err := os.Stat(filepath.Join(target, "a"))
			return err
		}))
	}
}

// elsewhere has its images, until they are unpacked, on a file system that they cannot be mounted from.
type elsewhere struct {
	*layer.Store
	dir string
}

func (e *elsewhere) Place(id oci.DiffID) (layer.Place, error) {
	p, err := e.Store.Place(id)
	if err != nil || p.Dir != "" {
		return p, err
	}
	for _, name := range []*string{&p.Image, &p.Tar} {
		raw, err := os.ReadFile(*name)
		if err != nil {
			return p, err
		}
		*name = filepath.Join(e.dir, filepath.Base(*name))
		if err := os.WriteFile(*name, raw, 0o600); err != nil {
			return p, err
		}
	}
	return p, nil
}

// TestUnpackedWhereNothingMounts holds that a layer that came as a tar to where it cannot be mounted becomes a directory.
func TestUnpackedWhereNothingMounts(t *testing.T) {
	layers, _ := tarStore(t)
	dir, err := os.MkdirTemp("/dev/shm", "strata-test-")
	if err != nil {
		t.Skipf("no tmpfs: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := rootfs.TryTarForm(t.Context(), dir); !errors.Is(err, errdef.ErrUnsupported) {
		t.Skipf("images can be mounted from /dev/shm: %v", err)
	}
	var raw bytes.Buffer
	w := tar.NewWriter(&raw)
	must(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "dir/file", Mode: 0o640, ModTime: time.Unix(7, 0)}))
	must(t, w.Close())
	whole := bytes.Clone(raw.Bytes())
	m, err := layers.Ingest(t.Context(), &raw, "")
	must(t, err)
	lower, err := rootfs.New(&elsewhere{layers, dir}, filepath.Join(t.TempDir(), "fixups"), rootfs.Options{}).Lower([]oci.DiffID{m.DiffID})
	must(t, err)
	if st, err := os.Stat(filepath.Join(lower[0], "dir/file")); err != nil || st.ModTime().Unix() != 7 {
		t.Errorf("%v %v", st, err)
	}
	if now, err := layers.Stat(m.DiffID); err != nil || now.Form != "dir" {
		t.Errorf("form %q: %v", now.Form, err)
	}
	r, err := layers.Tar(t.Context(), m.DiffID)
	must(t, err)
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, whole) {
		t.Errorf("another tar: %v", err)
	}
	must(t, layers.Check(t.Context(), m.DiffID, layer.Full))
}
