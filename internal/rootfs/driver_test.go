package rootfs_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"strata/internal/layer"
	"strata/internal/mount"
	"strata/internal/oci"
	"strata/internal/rootfs"
	"strata/internal/userns"
)

// drivers gives those that work here, with the reason why another does not.
func drivers(t *testing.T) []string {
	var all []string
	for _, d := range rootfs.Drivers() {
		if _, err := exec.LookPath("fuse-overlayfs"); d == rootfs.Fuse && err != nil {
			t.Log("fuse-overlayfs is not installed: its driver is not tried")
			continue
		}
		all = append(all, d)
	}
	return all
}

// bench is a layer store with stacks by one driver.
type bench struct {
	t      *testing.T
	dir    string
	store  *layer.Store
	stacks *rootfs.Stacks
}

func newBench(t *testing.T, dir, driver string) *bench {
	t.Helper()
	temp := func() (string, error) { return os.MkdirTemp(dir, "tmp-") }
	store, err := layer.Open(filepath.Join(dir, "layers"), layer.Options{Userxattr: userns.Namespaced(), TempDir: temp})
	must(t, err)
	o := rootfs.Options{Userxattr: userns.Namespaced(), Driver: driver, TempDir: temp}
	return &bench{t, dir, store, rootfs.New(store, filepath.Join(dir, "fixups"), o)}
}

func (b *bench) layer(entries ...*tar.Header) oci.DiffID {
	b.t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range entries {
		h.Format = tar.FormatPAX
		if h.ModTime.IsZero() {
			h.ModTime = time.Unix(1700000000, 123456789)
		}
		body := h.Uname // what is in the file
		h.Uname, h.Size = "", int64(len(body))
		must(b.t, w.WriteHeader(h))
		_, err := w.Write([]byte(body))
		must(b.t, err)
		h.Uname = body
	}
	must(b.t, w.Close())
	id := oci.DiffID(fmt.Sprintf("sha256:%x", sha256.Sum256(buf.Bytes())))
	meta, err := b.store.Ingest(context.Background(), &buf, id)
	must(b.t, err)
	return meta.DiffID
}

func dir(name string, mode int64) *tar.Header {
	return &tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: mode}
}

func file(name, body string) *tar.Header {
	return &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Uid: 7, Gid: 8, Uname: body}
}

func link(name, to string) *tar.Header {
	return &tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: to}
}

func symlink(name, to string) *tar.Header {
	return &tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to, Uid: 9, Mode: 0o777}
}

// dump tells all of a tree but what differs with its place: a line a file.
func dump(root string) ([]string, error) {
	var lines []string
	first := map[[2]uint64]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err == unix.ENOENT {
			return nil // the kernel lists a whiteout in a directory that one layer alone has, but there is nothing
		} else if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		line := fmt.Sprintf("%s %o %d:%d", rel, st.Mode, st.Uid, st.Gid)
		switch {
		case d.Type().IsRegular():
			body, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			key := [2]uint64{st.Dev, st.Ino}
			if first[key] == "" {
				first[key] = rel
			}
			line += fmt.Sprintf(" %d %x is %s", st.Size, sha256.Sum256(body), first[key])
		case d.Type()&fs.ModeSymlink != 0:
			to, _ := os.Readlink(path)
			line += " -> " + to
		}
		if rel != "." { // a root that changed its time alone is no change
			line += fmt.Sprintf(" %d.%d", st.Mtim.Sec, st.Mtim.Nsec)
		}
		if d.Type().IsRegular() || d.IsDir() {
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			attrs, err := rootfs.Xattrs(f)
			f.Close()
			if err != nil {
				return err
			}
			for _, name := range slices.Sorted(maps.Keys(attrs)) {
				if !strings.Contains(name, ".overlay.") {
					line += fmt.Sprintf(" %s=%q", name, attrs[name])
				}
			}
		}
		lines = append(lines, line)
		return nil
	})
	return lines, err
}

// see gives a stack's tree.
func (b *bench) see(ids []oci.DiffID) []string {
	b.t.Helper()
	target, err := os.MkdirTemp(b.dir, "see-")
	must(b.t, err)
	var lines []string
	must(b.t, b.stacks.Private(func() (err error) {
		m := rootfs.Mount{Target: target}
		if err := b.stacks.Mount(ids, m); err != nil {
			return err
		}
		lines, err = dump(target)
		return errors.Join(err, b.stacks.Unmount(m))
	}))
	return lines
}

