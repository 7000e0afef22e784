package layer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/layer"
)

// copyInto copies entries into dir as a plain user's copy.
func copyInto(t *testing.T, dir string, o layer.CopyOptions, entries ...*tar.Header) (int, error) {
	t.Helper()
	root, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	must(t, err)
	defer root.Close()
	o.Shown = "/shown"
	return layer.CopyTree(t.Context(), bytes.NewReader(archive(t, entries...)), root, "", o)
}

var mine = layer.CopyOptions{LeaveOwner: true, Harmless: true}

func TestCopyTree(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "old"), []byte("old"), 0o600), os.Mkdir(filepath.Join(dir, "d"), 0o755),
		os.Symlink(filepath.Join(outside, "target"), filepath.Join(dir, "link")), os.WriteFile(filepath.Join(outside, "target"), []byte("safe"), 0o644))
	suid := entry(tar.TypeReg, "suid", "#!")
	suid.Mode = 0o4755
	dev := entry(tar.TypeChar, "null")
	dev.Devmajor, dev.Devminor = 1, 3
	devices, err := copyInto(t, dir, mine,
		entry(tar.TypeReg, "old", "new"), entry(tar.TypeDir, "d/"), entry(tar.TypeReg, "d/.wh.x", "plain"), entry(tar.TypeReg, "link", "mine"), suid, dev)
	must(t, err)
	if devices != 1 {
		t.Errorf("%d device nodes left out", devices)
	}
	for name, want := range map[string]string{"old": "new", "d/.wh.x": "plain", "link": "mine"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
	if got, _ := os.ReadFile(filepath.Join(outside, "target")); string(got) != "safe" {
		t.Errorf("wrote through a link: %q", got)
	}
	if st, err := os.Stat(filepath.Join(dir, "suid")); err != nil || st.Mode() != 0o755 {
		t.Errorf("suid: %v %v", st.Mode(), err)
	}
}

func TestCopyTreeNeverReplacesDirectories(t *testing.T) {
	for _, tt := range []struct {
		have  func(p string) error
		entry *tar.Header
		want  string
	}{
		{func(p string) error { return os.Mkdir(p, 0o755) }, entry(tar.TypeReg, "x", "f"), `cannot overwrite directory "/shown/x" with non-directory`},
		{func(p string) error { return os.Mkdir(p, 0o755) }, &tar.Header{Typeflag: tar.TypeSymlink, Name: "x", Linkname: "/"}, `cannot overwrite directory "/shown/x" with non-directory`},
		{func(p string) error { return os.WriteFile(p, nil, 0o644) }, entry(tar.TypeDir, "x/"), `cannot overwrite non-directory "/shown/x" with directory`},
		{func(p string) error { return os.Symlink("/", p) }, entry(tar.TypeDir, "x/"), `cannot overwrite non-directory "/shown/x" with directory`},
	} {
		dir := t.TempDir()
		must(t, tt.have(filepath.Join(dir, "x")))
		_, err := copyInto(t, dir, mine, tt.entry)
		if err == nil || err.Error() != tt.want || !errors.Is(err, errdef.ErrConflict) {
			t.Errorf("%v, want %s", err, tt.want)
		}
	}
}

// A source that plants a link and then a directory of its name is stopped there.
func TestCopyTreePlantedLink(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	link := &tar.Header{Typeflag: tar.TypeSymlink, Name: "x", Linkname: outside}
	for _, second := range []*tar.Header{entry(tar.TypeDir, "x/"), entry(tar.TypeReg, "x/planted", "p"), entry(tar.TypeReg, "../planted", "p")} {
		_, _ = copyInto(t, dir, mine, link, second)
		if left, _ := os.ReadDir(outside); len(left) > 0 {
			t.Fatalf("%s: outside has %v", second.Name, left)
		}
	}
}

// A copy that is cut short leaves neither a part of the file nor a temporary one; what was there stays.
func TestCopyTreeCutShort(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "big"), []byte("whole"), 0o644))
	raw := archive(t, entry(tar.TypeReg, "big", strings.Repeat("x", 1<<20)))
	root, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	must(t, err)
	defer root.Close()
	ctx, cancel := context.WithCancel(t.Context())
	r := io.MultiReader(bytes.NewReader(raw[:700_000]), readerFunc(func([]byte) (int, error) { cancel(); return 0, nil }))
	if _, err := layer.CopyTree(ctx, r, root, "", mine); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	left, _ := os.ReadDir(dir)
	got, _ := os.ReadFile(filepath.Join(dir, "big"))
	if len(left) != 1 || string(got) != "whole" {
		t.Errorf("left %v, big has %d bytes", left, len(got))
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestWriteResource(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "d/sub"), 0o755), os.WriteFile(filepath.Join(dir, "d/f"), []byte("hi"), 0o644),
		os.Symlink("f", filepath.Join(dir, "d/l")), os.Symlink("d", filepath.Join(dir, "ld")))
	f, err := os.Open(dir)
	must(t, err)
	defer f.Close()
	for _, tt := range []struct{ base, name, want string }{
		{"d", "new", "new/ new/f new/l new/sub/"},
		{".", ".", "./ ./d/ ./d/f ./d/l ./d/sub/ ./ld"},
		{"ld", "ld", "ld"},
	} {
		var b bytes.Buffer
		must(t, layer.WriteResource(t.Context(), &b, f, tt.base, tt.name, layer.Shift{}))
		var got []string
		for tr := tar.NewReader(&b); ; {
			h, err := tr.Next()
			if err == io.EOF {
				break
			}
			must(t, err)
			got = append(got, h.Name)
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: %q", tt.base, got)
		}
	}
	var b bytes.Buffer
	must(t, layer.WriteResource(t.Context(), &b, f, "d/f", "f", layer.Shift{}))
	if b.Len() != 2048 {
		t.Errorf("a small file takes %d bytes", b.Len())
	}
	if err := layer.WriteResource(t.Context(), &b, f, "none", "none", layer.Shift{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}
