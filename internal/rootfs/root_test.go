package rootfs_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/rootfs"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// trap is a tree with links that lead out, in a directory with things that must not be reached.
func trap(t *testing.T) (r *rootfs.Root, dir, outside string) {
	t.Helper()
	base := t.TempDir()
	dir, outside = filepath.Join(base, "root"), filepath.Join(base, "outside")
	must(t, os.MkdirAll(filepath.Join(dir, "sub"), 0o755))
	must(t, os.MkdirAll(outside, 0o755))
	must(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o644))
	for name, target := range map[string]string{
		"abs": outside, "dots": "../outside", "deep": "../../../../../../../.." + outside, "sub/up": "../../outside",
		"magic": "/proc/self/root" + outside, "file": outside + "/secret", "new": outside + "/new", "loop": "loop",
	} {
		must(t, os.Symlink(target, filepath.Join(dir, name)))
	}
	r, err := rootfs.OpenRoot(dir)
	must(t, err)
	t.Cleanup(func() { r.Close() })
	return r, dir, outside
}

func TestNothingLeaves(t *testing.T) {
	r, dir, outside := trap(t)
	for _, p := range []string{"abs/secret", "dots/secret", "deep/secret", "sub/up/secret", "magic/secret", "file", "../outside/secret", "/../outside/secret", "sub/../../outside/secret"} {
		if data, err := r.ReadFile(p, 100); !errors.Is(err, errdef.ErrNotFound) {
			t.Errorf("read %s: %q, %v", p, data, err)
		}
		if err := r.Chmod(p, 0o600); err == nil {
			t.Errorf("chmod %s", p)
		}
	}
	for _, l := range []string{"abs", "dots", "deep", "sub/up", "magic"} {
		for op, err := range map[string]error{
			"create":  second(r.Create(l+"/x", 0o644)),
			"open":    second(r.Open(l+"/x", unix.O_CREAT|unix.O_WRONLY, 0o644)),
			"symlink": r.Symlink("y", l+"/x"),
			"mknod":   r.Mknod(l+"/x", unix.S_IFIFO|0o644, 0),
			"link":    r.Link("file", l+"/x"),
			"rename":  r.Rename("loop", l+"/x"),
			"remove":  r.Remove(l + "/secret"),
		} {
			if !errors.Is(err, errdef.ErrNotFound) {
				t.Errorf("%s in %s: %v", op, l, err)
			}
		}
		must(t, r.RemoveAll(l+"/secret"))
	}
	// What is made through a link that leads out is made inside.
	made, err := r.MkdirAll("abs/dir", 0o700, -1, -1)
	must(t, err)
	if want := outside + "/dir"; len(made) == 0 || made[len(made)-1] != want {
		t.Errorf("made %q, want up to %q", made, want)
	}
	if st, err := os.Stat(filepath.Join(dir, outside, "dir")); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", st, err)
	}
	_, err = r.Stubs([]rootfs.Stub{{Path: "/new"}, {Path: "dots/stub", Dir: true}})
	if err != nil && os.Getuid() == 0 { // stubs are given to root
		t.Error(err)
	}
	left, err := os.ReadDir(outside)
	must(t, err)
	if len(left) != 1 {
		t.Errorf("outside has %v", left)
	}
	if data, _ := os.ReadFile(filepath.Join(outside, "secret")); string(data) != "secret" {
		t.Errorf("secret is %q", data)
	}
}

func second[T any](_ T, err error) error { return err }

func TestLinksOwnMetadata(t *testing.T) {
	r, dir, outside := trap(t)
	when := time.Unix(1000, 5)
	must(t, r.Chtimes("file", time.Time{}, when))
	st, err := r.Lstat("file")
	must(t, err)
	if time.Unix(st.Mtim.Unix()) != when {
		t.Errorf("link has time %v", st.Mtim)
	}
	if err := r.Chmod("file", 0o600); !errors.Is(err, unix.EOPNOTSUPP) {
		t.Errorf("chmod of a link: %v", err)
	}
	must(t, r.Chown("file", os.Getuid(), os.Getgid()))
	if info, _ := os.Stat(filepath.Join(outside, "secret")); info.ModTime().Equal(when) {
		t.Error("the file outside was touched")
	}
	f, err := r.Create("file", 0o640) // replaces the link
	must(t, err)
	f.Close()
	if info, err := os.Lstat(filepath.Join(dir, "file")); err != nil || !info.Mode().IsRegular() {
		t.Errorf("%v %v", info, err)
	}
	if target, err := r.Readlink("abs"); target != outside || err != nil {
		t.Errorf("%q %v", target, err)
	}
	if _, err := r.Readlink("sub"); !errors.Is(err, unix.EINVAL) {
		t.Errorf("readlink of a directory: %v", err)
	}
}

