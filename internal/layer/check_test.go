package layer_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"strata/internal/errdef"
	"strata/internal/layer"
	"strata/internal/oci"
)

// rotten is a layer with every kind of file, in a store of its own.
func rotten(t *testing.T, o layer.Options) (s *layer.Store, dir string, id oci.DiffID, raw []byte) {
	t.Helper()
	s, root := open(t, o)
	big := strings.Repeat("0123456789abcdef", 20_000)
	raw = archive(t, entry(tar.TypeReg, "etc/passwd", "root:x:0:0"), entry(tar.TypeReg, "a", "first"), entry(tar.TypeReg, "a", "second"),
		entry(tar.TypeReg, "big", big), entry(tar.TypeSymlink, "l", "a"), entry(tar.TypeReg, ".wh.gone"),
		entry(tar.TypeReg, ".wh..wh.plnk/1.2", strings.Repeat("aside", 20_000)))
	m := roundTrip(t, s, raw)
	return s, filepath.Join(root, "layers", m.DiffID.Hex()), m.DiffID, raw
}

// flip changes one bit of a file and keeps its times.
func flip(t *testing.T, file string, at int64) {
	t.Helper()
	fi, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 4
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file, fi.ModTime(), fi.ModTime()); err != nil {
		t.Fatal(err)
	}
}

// TestRot flips a byte of every file of a layer, first, middle and last: the check names the layer and what is damaged, and
// the layer's tar, from elsewhere, makes it whole.
func TestRot(t *testing.T) {
	for form, o := range map[string]layer.Options{"dir": options(), "tar": tarForm()} {
		t.Run(form, func(t *testing.T) { rot(t, o) })
	}
}

func rot(t *testing.T, o layer.Options) {
	s, dir, id, raw := rotten(t, o)
	n := 0
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, _ := filepath.Rel(dir, file)
		for part := range int64(3) {
			fi, err := os.Stat(file) // a record that was made anew may have another size
			if err != nil {
				return err
			}
			at := part * (fi.Size() - 1) / 2
			n++
			flip(t, file, at)
			checked := s.Check(t.Context(), id, layer.Full)
			name := strings.TrimPrefix(rel, "fs/")
			switch { // of a payload that is no file any more the entry is named
			case strings.HasPrefix(rel, "shadow/s"):
				name = ".wh..wh.plnk/1.2"
			case strings.HasPrefix(rel, "shadow/"):
				name = "a"
			case rel == "skeleton":
				name = ""
			}
			if !errors.Is(checked, errdef.ErrCorrupt) || !strings.Contains(checked.Error(), string(id)) || !strings.Contains(checked.Error(), name) {
				t.Errorf("%s, byte %d: %v", rel, at, checked)
			}
			if _, err := s.Replace(t.Context(), bytes.NewReader(raw), id); err != nil {
				t.Fatalf("%s: %v", rel, err)
			}
			if err := s.Check(t.Context(), id, layer.Full); err != nil {
				t.Fatalf("%s: after repair: %v", rel, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes flipped, each found and mended", n)
}

// TestTreeDamage changes what the digest does not cover: the full check names it, and the layer is made anew from itself.
func TestTreeDamage(t *testing.T) {
	s, dir, id, _ := rotten(t, options())
	in := func(name string) string { return filepath.Join(dir, "fs", name) }
	for name, damage := range map[string]func() error{
		"etc/passwd":      func() error { return os.Chmod(in("etc/passwd"), 0o666) },
		"big":             func() error { return os.Chtimes(in("big"), time.Unix(7, 0), time.Unix(7, 0)) },
		`"fs/etc/extra"`:  func() error { return os.WriteFile(in("etc/extra"), nil, 0o600) },
		`"fs/l"`:          func() error { return errors.Join(os.Remove(in("l")), os.Symlink("/etc/shadow", in("l"))) },
		`"fs/gone" is mi`: func() error { return os.Remove(in("gone")) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		if err := s.Check(t.Context(), id, layer.Digests); err != nil {
			t.Errorf("%s: the digest covers it: %v", name, err)
		}
		wantErr(t, s.Check(t.Context(), id, layer.Full), errdef.ErrCorrupt, name)
		if err := s.Remake(t.Context(), id); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := s.Check(t.Context(), id, layer.Full); err != nil {
			t.Fatalf("%s: after repair: %v", name, err)
		}
	}
}

// TestQuickCheck holds that a file that is missing or cut short is found without reading any.
func TestQuickCheck(t *testing.T) {
	s, dir, id, _ := rotten(t, options())
	if err := s.Check(t.Context(), id, layer.Quick); err != nil {
		t.Fatal(err)
	}
	big := filepath.Join(dir, "fs", "big")
	must(t, os.Truncate(big, 5))
	wantErr(t, s.Check(t.Context(), id, layer.Quick), errdef.ErrCorrupt, "fs/big")
	must(t, os.Remove(big))
	wantErr(t, s.Check(t.Context(), id, layer.Quick), errdef.ErrCorrupt, "fs/big")
	wantErr(t, s.Remake(t.Context(), id), errdef.ErrCorrupt, "fs/big")
}
