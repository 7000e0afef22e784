package layer_test

import (
	"archive/tar"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/layer"
)

func whiteout(t *testing.T, path string) {
	t.Helper()
	must(t, unix.Mknod(path, unix.S_IFCHR, 0))
}

func TestChanges(t *testing.T) {
	s, root := open(t, options())
	then := time.Unix(1_000_000, 0)
	old := func(h *tar.Header) *tar.Header { h.ModTime = then; return h }
	low := lowerOf(t, s,
		old(entry(tar.TypeDir, "etc/")), entry(tar.TypeReg, "etc/passwd", "root"), old(entry(tar.TypeDir, "same/")), entry(tar.TypeReg, "same/x", "x"),
		old(entry(tar.TypeDir, "mode/")), entry(tar.TypeReg, "gone", "x"), old(entry(tar.TypeDir, "redo/")), entry(tar.TypeReg, "redo/old", "x"),
		entry(tar.TypeReg, "redo/kept", "x"), old(entry(tar.TypeDir, "redo/sub/")), entry(tar.TypeReg, "redo/sub/deep", "x"),
		entry(tar.TypeReg, "link", "x"), old(entry(tar.TypeDir, "untouched/")), entry(tar.TypeReg, "copied", "x"))
	up := upperDir(t, root)
	at := func(p string) string { return filepath.Join(up, p) }
	dir := func(p string) {
		must(t, os.Mkdir(at(p), 0o755), os.Chmod(at(p), 0o755))
	}
	file := func(p, content string) { must(t, os.WriteFile(at(p), []byte(content), 0o644)) }
	dir("etc")
	file("etc/passwd", "changed")
	file("etc/hosts", "")
	dir("same")
	dir("same/new")
	file("same/.wh.odd", "no layer can hold it")
	dir("mode")
	must(t, os.Chmod(at("mode"), 0o700))
	dir("redo")
	must(t, unix.Setxattr(at("redo"), opaque(), []byte("y"), 0))
	file("redo/kept", "again")
	dir("redo/sub")
	dir("untouched")
	dir("made")
	dir("made/by")
	dir("made/by/us")
	dir("link")
	if isRoot {
		whiteout(t, at("gone"))
		whiteout(t, at("never-was"))
	}
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Join(low, "copied"), &st))
	file("copied", "x")
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, at("copied"), []unix.Timespec{st.Atim, st.Mtim}, 0), os.Chmod(at("copied"), os.FileMode(st.Mode&0o777)))
	l, err := net.Listen("unix", at("socket"))
	must(t, err)
	defer l.Close()
	for _, d := range []string{"etc", "same", "mode", "untouched"} {
		must(t, os.Chtimes(at(d), then, then))
	}

	before := tree(t, up)
	changes, err := s.Changes(t.Context(), up, layer.CommitOptions{Lower: []string{low}, Drop: []string{"/etc/hosts", "/made", "/made/by", "/made/by/us"}})
	must(t, err)
	var got []string
	for _, c := range changes {
		got = append(got, string(c.Kind)+c.Path)
	}
	want := "C/etc C/etc/passwd D/gone C/link C/mode C/redo C/redo/kept D/redo/old C/redo/sub D/redo/sub/deep C/same A/same/.wh.odd A/same/new A/socket"
	if !isRoot {
		want = strings.Replace(want, "D/gone ", "", 1)
	}
	if strings.Join(got, " ") != want {
		t.Errorf("changes:\n%s\nwant:\n%s", strings.Join(got, " "), want)
	}
	if after := tree(t, up); strings.Join(before, "\n") != strings.Join(after, "\n") {
		t.Errorf("looking changed the directory:\n%s", strings.Join(after, "\n"))
	}
}
