package rootfs

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"strata/internal/errdef"
	"strata/internal/layer"
	"strata/internal/mount"
)

// TryTarForm makes a layer in tar form in the directory dir, mounts it as one of two layers and reads a file of it: what this kernel, this
// process and dir's file system can do together is found out by doing it. errdef.ErrUnsupported or errdef.ErrDenied says
// why they cannot. What it made is gone afterwards.
func TryTarForm(ctx context.Context, dir string) error {
	dir, err := os.MkdirTemp(dir, "try-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	layers, err := layer.Open(filepath.Join(dir, "layers"), layer.Options{TarForm: func() (bool, error) { return true, nil }})
	if err != nil {
		return err
	}
	const name, content = "file", "content"
	var raw bytes.Buffer
	w := tar.NewWriter(&raw)
	if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Mode: 0o600}); err != nil {
		return err
	}
	if _, err := w.Write([]byte(content)); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	meta, err := layers.Ingest(ctx, &raw, "")
	if err != nil {
		return err
	}
	place, err := layers.Place(meta.DiffID)
	if err != nil {
		return err
	}
	m, err := mount.Erofs(place.Image, place.Tar)
	if err != nil {
		return err
	}
	defer m.Close()
	below, seen := filepath.Join(dir, "below"), filepath.Join(dir, "seen")
	if err := errors.Join(os.Mkdir(below, 0o700), os.Mkdir(seen, 0o700)); err != nil {
		return err
	}
	return mount.Private(func() error {
		// Kernels before 6.15 mount the image, but have no overlay over a mount that is nowhere.
		if err := (mount.Overlay{Lower: []string{inMount(m), below}}).Mount(seen); err != nil {
			return fmt.Errorf("%w: %w", err, errdef.ErrUnsupported)
		}
		got, err := os.ReadFile(filepath.Join(seen, name))
		if err == nil && string(got) != content {
			err = fmt.Errorf("a file in an EROFS image has %q, not %q", got, content)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", err, errdef.ErrUnsupported)
		}
		return nil
	})
}