func TestReadFileKinds(t *testing.T) {
	r, dir, _ := trap(t)
	must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "big"), make([]byte, 11), 0o644))
	must(t, os.Symlink("/big", filepath.Join(dir, "tobig")))
	for path, want := range map[string]error{"fifo": errdef.ErrInvalid, "sub": errdef.ErrInvalid, "big": errdef.ErrLimit, "none": errdef.ErrNotFound, "big/x": errdef.ErrNotFound, "loop": errdef.ErrInvalid} {
		if _, err := r.ReadFile(path, 10); !errors.Is(err, want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if data, err := r.ReadFile("/tobig", 11); len(data) != 11 || err != nil {
		t.Errorf("%d %v", len(data), err)
	}
}

func TestMkdirAll(t *testing.T) {
	r, dir, _ := trap(t)
	must(t, os.Symlink("/sub", filepath.Join(dir, "lnk")))
	must(t, os.Symlink("run/x", filepath.Join(dir, "dangling")))
	must(t, os.WriteFile(filepath.Join(dir, "plain"), nil, 0o644))
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	for _, tc := range []struct {
		path string
		want []string
	}{
		{"lnk/a/b", []string{"/sub/a", "/sub/a/b"}},
		{"/lnk/a/./b/", nil},
		{"dangling/y", []string{"/run", "/run/x", "/run/x/y"}},
		{"sub/a/../c", []string{"/sub/c"}},
		{"/", nil},
		{"", nil},
	} {
		made, err := r.MkdirAll(tc.path, 0o1755, os.Getuid(), os.Getgid())
		if err != nil || !slices.Equal(made, tc.want) {
			t.Errorf("%s: %q, %v", tc.path, made, err)
		}
	}
	if st, err := r.Stat("run/x/y"); err != nil || st.Mode&0o7777 != 0o1755 {
		t.Errorf("%o %v", st.Mode, err)
	}
	if _, err := r.MkdirAll("plain/x", 0o755, -1, -1); err == nil {
		t.Error("made a directory in a file")
	}
	if _, err := r.MkdirAll("loop/x", 0o755, -1, -1); err == nil {
		t.Error("made a directory in a loop")
	}
	if p, err := r.Resolve("lnk/../lnk/a"); p != "/sub/a" || err != nil {
		t.Errorf("%q %v", p, err)
	}
}

func TestStubs(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("stubs belong to root: needs root")
	}
	r, dir, _ := trap(t)
	must(t, os.Symlink("../run/resolve/conf", filepath.Join(dir, "sub", "resolv.conf")))
	made, err := r.Stubs([]rootfs.Stub{{"/proc2", true}, {"/sub", true}, {"/etc/hosts", false}, {"/etc/hostname", false}, {"/sub/resolv.conf", false}})
	want := []string{"/proc2", "/etc", "/etc/hosts", "/etc/hostname", "/run", "/run/resolve", "/run/resolve/conf"}
	if err != nil || !slices.Equal(made, want) {
		t.Errorf("%q %v", made, err)
	}
	for _, p := range slices.Backward(made) {
		must(t, r.Remove(p))
	}
}

func TestGlob(t *testing.T) {
	r, dir, _ := trap(t)
	for _, f := range []string{"a/x.go", "a/y.go", "b/x.go", "b/z.txt", "we[i]rd"} {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, f)), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, f), nil, 0o644))
	}
	must(t, os.Symlink("/b", filepath.Join(dir, "c")))
	for pattern, want := range map[string][]string{
		"?/*.go":      {"/a/x.go", "/a/y.go", "/b/x.go", "/c/x.go"},
		"/b/../a/x.*": {"/a/x.go"},
		"a":           {"/a"},
		"none*":       nil,
		"a/x.go/*":    nil,
		"abs/*":       nil,
		`we\[i\]rd`:   {"/we[i]rd"},
		"/":           {"/"},
	} {
		got, err := r.Glob(pattern)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v", pattern, got, err)
		}
	}
	if _, err := r.Glob("a/["); !errors.Is(err, errdef.ErrInvalid) {
		t.Errorf("%v", err)
	}
}

func TestRemoveAll(t *testing.T) {
	r, dir, outside := trap(t)
	must(t, os.MkdirAll(filepath.Join(dir, "sub", "x", "y"), 0o755))
	must(t, os.Symlink(outside, filepath.Join(dir, "sub", "x", "out")))
	must(t, r.RemoveAll("sub"))
	if _, err := r.Lstat("sub"); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if err := r.RemoveAll("/"); err == nil {
		t.Error("removed the root")
	}
	if _, err := os.Stat(filepath.Join(outside, "secret")); err != nil {
		t.Error(err)
	}
}

// TestSwap creates files below a directory that is at the same time swapped with a link that leads out.
func TestSwap(t *testing.T) {
	r, dir, outside := trap(t)
	must(t, os.Symlink(outside, filepath.Join(dir, "evil")))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				unix.Renameat2(unix.AT_FDCWD, filepath.Join(dir, "sub"), unix.AT_FDCWD, filepath.Join(dir, "evil"), unix.RENAME_EXCHANGE)
			}
		}
	})
	for range 2000 {
		if f, err := r.Create("sub/planted", 0o644); err == nil {
			f.Close()
		}
		r.MkdirAll("sub/dir", 0o755, -1, -1)
		r.ReadFile("sub/secret", 10)
	}
	close(stop)
	wg.Wait()
	left, err := os.ReadDir(outside)
	must(t, err)
	if len(left) != 1 {
		t.Errorf("outside has %v", left)
	}
}

func TestXattrs(t *testing.T) {
	r, dir, _ := trap(t)
	must(t, os.WriteFile(filepath.Join(dir, "f"), nil, 0o644))
	big := make([]byte, 1000)
	if err := r.Setxattr("f", "user.big", big); errors.Is(err, unix.EOPNOTSUPP) {
		t.Skip("no user xattrs on this file system")
	} else {
		must(t, err)
	}
	got, err := r.Xattrs("f")
	if err != nil || len(got["user.big"]) != 1000 {
		t.Errorf("%d %v", len(got["user.big"]), err)
	}
}