// write lets fn change the tree of a stack and makes a layer of that. It gives the tree as it was at the end.
func (b *bench) write(ids []oci.DiffID, fn func(dir string) error) ([]oci.DiffID, []string) {
	b.t.Helper()
	step, err := os.MkdirTemp(b.dir, "step-")
	must(b.t, err)
	m := rootfs.Mount{Target: filepath.Join(step, "tree"), Writable: filepath.Join(step, "rw"), Volatile: true}
	must(b.t, os.Mkdir(m.Target, 0o700))
	must(b.t, os.Mkdir(m.Writable, 0o700))
	var lines []string
	must(b.t, b.stacks.Private(func() (err error) {
		if err := b.stacks.Mount(ids, m); err != nil {
			return err
		}
		if err = fn(m.Target); err == nil {
			lines, err = dump(m.Target)
		}
		return errors.Join(err, b.stacks.Unmount(m))
	}))
	c, err := b.stacks.Changes(ids, m, "")
	must(b.t, err)
	meta, err := b.store.Commit(context.Background(), c.Upper, layer.CommitOptions{Lower: c.Lower, Sockets: c.Sockets})
	must(b.t, err)
	if meta.DiffID == "" {
		return ids, lines
	}
	ids = append(slices.Clone(ids), meta.DiffID)
	c.Keep(ids, nil)
	return ids, lines
}

// base is a stack with all that layers can say.
func (b *bench) base() []oci.DiffID {
	withAttr := file("attr", "with attributes")
	withAttr.PAXRecords = map[string]string{"SCHILY.xattr.user.mine": "yes"}
	return []oci.DiffID{
		b.layer(dir(".", 0o755), dir("a", 0o750), file("a/one", "1"), file("a/two", "2"), dir("gone", 0o700), file("gone/x", "x"),
			dir("hidden", 0o711), file("hidden/old", "old"), dir("kept", 0o755), dir("kept/deep", 0o755), file("kept/deep/f", "f"),
			file("hard", "hard links"), link("hard2", "hard"), symlink("link", "/a/one"), withAttr, file("becomes", "a file"), dir("falls", 0o755), file("falls/in", "in"),
			&tar.Header{Name: "pipe", Typeflag: tar.TypeFifo, Mode: 0o620}),
		b.layer(file(".wh.gone", ""), file("hidden/.wh..wh..opq", ""), file("hidden/new", "new"), dir("becomes", 0o700), file("becomes/dir", "dir"), file("falls", "now a file")),
		b.layer(file("a/one", "changed"), file("kept/deep/g", "g"), dir("gone", 0o755)),
	}
}

// same holds two trees against each other.
func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		var g, w string
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("%s: line %d:\n got %s\nwant %s", what, i, g, w)
			return
		}
	}
}

// work is what steps do to a tree.
func work(dir string) error {
	at := func(name string) string { return filepath.Join(dir, name) }
	past := time.Unix(1600000000, 5)
	write := func(name, body string) func() error {
		return func() error { return os.WriteFile(at(name), []byte(body), 0o640) }
	}
	todo := []func() error{
		write("a/one", "written"),
		func() error { return os.Remove(at("a/two")) },
		func() error { return os.RemoveAll(at("kept/deep")) },
		func() error { return os.Mkdir(at("kept/deep"), 0o701) },
		write("kept/deep/fresh", "fresh"),
		func() error { return os.MkdirAll(at("new/dirs"), 0o755) },
		write("new/dirs/file", "here"),
		func() error { return os.Link(at("new/dirs/file"), at("new/twin")) },
		func() error { return os.Symlink("../etc", at("new/link")) },
		func() error { return os.Remove(at("link")) },
		func() error { return os.Symlink("elsewhere", at("link")) },
		func() error { return os.Chmod(at("hidden"), 0o555) },
		func() error { return unix.Setxattr(at("attr"), "user.mine", []byte("no"), 0) },
		func() error { return os.Chown(at("hidden/new"), 100, 101) },
		func() error { return os.Rename(at("becomes/dir"), at("a/moved")) },
		func() error { return os.Remove(at("falls")) },
		func() error { return os.Mkdir(at("falls"), 0o755) },
		func() error { return unix.Mkfifo(at("new/pipe"), 0o600) },
		// Same size and same time: only its change time tells.
		func() error { return os.WriteFile(at("hidden/new"), []byte("NEW"), 0) },
		func() error { return os.Chtimes(at("hidden/new"), past, time.Unix(1700000000, 123456789)) },
		func() error { return os.Chtimes(at("new/dirs/file"), past, past) },
	}
	for i, do := range todo {
		if err := do(); err != nil {
			return fmt.Errorf("%d: %w", i, err)
		}
	}
	// Directories' times are the clock's: fix them, deepest first.
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && (d.IsDir() || d.Type().IsRegular() || d.Type()&(fs.ModeNamedPipe|fs.ModeSymlink) != 0) {
			dirs = append(dirs, path)
		}
		return err
	})
	for _, d := range slices.Backward(dirs) {
		ts := []unix.Timespec{{Sec: 1650000000}, {Sec: 1650000000}}
		if st, e := os.Lstat(d); e == nil && (st.IsDir() || time.Since(st.ModTime()) < time.Hour) {
			err = errors.Join(err, unix.UtimesNanoAt(unix.AT_FDCWD, d, ts, unix.AT_SYMLINK_NOFOLLOW))
		}
	}
	return err
}

