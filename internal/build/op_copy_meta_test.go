package build

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Directories that are copied become like their source, those that the destination needs do not; times show what came last.
func TestCopyDirectoriesThatExist(t *testing.T) {
	from, to := plant(t, map[string]string{"d/s/x": "1"}), plant(t, map[string]string{"n/s/y": "2"})
	at := time.Unix(1_000_000_000, 0)
	for name, mode := range map[string]os.FileMode{from + "/d/s": 0o711, from + "/d": 0o700, to + "/n/s": 0o500, to + "/n": 0o555} {
		if err := errors.Join(os.Chmod(name, mode), os.Chtimes(name, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { os.Chmod(to+"/n", 0o755); os.Chmod(to+"/n/s", 0o755) })
	if os.Geteuid() != 0 {
		os.Chmod(to+"/n/s", 0o700)
		os.Chmod(to+"/n", 0o755)
	}
	before, _ := os.Stat(to + "/n")
	if err := copyInto(t, from, to, "/n", "d"); err != nil {
		t.Fatal(err)
	}
	n, _ := os.Stat(to + "/n")
	s, _ := os.Stat(to + "/n/s")
	if n.Mode() != before.Mode() || s.Mode().Perm() != 0o711 {
		t.Errorf("modes %v %v", n.Mode(), s.Mode())
	}
	if !n.ModTime().Equal(at) || !s.ModTime().Equal(at) {
		t.Errorf("times %v %v", n.ModTime(), s.ModTime())
	}
}

func TestCopyManyNamesOfOneFile(t *testing.T) {
	from := plant(t, map[string]string{"d/x": "X"})
	for _, name := range []string{"d/y", "z"} {
		if err := os.Link(from+"/d/x", filepath.Join(from, name)); err != nil {
			t.Fatal(err)
		}
	}
	to := t.TempDir()
	if err := copyInto(t, from, to, "/n/", "d", "z"); err != nil {
		t.Fatal(err)
	}
	x, _ := os.Stat(to + "/n/x")
	y, _ := os.Stat(to + "/n/y")
	z, _ := os.Stat(to + "/n/z")
	if !os.SameFile(x, y) || os.SameFile(x, z) {
		t.Error("names of one file must be that within a source, and only there")
	}
}

func TestCopySocketAndPipe(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	l, err := net.Listen("unix", filepath.Join(from, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := errors.Join(os.Chmod(from+"/s", 0o751), unix.Mkfifo(from+"/p", 0o640)); err != nil {
		t.Fatal(err)
	}
	if err := copyInto(t, from, to, "/", "."); err != nil {
		t.Fatal(err)
	}
	s, _ := os.Lstat(to + "/s")
	p, _ := os.Lstat(to + "/p")
	if s.Mode() != 0o751 || s.Size() != 0 || p.Mode()&os.ModeNamedPipe == 0 {
		t.Errorf("%v %v", s.Mode(), p.Mode())
	}
}

func TestCopyAttributes(t *testing.T) {
	from, to := plant(t, map[string]string{"d/f": "1"}), t.TempDir()
	if err := unix.Setxattr(from+"/d/f", "user.one", []byte("1"), 0); err != nil {
		t.Skip("no attributes here: ", err)
	}
	sum := func() map[string]string {
		c := open(t, from, "")
		found, err := c.selectFrom(&Source{Path: "."})
		if err != nil {
			t.Fatal(err)
		}
		sums, err := c.index.digests(t.Context(), c.root, "", found[0].items())
		if err != nil {
			t.Fatal(err)
		}
		return sums
	}
	before := sum()
	if err := errors.Join(unix.Setxattr(from+"/d", "user.two", []byte("2"), 0), unix.Setxattr(from+"/d/f", "user.one", []byte("3"), 0)); err != nil {
		t.Fatal(err)
	}
	after := sum()
	if before["d"] != "" || after["d"] == "" || before["d/f"] == after["d/f"] {
		t.Errorf("attributes do not count: %v %v", before, after)
	}
	if err := copyInto(t, from, to, "/n/", "d", "d/f"); err != nil {
		t.Fatal(err)
	}
	if err := copyInto(t, from, to, "/", "."); err != nil {
		t.Fatal(err)
	}
	var buf [8]byte
	for name, attr := range map[string]string{"n/f": "user.one", "d": "user.two", "d/f": "user.one"} {
		if _, err := unix.Getxattr(filepath.Join(to, name), attr, buf[:]); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCopySparse(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	f, err := os.Create(from + "/f")
	if err != nil {
		t.Fatal(err)
	}
	const size = 64 << 20
	for _, at := range []int64{0, 10 << 20, size - 5} {
		if _, err := f.WriteAt([]byte("12345"), at); err != nil {
			t.Fatal(err)
		}
	}
	f.Close()
	var st unix.Stat_t
	if err := unix.Stat(from+"/f", &st); err != nil || st.Blocks*512 >= size/2 {
		t.Skip("this file system has no holes")
	}
	if err := copyInto(t, from, to, "/", "f"); err != nil {
		t.Fatal(err)
	}
	if err := unix.Stat(to+"/f", &st); err != nil || st.Size != size || st.Blocks*512 >= size/2 {
		t.Errorf("%d bytes in %d blocks, %v", st.Size, st.Blocks, err)
	}
	a, _ := os.ReadFile(from + "/f")
	b, _ := os.ReadFile(to + "/f")
	if string(a) != string(b) {
		t.Error("the copy differs")
	}
}

func TestCopyChmodOfNewDirectories(t *testing.T) {
	for text, want := range map[string]os.FileMode{"700": 0o700, "u=rwX,go=": 0o755} {
		from, to := plant(t, map[string]string{"d/s/x": "1"}), t.TempDir()
		root := openRoot(t, to)
		c := open(t, from, "")
		found, err := c.selectFrom(&Source{Path: "d"})
		if err != nil {
			t.Fatal(err)
		}
		mode, err := parseChmod("COPY", text)
		if err != nil {
			t.Fatal(err)
		}
		cp := &copier{ctx: t.Context().Err, from: c.root, to: root, dest: "/p/n", uid: os.Getuid(), gid: os.Getgid(), chmod: mode}
		if err := cp.selection(&found[0]); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"p", "p/n"} {
			if info, err := os.Stat(filepath.Join(to, name)); err != nil || info.Mode().Perm() != want {
				t.Errorf("%s: %s is %v, %v", text, name, info.Mode(), err)
			}
		}
		if info, err := os.Stat(filepath.Join(to, "p/n/s")); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: s is %v, %v", text, info.Mode(), err)
		}
	}
}
