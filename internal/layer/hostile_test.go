package layer_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/layer"
	"strata/internal/oci"
)

func TestHostileArchives(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(outside)
	cases := map[string]struct {
		raw  []byte
		err  error
		text string
	}{
		"up":                   {archive(t, entry(tar.TypeReg, "../outside", "x")), errdef.ErrInvalid, "../outside"},
		"far up":               {archive(t, entry(tar.TypeReg, "a/../../../../../../../tmp/x", "x")), errdef.ErrInvalid, "leaves the root"},
		"up, absolute":         {archive(t, entry(tar.TypeReg, "/../x", "x")), errdef.ErrInvalid, "/../x"},
		"absolute":             {archive(t, entry(tar.TypeReg, outside, "x")), nil, ""},
		"planted link":         {archive(t, entry(tar.TypeSymlink, "l", dir), entry(tar.TypeReg, "l/outside", "x")), nil, ""},
		"planted relative":     {archive(t, entry(tar.TypeSymlink, "l", "../../../../../../.."+dir), entry(tar.TypeReg, "l/outside", "x")), nil, ""},
		"planted chain":        {archive(t, entry(tar.TypeSymlink, "a", ".."), entry(tar.TypeSymlink, "b", "a/../.."+dir), entry(tar.TypeReg, "b/outside", "x")), nil, ""},
		"link as file":         {archive(t, entry(tar.TypeSymlink, "l", outside), entry(tar.TypeReg, "l", "x")), nil, ""},
		"hard link out":        {archive(t, entry(tar.TypeLink, "l", outside)), errdef.ErrInvalid, outside},
		"hard link up":         {archive(t, entry(tar.TypeLink, "l", "../../../../.."+outside)), errdef.ErrInvalid, "leaves the root"},
		"hard link by symlink": {archive(t, entry(tar.TypeSymlink, "s", dir), entry(tar.TypeLink, "l", "s/outside"), entry(tar.TypeReg, "l", "x")), errdef.ErrInvalid, "s/outside"},
		"whiteout of ..":       {archive(t, entry(tar.TypeDir, "a/"), entry(tar.TypeReg, "a/.wh...")), errdef.ErrInvalid, "whiteout of nothing"},
		"whiteout by link":     {archive(t, entry(tar.TypeSymlink, "l", dir), entry(tar.TypeReg, "l/.wh.outside")), nil, ""},
		"opaque by link":       {archive(t, entry(tar.TypeSymlink, "l", dir), entry(tar.TypeReg, "l/.wh..wh..opq")), nil, ""},
		"link loop":            {archive(t, entry(tar.TypeSymlink, "a", "b"), entry(tar.TypeSymlink, "b", "a"), entry(tar.TypeReg, "a/x", "x")), errdef.ErrInvalid, "symbolic links"},
		"long name":            {archive(t, entry(tar.TypeReg, strings.Repeat("d/", 2100)+"x", "x")), errdef.ErrLimit, "name of"},
		"long component":       {archive(t, entry(tar.TypeReg, strings.Repeat("d", 300), "x")), errdef.ErrLimit, "name too long"},
		"root as file":         {archive(t, entry(tar.TypeReg, ".", "x")), errdef.ErrInvalid, "names the root"},
		"truncated":            {archive(t, entry(tar.TypeReg, "a", strings.Repeat("x", 5000)))[:3000], errdef.ErrInvalid, "entry \"a\""},
		"no tar":               {bytes.Repeat([]byte("text "), 1000), errdef.ErrInvalid, "tar"},
		"half a block":         {[]byte("text"), errdef.ErrInvalid, "tar"},
		"vast sparse":          {cat(paxFile(paxRecord("GNU.sparse.size", "9000000000000000000")+paxRecord("GNU.sparse.numblocks", "1")+paxRecord("GNU.sparse.map", "0,1"), "s", "x"), zeros), errdef.ErrLimit, "sparse"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s, root := open(t, options())
			m, err := s.Ingest(t.Context(), bytes.NewReader(c.raw), "")
			if c.err == nil && err != nil {
				t.Fatal(err)
			}
			if c.err != nil {
				wantErr(t, err, c.err, c.text)
				if list, _ := os.ReadDir(filepath.Join(root, "layers")); len(list) != 0 {
					t.Errorf("left: %v", list)
				}
			} else if dir, err := dirOf(s, m.DiffID); err != nil {
				t.Fatal(err)
			} else if _, err := os.Lstat(dir); err != nil {
				t.Fatal(err)
			}
			empty(t, root)
			if got, err := os.ReadFile(outside); err != nil || string(got) != "mine" {
				t.Fatalf("the file outside: %q, %v", got, err)
			}
			if left, _ := os.ReadDir(dir); len(left) != 1 {
				t.Fatalf("outside: %v", left)
			}
			var v [8]byte
			for _, x := range []string{"trusted.overlay.opaque", "user.overlay.opaque"} {
				if n, _ := unix.Lgetxattr(dir, x, v[:]); n > 0 {
					t.Errorf("directory outside became opaque")
				}
			}
		})
	}
}

