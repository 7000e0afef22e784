package build_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/build"
	"strata/internal/errdef"
	"strata/internal/layer"
	"strata/internal/rootfs"
)

// TestCopyAsTar holds that COPY makes the same layers whether it copies files into a tree that becomes a directory, or
// writes them straight into a tar.
func TestCopyAsTar(t *testing.T) {
	dirs := newHouse(t)
	tars := newHouseOf(t, layer.Options{TarForm: func() (bool, error) { return true, nil }})
	if err := rootfs.TryTarForm(t.Context(), tars.dir); errors.Is(err, errdef.ErrUnsupported) || errors.Is(err, errdef.ErrDenied) {
		t.Skipf("no tar form here: %v", err)
	}
	dir := t.TempDir()
	for name, data := range map[string]string{"a": "A", "b": "BB", "d/x": "x", "d/sub/y": strings.Repeat("y", 70_000), "d/sub/deep/z": "", "e/x": "other x", "e/w": "w", "Docker": "no"} {
		write(t, dir, name, data)
	}
	write(t, dir, "x.tar", string(tarOf(t, "x", "sub/new")))
	for _, err := range []error{
		os.Symlink("x", filepath.Join(dir, "d/link")), os.Link(filepath.Join(dir, "d/x"), filepath.Join(dir, "d/sub/x2")), os.Link(filepath.Join(dir, "d/x"), filepath.Join(dir, "d/0")),
		os.Chmod(filepath.Join(dir, "d/sub"), 0o2750), os.Chmod(filepath.Join(dir, "a"), 0o4711), unix.Mkfifo(filepath.Join(dir, "e/pipe"), 0o600),
		unix.Setxattr(filepath.Join(dir, "d/x"), "user.note", []byte("kept"), 0), unix.Setxattr(filepath.Join(dir, "b"), "system.posix_acl_access", []byte(richACL), 0),
		sparseFile(filepath.Join(dir, "e/hole")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"tree":        "FROM base\nCOPY . /app/\n",
		"file":        "FROM base\nCOPY a /etc/passwd\n",
		"into":        "FROM base\nCOPY a b /etc/\n",
		"new name":    "FROM base\nCOPY a /new/place/a2\n",
		"owners":      "FROM base\nCOPY --chown=app:appgroup --chmod=u=rwX,go= d /srv\n",
		"over":        "FROM base\nCOPY d /t\nCOPY e /t\nCOPY a /t/x\n",
		"two sources": "FROM base\nCOPY d e /t/\n",
		"scratch":     "FROM scratch\nCOPY d /\n",
		"stage":       "FROM base AS one\nCOPY --chown=7:8 d /t\nFROM base\nCOPY --from=one /t /u\nCOPY --from=one /etc/passwd /t/x /v/\n",
		"link":        "FROM base\nCOPY --link a /etc/\n",
		"parents":     "FROM base\nCOPY --parents d/sub/./deep e/w /p/\n",
		"exclude":     "FROM base\nCOPY --exclude=*/x --exclude=d/sub d e /t/\n",
		"heredoc":     "FROM base\nCOPY a <<EOF /t/\nhello\nEOF\n",
		"add":         "FROM base\nADD a d /t/\n",
		"add archive": "FROM base\nADD a d x.tar e /t/\n",
		"nothing new": "FROM base\nCOPY d /t\nCOPY d /t\n",
	} {
		t.Run(name, func(t *testing.T) {
			epoch := "1500000000"
			args := map[string]*string{"SOURCE_DATE_EPOCH": &epoch}
			dirs.t, tars.t = t, t
			want, werr := dirs.build(t.Context(), text, dir, "Docker", args)
			got, gerr := tars.build(t.Context(), text, dir, "Docker", args)
			if werr != nil || gerr != nil {
				t.Fatalf("directories: %v\ntars: %v", werr, gerr)
			}
			if !slices.Equal(want.RootFS.DiffIDs, got.RootFS.DiffIDs) {
				t.Errorf("directories:")
				for _, id := range want.RootFS.DiffIDs[1:] {
					t.Errorf("  %q", dirs.entries(id))
				}
				t.Errorf("tars:")
				for _, id := range got.RootFS.DiffIDs[1:] {
					t.Errorf("  %q", tars.entries(id))
				}
			}
			for _, id := range got.RootFS.DiffIDs {
				if m, err := tars.layers.Stat(id); err != nil || m.Form != "tar" && name != "add archive" {
					t.Errorf("layer in form %q: %v", m.Form, err)
				}
				if err := tars.layers.Check(t.Context(), id, layer.Full); err != nil {
					t.Error(err)
				}
			}
		})
	}
	dirs.t, tars.t = t, t
	for name, text := range map[string]string{
		"directory over file": "FROM base\nCOPY a /t/x\nCOPY d/sub /t/x\n",
		"file over directory": "FROM base\nCOPY d /t\nCOPY a /t/sub\nCOPY e/w /t/sub/w/w\n",
	} {
		_, werr := dirs.build(t.Context(), text, dir, "", nil)
		_, gerr := tars.build(t.Context(), text, dir, "", nil)
		if (werr == nil) != (gerr == nil) || werr != nil && werr.Error() != gerr.Error() {
			t.Errorf("%s: directories %v, tars %v", name, werr, gerr)
		}
	}
}

// TestCopyAsTarLeaks: with secrets about, files are copied, and searched as ever.
func TestCopyAsTarLeaks(t *testing.T) {
	h := newHouseOf(t, layer.Options{TarForm: func() (bool, error) { return true, nil }})
	if err := rootfs.TryTarForm(t.Context(), h.dir); errors.Is(err, errdef.ErrUnsupported) || errors.Is(err, errdef.ErrDenied) {
		t.Skipf("no tar form here: %v", err)
	}
	dir := t.TempDir()
	write(t, dir, "a", "the secret is hunter2hunter2")
	h.secrets = map[string][]byte{"s": []byte("hunter2hunter2")}
	if _, err := h.build(t.Context(), "FROM base\nCOPY a /a\n", dir, "", nil); err == nil || !strings.Contains(err.Error(), `the secret "s"`) {
		t.Errorf("a secret in what is copied: %v", err)
	}
}

// tarOf is an archive of small files.
func tarOf(t *testing.T, names ...string) []byte {
	t.Helper()
	var raw bytes.Buffer
	w := tar.NewWriter(&raw)
	for _, name := range names {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: 2, ModTime: time.Unix(3, 0)}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("in")); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return raw.Bytes()
}

const richACL = "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x05\x00\x4d\x00\x00\x00\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x05\x00\xff\xff\xff\xff\x20\x00\x00\x00\xff\xff\xff\xff"

func sparseFile(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt([]byte("end"), 1<<20)
	return err
}

var _ build.Layers = (*layer.Store)(nil)
