package build

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"strata/internal/errdef"
	"strata/internal/rootfs"
)

// listing describes a tree, one thing a line.
func listing(t testing.TB, dir string) string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, name)
		switch {
		case d.IsDir():
			rel += "/"
		case d.Type()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(name)
			rel += "->" + target
		default:
			raw, _ := os.ReadFile(name)
			rel += "=" + string(raw)
		}
		lines = append(lines, rel)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, " ")
}

func openRoot(t testing.TB, dir string) *rootfs.Root {
	t.Helper()
	root, err := rootfs.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

// copyInto copies sources of the tree at from to dest in the tree at to.
func copyInto(t testing.TB, from, to, dest string, sources ...string) error {
	t.Helper()
	c := open(t, from, "")
	root := openRoot(t, to)
	var found []selection
	for _, src := range sources {
		more, err := c.selectFrom(&Source{Path: src})
		if err != nil {
			return err
		}
		found = append(found, more...)
	}
	cp := &copier{ctx: t.Context().Err, from: c.root, to: root, dest: dest, uid: os.Getuid(), gid: os.Getgid()}
	for i := range found {
		if err := cp.selection(&found[i]); err != nil {
			return err
		}
	}
	return cp.finish()
}

func TestCopy(t *testing.T) {
	from := map[string]string{"a": "A", "b": "B", "d/x": "X", "d/s/y": "Y", "d/l": "-> x", "lf": "-> a", "ld": "-> d"}
	for _, c := range []struct {
		name    string
		to      map[string]string
		dest    string
		sources []string
		want    string
	}{
		{"file to name", nil, "/n", []string{"a"}, "n=A"},
		{"file into directory", nil, "/n/", []string{"a"}, "n/ n/a=A"},
		{"file into /.", nil, "/n/.", []string{"a"}, "n/ n/a=A"},
		{"file into existing", map[string]string{"n/": ""}, "/n", []string{"a"}, "n/ n/a=A"},
		{"file over file", map[string]string{"n": "old"}, "/n", []string{"a"}, "n=A"},
		{"file through link", map[string]string{"n": "-> m", "m": "old"}, "/n", []string{"a"}, "m=A n->m"},
		{"file into linked directory", map[string]string{"n": "-> /m", "m/": ""}, "/n/", []string{"a"}, "m/ m/a=A n->/m"},
		{"link cannot leave", map[string]string{"n": "-> ../../../m", "m/": ""}, "/n", []string{"a"}, "m/ m/a=A n->../../../m"},
		{"link replaced in directory", map[string]string{"n/a": "-> ../m", "m": "old"}, "/n/", []string{"a"}, "m=old n/ n/a=A"},
		{"two files", nil, "/n/", []string{"a", "b"}, "n/ n/a=A n/b=B"},
		{"directory's content", nil, "/n", []string{"d"}, "n/ n/l->x n/s/ n/s/y=Y n/x=X"},
		{"directory to root", nil, "/", []string{"d"}, "l->x s/ s/y=Y x=X"},
		{"merge", map[string]string{"n/x": "old", "n/s/z": "Z"}, "/n/", []string{"d"}, "n/ n/l->x n/s/ n/s/y=Y n/s/z=Z n/x=X"},
		{"pattern", nil, "/n/", []string{"[ab]"}, "n/ n/a=A n/b=B"},
		{"link to nothing", map[string]string{"n": "-> /p/q", "p/": ""}, "/n", []string{"a"}, "n->/p/q p/ p/q=A"},
		{"links to nothing that cannot leave", map[string]string{"n": "-> ../../../p/q"}, "/n/", []string{"a"}, "n->../../../p/q p/ p/q/ p/q/a=A"},
		{"pattern below a link", nil, "/n/", []string{"ld/*"}, "n/ n/l=X n/x=X n/y=Y"},
		{"pattern does not enter a link", nil, "/n/", []string{"l*/x"}, ""},
		{"pattern of nothing", nil, "/n/", []string{"q*"}, ""},
		{"linked file", nil, "/n/", []string{"lf"}, "n/ n/lf=A"},
		{"linked directory", nil, "/n", []string{"ld"}, "n/ n/l->x n/s/ n/s/y=Y n/x=X"},
		{"deep", nil, "/p/q/r", []string{"a"}, "p/ p/q/ p/q/r=A"},
	} {
		to := plant(t, c.to)
		if err := copyInto(t, plant(t, from), to, c.dest, c.sources...); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := listing(t, to); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

func TestCopyRefuses(t *testing.T) {
	from := map[string]string{"a": "A", "d/x/y": "Y", ".wh.a": "", "w/.wh.b": ""}
	for _, c := range []struct {
		name         string
		to           map[string]string
		dest, source string
		want         error
	}{
		{"directory over file", map[string]string{"n/x": "old"}, "/n", "d", errdef.ErrConflict},
		{"directory over link", map[string]string{"n/x": "-> z", "n/z/": ""}, "/n", "d", errdef.ErrConflict},
		{"file over directory", map[string]string{"n/a/q": ""}, "/n/", "a", errdef.ErrConflict},
		{"whiteout", nil, "/n/", ".wh.a", errdef.ErrInvalid},
		{"whiteout below", nil, "/n/", "w", errdef.ErrInvalid},
		{"missing", nil, "/n/", "zz", errdef.ErrNotFound},
	} {
		if err := copyInto(t, plant(t, from), plant(t, c.to), c.dest, c.source); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestCopyKeepsModesTimesAndHardLinks(t *testing.T) {
	from := plant(t, map[string]string{"d/x": "X", "d/s/y": "Y"})
	if err := os.Link(filepath.Join(from, "d/x"), filepath.Join(from, "d/z")); err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1_000_000_000, 123456789)
	for name, mode := range map[string]os.FileMode{"d/x": 0o4711, "d/s/y": 0o600, "d/s": 0o750} {
		full := filepath.Join(from, name)
		if err := errors.Join(os.Chmod(full, mode.Perm()|mode&0o7000), os.Chtimes(full, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	to := t.TempDir()
	if err := copyInto(t, from, to, "/n", "d"); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"n/x": 0o711, "n/s/y": 0o600, "n/s": 0o750, "n": 0o755} {
		info, err := os.Stat(filepath.Join(to, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != mode {
			t.Errorf("%s: mode %v", name, info.Mode())
		}
		if name != "n" && !info.ModTime().Equal(at) {
			t.Errorf("%s: time %v", name, info.ModTime())
		}
	}
	x, _ := os.Stat(filepath.Join(to, "n/x"))
	z, _ := os.Stat(filepath.Join(to, "n/z"))
	if !os.SameFile(x, z) {
		t.Error("the hard link was lost")
	}
}

func TestIsArchive(t *testing.T) {
	var plain bytes.Buffer
	w := tar.NewWriter(&plain)
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: "x", Size: 1, Mode: 0o644}), func() error { _, err := fmt.Fprint(w, "x"); return err }(), w.Close()); err != nil {
		t.Fatal(err)
	}
	var zipped, text bytes.Buffer
	gz := gzip.NewWriter(&zipped)
	gz.Write(plain.Bytes())
	gz.Close()
	gz = gzip.NewWriter(&text)
	fmt.Fprint(gz, strings.Repeat("no tar ", 200))
	gz.Close()
	for name, c := range map[string]struct {
		data []byte
		want bool
	}{
		"tar": {plain.Bytes(), true}, "tar.gz": {zipped.Bytes(), true}, "gzipped text": {text.Bytes(), false}, "empty": {nil, false},
		"text": {[]byte("hello"), false}, "zeros": {make([]byte, 1024), false}, "half a gzip": {zipped.Bytes()[:12], false},
	} {
		if got := isArchive(bytes.NewReader(c.data)); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