// TestDrivers holds that every driver shows the same trees and makes the same layers of the same work.
func TestDrivers(t *testing.T) {
	needRootAnywhere(t)
	type result struct {
		base, seen, after []string
		ids, second       []oci.DiffID
	}
	var first *result
	for _, name := range drivers(t) {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, t.TempDir(), name)
			ids := b.base()
			var r result
			r.base = b.see(ids)
			r.ids, r.seen = b.write(ids, work)
			r.after = b.see(r.ids)
			same(t, "the layer made and what was there", r.after, r.seen)
			var again []string
			r.second, again = b.write(r.ids, func(dir string) error {
				if err := os.RemoveAll(filepath.Join(dir, "a")); err != nil {
					return err
				}
				return os.Chtimes(dir, time.Time{}, time.Unix(1650000001, 0))
			})
			same(t, "one more layer", b.see(r.second), again)
			if third, _ := b.write(r.second, func(string) error { return nil }); len(third) != len(r.second) {
				t.Error("a step that did nothing made a layer")
			}
			if first == nil {
				first = &r
				return
			}
			same(t, "the base", r.base, first.base)
			same(t, "after the work", r.after, first.after)
			if !slices.Equal(r.second, first.second) {
				t.Errorf("layers %v, by the first driver %v", r.second[len(ids):], first.second[len(ids):])
			}
		})
	}
}

// needRootAnywhere skips where there is no uid 0 that may mount, in whatever user namespace.
func needRootAnywhere(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs uid 0, of a user namespace at least")
	}
	if err := mount.Private(func() error { return nil }); err != nil {
		t.Skipf("no private mount namespace: %v", err)
	}
}

// TestDriversInUserNamespace is TestDrivers for the marks that a plain user has.
func TestDriversInUserNamespace(t *testing.T) {
	if userns.Namespaced() || os.Getuid() != 0 {
		t.Skip("needs root, outside of a user namespace")
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^(TestDrivers|TestDriversAgree|TestLiveChanges|TestNoMounts)$", "-test.v")
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 65536}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS, UidMappings: ids, GidMappings: ids}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestDriversAgree shows random stacks by every driver.
func TestDriversAgree(t *testing.T) {
	needRootAnywhere(t)
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
		must(t, checks.Value.Set("6")) // each mounts some ten times; -rapid.checks asks for more
	}
	var benches []*bench
	for _, name := range drivers(t) {
		benches = append(benches, newBench(t, t.TempDir(), name))
	}
	rapid.Check(t, func(r *rapid.T) {
		var layers [][]*tar.Header
		for range rapid.IntRange(1, 5).Draw(r, "layers") {
			layers = append(layers, randomLayer(r))
		}
		var want []string
		for i, b := range benches {
			var ids []oci.DiffID
			for _, l := range layers {
				ids = append(ids, b.layer(l...))
			}
			got := b.see(ids)
			if i == 0 {
				want = got
			} else if !slices.Equal(got, want) {
				r.Fatalf("%s shows\n%s\noverlay\n%s", drivers(t)[i], strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
	})
}

func randomLayer(r *rapid.T) (entries []*tar.Header) {
	names := []string{"a", "b", "c"}
	used := map[string]bool{}
	for range rapid.IntRange(0, 8).Draw(r, "entries") {
		var parts []string
		for range rapid.IntRange(1, 3).Draw(r, "depth") {
			parts = append(parts, rapid.SampledFrom(names).Draw(r, "name"))
		}
		p := strings.Join(parts, "/")
		parent, base := filepath.Split(p)
		if used[p] {
			continue
		}
		used[p] = true
		switch rapid.IntRange(0, 4).Draw(r, "kind") {
		case 0:
			entries = append(entries, dir(p, 0o700+int64(rapid.IntRange(0, 63).Draw(r, "mode"))))
		case 1:
			entries = append(entries, file(p, rapid.StringN(0, 9, 9).Draw(r, "body")))
		case 2:
			entries = append(entries, symlink(p+"-link", "a/b"))
		case 3:
			entries = append(entries, file(parent+".wh."+base, ""))
		case 4:
			entries = append(entries, file(p+"/.wh..wh..opq", ""))
		}
	}
	return entries
}

// TestLiveChanges takes the changes of a tree that is in use, twice, and shows it to a reader meanwhile.
func TestLiveChanges(t *testing.T) {
	needRootAnywhere(t)
	for _, name := range drivers(t) {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, t.TempDir(), name)
			ids := b.base()
			at := func(name string) string { return filepath.Join(b.dir, name) }
			m := rootfs.Mount{Target: at("t"), Writable: at("rw")}
			for _, d := range []string{"t", "rw", "look", "copy0", "copy1"} {
				must(t, os.Mkdir(at(d), 0o700))
			}
			must(t, b.stacks.Private(func() error {
				must(t, b.stacks.Mount(ids, m))
				for i := range 2 {
					must(t, os.RemoveAll(at("t/kept")))
					must(t, os.WriteFile(at(fmt.Sprint("t/file", i)), nil, 0o644))
					c, err := b.stacks.Changes(ids, m, at(fmt.Sprint("copy", i)))
					must(t, err)
					changes, err := b.store.Changes(context.Background(), c.Upper, layer.CommitOptions{Lower: c.Lower, Sockets: c.Sockets})
					must(t, err)
					want := []layer.Change{{Path: "/file0", Kind: layer.Added}, {Path: "/file1", Kind: layer.Added}, {Path: "/kept", Kind: layer.Deleted}}
					if i == 0 {
						want = slices.Delete(want, 1, 2)
					}
					if !slices.Equal(changes, want) {
						t.Errorf("changes %v, want %v", changes, want)
					}
				}
				look := rootfs.Mount{Target: at("look"), Over: m.Writable}
				must(t, b.stacks.Mount(ids, look))
				want, err := dump(at("t"))
				must(t, err)
				got, err := dump(at("look"))
				must(t, err)
				same(t, "a second look", got, want)
				if err := os.WriteFile(at("look/file0"), []byte("x"), 0o644); !errors.Is(err, unix.EROFS) {
					t.Errorf("writing through the look: %v", err)
				}
				return errors.Join(b.stacks.Unmount(look), b.stacks.Unmount(m))
			}))
			// A container that is started again goes on where it was.
			must(t, b.stacks.Private(func() error {
				must(t, b.stacks.Mount(ids, m))
				_, err := os.Stat(at("t/file1"))
				_, gone := os.Stat(at("t/kept"))
				if err != nil || !errors.Is(gone, fs.ErrNotExist) {
					t.Errorf("started again: %v, %v", err, gone)
				}
				return b.stacks.Unmount(m)
			}))
		})
	}
}