func TestEntryFlood(t *testing.T) {
	o := options()
	o.MaxEntries = 100
	s, root := open(t, o)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := range 101 {
		w.WriteHeader(entry(tar.TypeReg, fmt.Sprint(i)))
	}
	w.Close()
	_, err := s.Ingest(t.Context(), &b, "")
	wantErr(t, err, errdef.ErrLimit, "100 entries")
	if errdef.Hint(err) == "" {
		t.Error("no hint")
	}
	// Directories that entries imply count too.
	_, err = s.Ingest(t.Context(), bytes.NewReader(archive(t, entry(tar.TypeReg, strings.Repeat("d/", 200)+"x"))), "")
	wantErr(t, err, errdef.ErrLimit, "entries")
	empty(t, root)
}

func TestDeepTreeReplaced(t *testing.T) {
	s, root := open(t, options())
	deep := strings.Repeat("d/", 1900)
	roundTrip(t, s, archive(t, entry(tar.TypeReg, deep+"x", "payload"), entry(tar.TypeReg, "d", "file")))
	empty(t, root)
}

func TestDevices(t *testing.T) {
	null := entry(tar.TypeChar, "dev/null")
	null.Devmajor, null.Devminor = 1, 3
	disk := entry(tar.TypeBlock, "dev/sda", 0o4600)
	disk.Devmajor = 8
	raw := archive(t, null, disk, entry(tar.TypeLink, "dev/zero", "dev/null"))
	s, _ := open(t, options())
	m := roundTrip(t, s, raw)
	if !isRoot {
		if m.Missing != 3 {
			t.Errorf("Missing = %d, want 3", m.Missing)
		}
		return
	}
	dir, _ := dirOf(s, m.DiffID)
	var st unix.Stat_t
	if err := unix.Lstat(dir+"/dev/sda", &st); err != nil || st.Mode != unix.S_IFBLK|0o4600 || unix.Major(st.Rdev) != 8 {
		t.Errorf("sda: %o %d %v", st.Mode, st.Rdev, err)
	}
}

func TestOverlayXattrsStayOffTheDisk(t *testing.T) {
	s, _ := open(t, options())
	x := map[string]string{"user.overlay.opaque": "y", "trusted.overlay.redirect": "/etc", "user.fine": "1"}
	m := roundTrip(t, s, archive(t, entry(tar.TypeDir, "d/", x), entry(tar.TypeReg, "f", "", x)))
	dir, _ := dirOf(s, m.DiffID)
	for _, p := range []string{"d", "f"} {
		buf := make([]byte, 1000)
		n, _ := unix.Llistxattr(filepath.Join(dir, p), buf)
		if got := string(buf[:n]); strings.Contains(got, "overlay") || !strings.Contains(got, "user.fine") {
			t.Errorf("%s has xattrs %q", p, got)
		}
	}
}

