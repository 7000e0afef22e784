package layer_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/layer"
	"strata/internal/oci"
)

func opaque() string {
	if isRoot {
		return "trusted.overlay.opaque"
	}
	return "user.overlay.opaque"
}

// upperDir makes an upper directory inside root.
func upperDir(t testing.TB, root string) string {
	t.Helper()
	dir, err := os.MkdirTemp(root, "upper-*")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// lowerOf ingests entries and gives the layer's directory.
func lowerOf(t testing.TB, s *layer.Store, entries ...*tar.Header) string {
	t.Helper()
	m, err := s.Ingest(t.Context(), bytes.NewReader(archive(t, entries...)), "")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := dirOf(s, m.DiffID)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func names(t testing.TB, s *layer.Store, id oci.DiffID) string {
	t.Helper()
	var list []string
	for e, err := range s.Entries(t.Context(), id) {
		if err != nil {
			t.Fatal(err)
		}
		name := e.Name
		switch {
		case e.Whiteout:
			name = "-" + name
		case e.Opaque:
			name = "!" + name
		case e.Name == "":
			name = "."
		}
		list = append(list, name)
	}
	return strings.Join(list, " ")
}

// same ingests the committed layer's tar into another store and compares identity and tree.
func same(t testing.TB, s *layer.Store, id oci.DiffID, o layer.Options) {
	t.Helper()
	other, _ := open(t, o)
	r, err := s.Tar(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	m, err := other.Ingest(t.Context(), r, "")
	if err != nil {
		t.Fatal(err)
	}
	if m.DiffID != id {
		t.Errorf("the tar of %s has diffID %s", id, m.DiffID)
	}
	a, err := dirOf(s, id)
	must(t, err)
	b, err := dirOf(other, m.DiffID)
	must(t, err)
	x, y := tree(t, a), tree(t, b)
	if !slices.Equal(x, y) {
		t.Errorf("committed:\n%s\nunpacked:\n%s", strings.Join(x, "\n"), strings.Join(y, "\n"))
	}
	must(t, s.Check(t.Context(), id, layer.Full))
}

func TestCommitByHand(t *testing.T) {
	s, root := open(t, options())
	low := lowerOf(t, s,
		entry(tar.TypeDir, "etc/"), entry(tar.TypeReg, "etc/passwd", "root"), entry(tar.TypeDir, "keep/"), entry(tar.TypeDir, "keep/deep/"),
		entry(tar.TypeReg, "gone", "x"), entry(tar.TypeDir, "redo/"), entry(tar.TypeReg, "redo/old", "x"), entry(tar.TypeReg, "file", "x"))
	up := upperDir(t, root)
	past := time.Unix(1000, 5)
	must(t,
		os.Mkdir(up+"/etc", 0o755), os.WriteFile(up+"/etc/new", []byte("new"), 0o640),
		os.Link(up+"/etc/new", up+"/etc/link"), os.Symlink("/etc/new", up+"/sym"),
		// Copied up and not changed:
		os.MkdirAll(up+"/keep/deep", 0o755), os.Chtimes(up+"/keep/deep", when, when), os.Chtimes(up+"/keep", when, when),
		// Whiteouts: of what is there, of what is not.
		unix.Mknod(up+"/gone", unix.S_IFCHR, 0), unix.Mknod(up+"/never", unix.S_IFCHR, 0),
		// Opaque: over a directory, over nothing, over a file.
		os.MkdirAll(up+"/redo", 0o700), unix.Setxattr(up+"/redo", opaque(), []byte("y"), 0),
		unix.Mknod(up+"/redo/old", unix.S_IFCHR, 0),
		os.MkdirAll(up+"/fresh", 0o755), unix.Setxattr(up+"/fresh", opaque(), []byte("y"), 0),
		os.MkdirAll(up+"/file", 0o755), unix.Setxattr(up+"/file", opaque(), []byte("y"), 0),
		// A stub, and one below a directory made for it.
		os.MkdirAll(up+"/run/secret", 0o755), os.WriteFile(up+"/run/secret/s", nil, 0o600),
		unix.Mkfifo(up+"/pipe", 0o600), unix.Setxattr(up+"/etc/new", "user.x", []byte("1"), 0),
		os.Chtimes(up+"/etc/new", past, past),
		unix.Mknod(up+"/sock", unix.S_IFSOCK|0o600, 0),
	)
	epoch := time.Unix(2_000_000, 0)
	m, err := s.Commit(t.Context(), up, layer.CommitOptions{Lower: []string{low}, Drop: []string{"/run", "/run/secret", "/run/secret/s"}, Epoch: &epoch})
	must(t, err)
	want := "etc etc/link etc/new file fresh -gone pipe redo !redo sym"
	if got := names(t, s, m.DiffID); got != want {
		t.Errorf("entries %s\n   want %s", got, want)
	}
	if _, err := os.Lstat(up); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("upper is still there: %v", err)
	}
	for e := range s.Entries(t.Context(), m.DiffID) {
		if e.ModTime.After(epoch) {
			t.Errorf("%s: %v", e.Name, e.ModTime)
		}
	}
	same(t, s, m.DiffID, options())
	empty(t, root)
}

func TestCommitOfNothing(t *testing.T) {
	s, root := open(t, options())
	low := lowerOf(t, s, entry(tar.TypeDir, "etc/"), entry(tar.TypeDir, "d/"))
	for name, fill := range map[string]func(up string) error{
		"empty":     func(string) error { return nil },
		"copied up": func(up string) error { return errors.Join(os.Mkdir(up+"/d", 0o755), os.Chtimes(up+"/d", when, when)) },
		"stub in a lower directory": func(up string) error {
			return errors.Join(os.Mkdir(up+"/etc", 0o755), os.WriteFile(up+"/etc/hosts", nil, 0o644))
		},
		"stray marks": func(up string) error { return unix.Mknod(up+"/x", unix.S_IFCHR, 0) },
	} {
		up := upperDir(t, root)
		must(t, fill(up))
		m, err := s.Commit(t.Context(), up, layer.CommitOptions{Lower: []string{low}, Drop: []string{"/etc/hosts"}})
		if err != nil || m.DiffID != "" {
			t.Errorf("%s: %v, %v", name, m, err)
		}
		if _, err := os.Lstat(up); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: upper is still there", name)
		}
	}
	empty(t, root)
}

func TestCommitRoot(t *testing.T) {
	s, root := open(t, options())
	up := upperDir(t, root)
	must(t, os.Chmod(up, 0o700), os.WriteFile(up+"/a", nil, 0o644))
	m, err := s.Commit(t.Context(), up, layer.CommitOptions{})
	must(t, err)
	if got, want := names(t, s, m.DiffID), ". a"; got != want && isRoot {
		t.Errorf("entries %s, want %s", got, want)
	}
	same(t, s, m.DiffID, options())
	up = upperDir(t, root)
	must(t, os.WriteFile(up+"/.wh.x", nil, 0o644))
	_, err = s.Commit(t.Context(), up, layer.CommitOptions{})
	wantErr(t, err, errdef.ErrInvalid, ".wh.x")
	empty(t, root)
}

func TestXattrWhiteouts(t *testing.T) {
	s, root := open(t, options())
	low := lowerOf(t, s, entry(tar.TypeReg, "d/a", "x"), entry(tar.TypeReg, "d/b", "x"))
	up := upperDir(t, root)
	flavour := strings.TrimSuffix(opaque(), "opaque")
	must(t, os.Mkdir(up+"/d", 0o755), unix.Setxattr(up+"/d", opaque(), []byte("x"), 0),
		os.WriteFile(up+"/d/a", nil, 0o644), unix.Setxattr(up+"/d/a", flavour+"whiteout", []byte("y"), 0),
		os.WriteFile(up+"/d/b", nil, 0o644))
	m, err := s.Commit(t.Context(), up, layer.CommitOptions{Lower: []string{low}})
	must(t, err)
	if got, want := names(t, s, m.DiffID), "d -d/a d/b"; got != want {
		t.Errorf("entries %s, want %s", got, want)
	}
	same(t, s, m.DiffID, options())
}

// TestCommitOfOverlay lets the kernel make the upper directory.
func TestCommitOfOverlay(t *testing.T) {
	needRoot(t)
	for _, user := range []bool{false, true} {
		t.Run(fmt.Sprint("userxattr=", user), func(t *testing.T) {
			o := layer.Options{Userxattr: user}
			s, root := open(t, o)
			low1 := lowerOf(t, s, entry(tar.TypeDir, "a/"), entry(tar.TypeReg, "a/one", "1"), entry(tar.TypeReg, "a/two", "2"), entry(tar.TypeDir, "b/"), entry(tar.TypeReg, "b/x", "x"), entry(tar.TypeDir, "c/"), entry(tar.TypeReg, "c/y", "y"), entry(tar.TypeReg, "f", "f"), entry(tar.TypeDir, "same/"))
			low2 := lowerOf(t, s, entry(tar.TypeDir, "a/"), entry(tar.TypeReg, "a/.wh.one"), entry(tar.TypeReg, "a/three", "3"))
			up, work, merged := upperDir(t, root), upperDir(t, root), upperDir(t, root)
			option := fmt.Sprintf("lowerdir=%s:%s,upperdir=%s,workdir=%s,redirect_dir=nofollow,metacopy=off,index=off", low2, low1, up, work)
			if user {
				option += ",userxattr"
			}
			script := `set -e; mount -t overlay overlay -o "$1" "$2"; cd "$2"
				test ! -e a/one; rm a/two; echo new >a/new; rm -r b; mkdir b; echo z >b/z; rm -r c; echo f >>f; ln f g; mkdir n; chmod 700 n
				touch same/t; rm same/t; touch -d @1600000000.123456789 same; setfattr -n user.k -v v f 2>/dev/null || true; rm -rf .x; cd /; umount "$2"`
			cmd := exec.Command("sh", "-c", script, "sh", option, merged)
			cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			must(t, os.RemoveAll(work))
			m, err := s.Commit(t.Context(), up, layer.CommitOptions{Lower: []string{low2, low1}})
			must(t, err)
			want := "a a/new -a/two b !b b/z -c f g n"
			if got := names(t, s, m.DiffID); got != want {
				t.Errorf("entries %s\n   want %s", got, want)
			}
			same(t, s, m.DiffID, o)
		})
	}
}

func TestSealing(t *testing.T) {
	for form, o := range map[string]layer.Options{"dir": options(), "tar": tarForm()} {
		t.Run(form, func(t *testing.T) { sealing(t, o) })
	}
}

func sealing(t *testing.T, o layer.Options) {
	boot := filepath.Join(t.TempDir(), "boot_id")
	must(t, os.WriteFile(boot, []byte("first\n"), 0o600))
	o.BootIDPath = boot
	s, root := open(t, o)
	raw := archive(t, entry(tar.TypeReg, "a", "x"))
	m, err := s.Ingest(t.Context(), bytes.NewReader(raw), "")
	must(t, err)
	reopen := func() *layer.Store {
		s, err := layer.Open(filepath.Join(root, "layers"), o)
		must(t, err)
		return s
	}
	must(t, os.WriteFile(boot, []byte("second\n"), 0o600))
	after := reopen()
	_, err = after.Stat(m.DiffID)
	wantErr(t, err, errdef.ErrNotFound, "not flushed")
	seen := 0
	must(t, after.Walk(func(w layer.Meta) error { seen++; return nil }))
	if seen != 1 {
		t.Errorf("Walk gives %d layers", seen)
	}
	// It is replaced, sealed, and good after the next boot.
	_, err = after.Ingest(t.Context(), bytes.NewReader(raw), m.DiffID)
	must(t, err, after.AddBlob(t.Context(), m.DiffID, layer.Blob{Digest: digest.FromString("blob"), Size: 3}), after.Sync(t.Context()))
	must(t, os.WriteFile(boot, []byte("third\n"), 0o600))
	third := reopen()
	got, err := third.Stat(m.DiffID)
	must(t, err, third.Verify(t.Context(), m.DiffID))
	if !got.Sealed || len(got.Blobs) != 1 {
		t.Errorf("%+v", got)
	}
	empty(t, root)
	// What is known already is not written again.
	record := filepath.Join(root, "layers", m.DiffID.Hex(), "meta.json")
	before, err := os.Stat(record)
	must(t, err, third.AddBlob(t.Context(), m.DiffID, got.Blobs[0]))
	same, err := os.Stat(record)
	must(t, err, third.AddBlob(t.Context(), m.DiffID, layer.Blob{Digest: digest.FromString("another"), Size: 4}))
	other, err := os.Stat(record)
	if must(t, err); !os.SameFile(before, same) || os.SameFile(before, other) {
		t.Errorf("the record was written again: %v; with another blob: %v", !os.SameFile(before, same), !os.SameFile(before, other))
	}
	// A torn record is corrupt, one without bytes as if it were not there; both are walked over with their name, and replaced.
	must(t, os.WriteFile(record, []byte(`{"crc":"12345678",`), 0o600))
	_, err = third.Stat(m.DiffID)
	wantErr(t, err, errdef.ErrCorrupt, m.DiffID.Hex())
	must(t, os.WriteFile(record, nil, 0o600))
	_, err = third.Stat(m.DiffID)
	wantErr(t, err, errdef.ErrNotFound, m.DiffID.Hex())
	must(t, os.WriteFile(filepath.Join(root, "layers", "junk"), nil, 0o600), os.Mkdir(filepath.Join(root, "layers", ".tmp-x"), 0o700))
	must(t, third.Walk(func(w layer.Meta) error {
		if w.DiffID != m.DiffID || w.Form != "" {
			t.Errorf("Walk gives %+v", w)
		}
		return nil
	}))
	_, err = third.Ingest(t.Context(), bytes.NewReader(raw), m.DiffID)
	must(t, err, third.Verify(t.Context(), m.DiffID))
	trash := filepath.Join(root, "trash")
	must(t, os.Mkdir(trash, 0o700), third.Trash(m.DiffID, trash))
	wantErr(t, third.Trash(m.DiffID, trash), errdef.ErrNotFound, "")
	must(t, third.Sync(t.Context()))
}

func TestDamageIsFound(t *testing.T) {
	for name, damage := range map[string]func(dir string) error{
		"changed": func(dir string) error { return os.WriteFile(dir+"/fs/a", []byte("PAYLOAD"), 0o644) },
		"longer":  func(dir string) error { return os.WriteFile(dir+"/fs/a", []byte("payload, more"), 0o644) },
		"removed": func(dir string) error { return os.Remove(dir + "/fs/a") },
		"a link": func(dir string) error {
			return errors.Join(os.Remove(dir+"/fs/a"), os.Symlink("/etc/passwd", dir+"/fs/a"))
		},
		"no skeleton":    func(dir string) error { return os.Remove(dir + "/skeleton") },
		"torn skeleton":  func(dir string) error { return os.Truncate(dir+"/skeleton", 700) },
		"empty skeleton": func(dir string) error { return os.Truncate(dir+"/skeleton", 0) },
	} {
		s, root := open(t, options())
		m := roundTrip(t, s, archive(t, entry(tar.TypeReg, "a", "payload")))
		must(t, damage(filepath.Join(root, "layers", m.DiffID.Hex())))
		if err := s.Verify(t.Context(), m.DiffID); !errors.Is(err, errdef.ErrCorrupt) || !strings.Contains(err.Error(), m.DiffID.Hex()) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWriteTree(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(dir+"/b/c", 0o755), os.WriteFile(dir+"/b/c/f", bytes.Repeat([]byte("x"), 700_000), 0o644), os.WriteFile(dir+"/a", []byte("a"), 0o600), os.Link(dir+"/a", dir+"/z"))
	var b bytes.Buffer
	must(t, layer.WriteTree(t.Context(), &b, dir))
	r := tar.NewReader(&b)
	var got []string
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		must(t, err)
		got = append(got, h.Name+" "+h.Linkname)
	}
	if want := []string{"a ", "b/ ", "b/c/ ", "b/c/f ", "z a"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