// TestNoMounts is a process that may mount nothing: it gets the driver that copies, is told so once, and works.
func TestNoMounts(t *testing.T) {
	needRootAnywhere(t)
	if os.Getenv("ROOTFS_TEST_UNPRIVILEGED") == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestNoMounts$", "-test.v")
		cmd.Env = append(os.Environ(), "ROOTFS_TEST_UNPRIVILEGED=1")
		// Docker's default capabilities, which the child's exec as uid 0 takes from the bounding set.
		cmd.Args = append([]string{"setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all"}, append([]string{"/proc/self/exe"}, cmd.Args[1:]...)...)
		path, err := exec.LookPath("setpriv")
		if err != nil {
			t.Skip("setpriv is not installed (package util-linux)")
		}
		self, err := os.Executable()
		must(t, err)
		cmd.Path, cmd.Args[3] = path, self
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	b := newBench(t, t.TempDir(), "")
	said := 0
	store, err := layer.Open(filepath.Join(b.dir, "layers"), layer.Options{Userxattr: true, TempDir: func() (string, error) { return os.MkdirTemp(b.dir, "tmp-") }})
	must(t, err)
	b.store = store
	b.stacks = rootfs.New(store, filepath.Join(b.dir, "fixups"), rootfs.Options{Userxattr: true, Notice: func(driver string, why error) {
		said++
		if driver != rootfs.Copy || !errors.Is(why, unix.EPERM) {
			t.Errorf("told of %s: %v", driver, why)
		}
	}})
	ids, seen := b.write(b.base(), work)
	same(t, "the layer made and what was there", b.see(ids), seen)
	if said != 1 || b.stacks.Driver() != rootfs.Copy || b.stacks.Mounts() {
		t.Errorf("told %d times, driver %q, may mount: %v", said, b.stacks.Driver(), b.stacks.Mounts())
	}
}

// TestUnknownDriver names the ones that there are.
func TestUnknownDriver(t *testing.T) {
	b := newBench(t, t.TempDir(), "zfs")
	err := b.stacks.Private(func() error { return b.stacks.Mount(nil, rootfs.Mount{Target: t.TempDir()}) })
	if err == nil || !strings.Contains(err.Error(), `storage driver "zfs"`) {
		t.Errorf("%v", err)
	}
}
