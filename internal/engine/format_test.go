package engine

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"strata/internal/errdef"
	"strata/internal/image"
	"strata/internal/oci"
)

// older makes of a store what format 1 had: records without checksums.
func older(t *testing.T, root string) {
	t.Helper()
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(p)
		if err != nil || !bytes.HasPrefix(raw, []byte(`{"crc":"`)) {
			return err
		}
		return os.WriteFile(p, append([]byte("{"), raw[18:]...), 0o600)
	})
	if err == nil {
		err = os.WriteFile(filepath.Join(root, "version"), []byte("1\n"), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestMigrate holds that a store of format 1 keeps everything, and that nobody is at work in it meanwhile.
func TestMigrate(t *testing.T) {
	root, ctx := t.TempDir(), t.Context()
	open := func() (*Engine, error) { return Open(ctx, Options{Root: root, Run: t.TempDir()}) }
	e, err := open()
	if err != nil {
		t.Fatal(err)
	}
	img, err := e.images.Put(ctx, &oci.Image{OS: "linux", Architecture: "amd64"}, image.PutOptions{})
	if err == nil {
		_, err = e.images.Tag(ctx, "x", img.ID, "build")
	}
	if err != nil {
		t.Fatal(err)
	}
	older(t, root)
	if _, err := open(); !errors.Is(err, errdef.ErrConflict) {
		t.Fatalf("migrated under a running command: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	container := filepath.Join(root, "containers", "c.json")
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	runs := `{"Name":"busy","State":{"Status":"running","BootID":"` + strings.TrimSpace(string(boot)) + `"}}`
	if err := errors.Join(os.MkdirAll(filepath.Dir(container), 0o700), os.WriteFile(container, []byte(runs), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := open(); err == nil || !strings.Contains(err.Error(), "container busy") {
		t.Fatalf("migrated under a running container: %v", err)
	}
	if err := os.Remove(container); err != nil {
		t.Fatal(err)
	}
	if e, err = open(); err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if got, err := e.Resolve(ctx, "x", PullNever); err != nil || got.ID != img.ID {
		t.Fatalf("after the migration: %v, %v", got.ID, err)
	}
	if raw, err := os.ReadFile(filepath.Join(root, "version")); err != nil || string(raw) != "2\n" {
		t.Errorf("version %q, %v", raw, err)
	}
}

// TestFormatUnknown holds that a store of a later format is refused and left as it is.
func TestFormatUnknown(t *testing.T) {
	for _, version := range []string{"3\n", "0\n", "", "two"} {
		root := t.TempDir()
		if err := os.WriteFile(filepath.Join(root, "version"), []byte(version), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(t.Context(), Options{Root: root, Run: t.TempDir()})
		if !errors.Is(err, errdef.ErrUnsupported) || errdef.Hint(err) == "" {
			t.Errorf("%q: %v", version, err)
		}
		if entries, err := os.ReadDir(root); err != nil || len(entries) != 1 {
			t.Errorf("%q: %d entries, %v", version, len(entries), err)
		}
	}
}