func TestFailuresLeaveNothing(t *testing.T) {
	s, root := open(t, options())
	raw := archive(t, entry(tar.TypeDir, "d/", 0o500), entry(tar.TypeReg, "d/f", "x", 0))
	other := "sha256:" + strings.Repeat("0", 64)
	_, err := s.Ingest(t.Context(), bytes.NewReader(raw), oci.DiffID(other))
	wantErr(t, err, errdef.ErrCorrupt, other)
	broken := errors.New("line is broken")
	_, err = s.Ingest(t.Context(), io.MultiReader(bytes.NewReader(raw[:1000]), failing{broken}), "")
	wantErr(t, err, broken, "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.Ingest(ctx, bytes.NewReader(raw), "")
	wantErr(t, err, context.Canceled, "")
	empty(t, root)
	if list, _ := os.ReadDir(filepath.Join(root, "layers")); len(list) != 0 {
		t.Errorf("left: %v", list)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestDecompress(t *testing.T) {
	text := bytes.Repeat([]byte("some text, and more\n"), 50_000)
	pack := func(name string, args ...string) []byte {
		cmd := exec.Command(name, args...)
		cmd.Stdin = bytes.NewReader(text)
		out, err := cmd.Output()
		if err != nil {
			t.Skipf("needs the program %s: %v", name, err)
		}
		return out
	}
	var gz bytes.Buffer
	for _, part := range [][]byte{text[:1000], text[1000:]} {
		w := gzip.NewWriter(&gz)
		w.Write(part)
		w.Close()
	}
	enc, _ := zstd.NewWriter(nil)
	zst := enc.EncodeAll(text, nil)
	for _, c := range []struct {
		name string
		data func() []byte
	}{
		{"", func() []byte { return text }},
		{"gzip", gz.Bytes},
		{"zstd", func() []byte { return zst }},
		{"zstd", func() []byte { return append([]byte("\x50\x2a\x4d\x18\x02\x00\x00\x00hi"), zst...) }},
		{"bzip2", func() []byte { return pack("bzip2") }},
		{"xz", func() []byte { return pack("xz", "-9") }},
		{"xz", func() []byte { return pack("xz", "-T2", "--block-size=100000") }},
		{"xz", func() []byte { x := pack("xz"); return append(x, x...)[:2*len(x)] }},
	} {
		t.Run("plain"+c.name, func(t *testing.T) {
			data := c.data()
			rc, name, err := layer.Decompress(bytes.NewReader(data))
			if err != nil || name != c.name {
				t.Fatalf("%q, %v", name, err)
			}
			got, err := io.ReadAll(rc)
			if err != nil || !bytes.HasPrefix(got, text) || len(got)%len(text) != 0 {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
			rc.Close()
			if name == "" {
				return
			}
			rc, _, err = layer.Decompress(bytes.NewReader(data[:len(data)*2/3]))
			if err == nil {
				_, err = io.ReadAll(rc)
			}
			if !errors.Is(err, errdef.ErrCorrupt) {
				t.Errorf("truncated: %v", err)
			}
		})
	}
	t.Run("large window", func(t *testing.T) {
		for _, data := range [][]byte{pack("xz", "--lzma2=dict=256MiB"), pack("zstd", "--ultra", "--long=30", "-1", "--no-check")} {
			rc, name, err := layer.Decompress(bytes.NewReader(data))
			if err == nil {
				_, err = io.Copy(io.Discard, rc)
			}
			if !errors.Is(err, errdef.ErrLimit) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	t.Run("bomb", func(t *testing.T) {
		var b bytes.Buffer
		gz := gzip.NewWriter(&b)
		w := tar.NewWriter(gz)
		for i := range 20_000 {
			w.WriteHeader(entry(tar.TypeReg, fmt.Sprint(i)))
		}
		w.Close()
		gz.Close()
		o := options()
		o.MaxEntries = 1000
		s, root := open(t, o)
		rc, _, err := layer.Decompress(&b)
		if err != nil {
			t.Fatal(err)
		}
		defer rc.Close()
		_, err = s.Ingest(t.Context(), rc, "")
		wantErr(t, err, errdef.ErrLimit, "1000 entries")
		empty(t, root)
	})
}

func TestExtractTree(t *testing.T) {
	root := t.TempDir()
	os.MkdirAll(root+"/usr/lib", 0o755)
	os.Symlink("/usr/lib", root+"/lib")
	os.WriteFile(root+"/file", nil, 0o644)
	dir, err := os.OpenFile(root, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	uid, gid := os.Geteuid(), os.Getegid()
	if isRoot {
		uid, gid = 123, 456
	}
	add := func(dest string, entries ...*tar.Header) error {
		return layer.ExtractTree(t.Context(), bytes.NewReader(archive(t, entries...)), dir, dest,
			layer.ExtractOptions{UID: &uid, GID: &gid, IgnoreOwner: !isRoot})
	}
	if err := add("/lib/new/", entry(tar.TypeReg, "a/b", "x"), entry(tar.TypeLink, "c", "a/b"), entry(tar.TypeSymlink, "l", "/usr"), entry(tar.TypeReg, "l/d", "y")); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]string{"usr/lib/new/a/b": "x", "usr/lib/new/c": "x", "usr/d": "y"} {
		if got, err := os.ReadFile(filepath.Join(root, p)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", p, got, err)
		}
		var st unix.Stat_t
		unix.Lstat(filepath.Join(root, p), &st)
		if int(st.Uid) != uid || int(st.Gid) != gid {
			t.Errorf("%s is of %d:%d", p, st.Uid, st.Gid)
		}
	}
	wantErr(t, add("/", entry(tar.TypeReg, "../x", "x")), errdef.ErrInvalid, "../x")
	wantErr(t, add("/", entry(tar.TypeReg, "d/.wh.x")), errdef.ErrInvalid, ".wh.x")
	wantErr(t, add("/file/below", entry(tar.TypeReg, "x")), errdef.ErrInvalid, "no directory")
	wantErr(t, add("/", entry(tar.TypeLink, "x", "/etc/passwd")), errdef.ErrInvalid, "/etc/passwd")
}
