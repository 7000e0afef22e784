package layer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"strata/internal/layer"
	"strata/internal/oci"
)

var isRoot = os.Geteuid() == 0

func options() layer.Options {
	return layer.Options{Userxattr: !isRoot, IgnoreOwner: !isRoot}
}

func open(t testing.TB, o layer.Options) (*layer.Store, string) {
	t.Helper()
	root := t.TempDir()
	t.Cleanup(func() { unlock(root) })
	tmp := filepath.Join(root, "tmp")
	if err := os.Mkdir(tmp, 0o700); err != nil {
		t.Fatal(err)
	}
	o.TempDir = func() (string, error) { return tmp, nil }
	s, err := layer.Open(filepath.Join(root, "layers"), o)
	if err != nil {
		t.Fatal(err)
	}
	return s, root
}

// dirOf is where a layer in directory form lies.
func dirOf(s *layer.Store, id oci.DiffID) (string, error) {
	p, err := s.Place(id)
	return p.Dir, err
}

// unlock lets a plain user's temporary directory be removed.
func unlock(root string) {
	if isRoot {
		return
	}
	filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			os.Chmod(p, 0o700)
		}
		return nil
	})
}

// empty fails the test if anything unfinished is left in the store.
func empty(t testing.TB, root string) {
	t.Helper()
	for _, dir := range []string{"tmp", "layers"} {
		left, err := os.ReadDir(filepath.Join(root, dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range left {
			if dir == "tmp" || strings.HasPrefix(e.Name(), ".tmp") {
				t.Errorf("left behind: %s/%s", dir, e.Name())
			}
		}
	}
}

var when = time.Unix(1_600_000_000, 123_456_789)

// entry is a short way to write a tar header.
func entry(typ byte, name string, more ...any) *tar.Header {
	h := &tar.Header{Typeflag: typ, Name: name, Mode: 0o644, ModTime: when, Uid: os.Geteuid(), Gid: os.Getegid(), Format: tar.FormatPAX}
	if typ == tar.TypeDir {
		h.Mode = 0o755
	}
	for _, m := range more {
		switch m := m.(type) {
		case string:
			if typ == tar.TypeReg {
				h.PAXRecords = map[string]string{"content": m}
				h.Size = int64(len(m))
			} else {
				h.Linkname = m
			}
		case int:
			h.Mode = int64(m)
		case map[string]string:
			if h.PAXRecords == nil {
				h.PAXRecords = map[string]string{}
			}
			for k, v := range m {
				h.PAXRecords["SCHILY.xattr."+k] = v
			}
		}
	}
	return h
}

func archive(t testing.TB, entries ...*tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		h := *h
		content := h.PAXRecords["content"]
		rec := map[string]string{}
		for k, v := range h.PAXRecords {
			if k != "content" {
				rec[k] = v
			}
		}
		h.PAXRecords = rec
		if len(rec) == 0 {
			h.PAXRecords = nil
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

// roundTrip ingests raw and wants it back.
func roundTrip(t fataler, s *layer.Store, raw []byte) layer.Meta {
	t.Helper()
	ctx := context.Background()
	want := oci.DiffID(digest.FromBytes(raw))
	m, err := s.Ingest(ctx, bytes.NewReader(raw), want)
	if err != nil {
		t.Fatalf("Ingest: %v", err)
	}
	if m.DiffID != want || m.Size != int64(len(raw)) {
		t.Fatalf("Ingest = %s of %d bytes, want %s of %d", m.DiffID, m.Size, want, len(raw))
	}
	r, err := s.Tar(ctx, m.DiffID)
	if err != nil {
		t.Fatalf("Tar: %v", err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("Tar: %v", err)
	}
	if !bytes.Equal(got, raw) {
		t.Fatalf("Tar gives other bytes: %d of %d", len(got), len(raw))
	}
	for _, err := range s.Entries(ctx, m.DiffID) {
		if err != nil {
			t.Fatalf("Entries: %v", err)
		}
	}
	err = s.Check(ctx, m.DiffID, layer.Full)
	if errors.Is(err, os.ErrPermission) && os.Getuid() != 0 {
		err = nil // files without permissions, and no user namespace in which that would not matter
	}
	if err != nil {
		t.Fatalf("Check: %v", err)
	}
	return m
}

// tree describes all below dir, a line a file, for comparison.
func tree(t testing.TB, dir string) []string {
	t.Helper()
	var lines []string
	seen := map[uint64]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		line := fmt.Sprintf("%s %o", rel, st.Mode)
		switch {
		case st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0:
			lines = append(lines, rel+" whiteout")
			return nil
		case st.Mode&unix.S_IFMT == unix.S_IFREG:
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %x", len(data), sha256.Sum256(data))
		case st.Mode&unix.S_IFMT == unix.S_IFLNK:
			to, _ := os.Readlink(p)
			line += " -> " + to
		default:
			line += fmt.Sprintf(" dev %d", st.Rdev)
		}
		if first, ok := seen[st.Ino]; ok && st.Nlink > 1 && !d.IsDir() {
			line += " = " + first
		}
		seen[st.Ino] = rel
		line += fmt.Sprintf(" %d:%d %d.%09d", st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
		buf := make([]byte, 4096)
		if n, err := unix.Llistxattr(p, buf); err == nil && n > 0 {
			names := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
			sort.Strings(names)
			for _, name := range names {
				v := make([]byte, 4096)
				n, _ := unix.Lgetxattr(p, name, v)
				line += fmt.Sprintf(" %s=%q", name, v[:n])
			}
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func needRoot(t testing.TB) {
	t.Helper()
	if !isRoot {
		t.Skip("needs root: mounts, device nodes, other owners")
	}
}

func wantErr(t testing.TB, err, class error, text string) {
	t.Helper()
	if !errors.Is(err, class) || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v, want %v naming %q", err, class, text)
	}
}
