package rootfs_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/layer"
	"strata/internal/mount"
	"strata/internal/oci"
	"strata/internal/rootfs"
)

// fake is a few layers made by hand.
type fake struct {
	t     *testing.T
	dir   string
	metas map[oci.DiffID]layer.Meta
}

func newFake(t *testing.T) *fake { return &fake{t, t.TempDir(), map[oci.DiffID]layer.Meta{}} }

func (f *fake) Place(id oci.DiffID) (layer.Place, error) {
	return layer.Place{Dir: filepath.Join(f.dir, id.Hex())}, nil
}
func (f *fake) Unpack(context.Context, oci.DiffID) error { return errors.ErrUnsupported }
func (f *fake) Stat(id oci.DiffID) (layer.Meta, error)   { return f.metas[id], nil }

// add makes a layer of directories "name mode" ("name implicit" for one without an entry, "name opaque" also), and
// whiteouts "name whiteout".
func (f *fake) add(root bool, lines ...string) oci.DiffID {
	id := oci.DiffID(fmt.Sprintf("sha256:%064x", len(f.metas)+1))
	meta := layer.Meta{DiffID: id, Root: root}
	dir := filepath.Join(f.dir, id.Hex())
	must(f.t, os.Mkdir(dir, 0o755))
	if root {
		must(f.t, os.Chmod(dir, 0o711))
	}
	for _, line := range lines {
		name, what, _ := strings.Cut(line, " ")
		path := filepath.Join(dir, name)
		if what == "whiteout" {
			must(f.t, unix.Mknod(path, unix.S_IFCHR, 0))
			continue
		}
		must(f.t, os.Mkdir(path, 0o755))
		switch what {
		case "implicit":
			meta.Implicit = append(meta.Implicit, name)
		case "opaque":
			must(f.t, unix.Setxattr(path, "trusted.overlay.opaque", []byte("y"), 0))
		default:
			var mode uint32
			fmt.Sscanf(what, "%o", &mode)
			must(f.t, unix.Setxattr(path, "user.origin", []byte(name), 0))
			must(f.t, os.Chown(path, 7, 8))
			must(f.t, unix.Chmod(path, mode))
			must(f.t, os.Chtimes(path, time.Time{}, time.Unix(int64(mode), 0)))
		}
	}
	f.metas[id] = meta
	return id
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("trusted xattrs, device nodes and owners need root")
	}
	if err := mount.Private(func() error { return nil }); err != nil {
		t.Skipf("no private mount namespace: %v", err)
	}
}

// modes mounts the stack and gives the permissions (and owner) of paths in it.
func modes(t *testing.T, s *rootfs.Stacks, ids []oci.DiffID, paths ...string) (got []string) {
	t.Helper()
	target := t.TempDir()
	must(t, mount.Private(func() error {
		if err := s.Mount(ids, rootfs.Mount{Target: target}); err != nil {
			return err
		}
		for _, p := range paths {
			var st unix.Stat_t
			if err := unix.Lstat(filepath.Join(target, p), &st); err != nil {
				got = append(got, err.Error())
				continue
			}
			buf := make([]byte, 20)
			n, _ := unix.Getxattr(filepath.Join(target, p), "user.origin", buf)
			got = append(got, fmt.Sprintf("%o %d:%d %d %s", st.Mode&0o7777, st.Uid, st.Gid, st.Mtim.Sec, buf[:max(n, 0)]))
		}
		return nil
	}))
	return got
}

func TestFixup(t *testing.T) {
	needRoot(t)
	f := newFake(t)
	base := f.add(true, "tmp 1777", "a 700", "a/b 750", "gone 711", "hidden 711")
	mid := f.add(false, "gone whiteout", "hidden opaque")
	top := f.add(false, "tmp implicit", "tmp/x 755", "a implicit", "a/b implicit", "a/b/new 755", "gone implicit", "gone/y 755", "hidden implicit")
	last := f.add(false, "a implicit", "a/z 755")
	fix := filepath.Join(f.dir, "fix")
	s := rootfs.New(f, fix, rootfs.Options{})
	ids := []oci.DiffID{base, mid, top, last}
	got := modes(t, s, ids, "tmp", "a", "a/b", "gone", "tmp/x", "a/z")
	for i, want := range []string{"1777 7:8 1023 tmp", "700 7:8 ", "750 7:8 488 a/b", "755 0:0 ", "755 7:8 ", "755 7:8 "} {
		if !strings.HasPrefix(got[i], want) {
			t.Errorf("%d: %q, want %q", i, got[i], want)
		}
	}
	if lower, err := s.Lower(ids); err != nil || len(lower) != 6 {
		t.Errorf("lower %q %v", lower, err)
	}
	again := rootfs.New(f, fix, rootfs.Options{})
	if lower, err := again.Lower(ids[:3]); err != nil || len(lower) != 4 || lower[0] != filepath.Join(fix, oci.Chain(ids[:3]).Hex()) {
		t.Errorf("lower %q %v", lower, err)
	}
	left, _ := os.ReadDir(fix)
	if len(left) != 2 {
		t.Errorf("fix-up layers: %v", left)
	}
}

func TestNoFixup(t *testing.T) {
	needRoot(t)
	f := newFake(t)
	ids := []oci.DiffID{f.add(true, "other 700"), f.add(false, "new implicit", "new/x 700")}
	fix := filepath.Join(f.dir, "fix")
	lower, err := rootfs.New(f, fix, rootfs.Options{}).Lower(ids)
	if err != nil || len(lower) != 2 {
		t.Errorf("%q %v", lower, err)
	}
	if _, err := os.Stat(fix); !os.IsNotExist(err) {
		t.Error("a fix-up directory without need")
	}
}

func TestWritableAndEmpty(t *testing.T) {
	needRoot(t)
	f := newFake(t)
	ids := []oci.DiffID{f.add(true, "gone 700"), f.add(false, "gone whiteout")}
	s := rootfs.New(f, filepath.Join(f.dir, "fix"), rootfs.Options{})
	for _, n := range []int{0, 1, 2} {
		target, rw := t.TempDir(), filepath.Join(f.dir, fmt.Sprint("rw", n))
		for range 2 { // a volatile one is mounted again with a fresh work directory
			must(t, mount.Private(func() error {
				if err := s.Mount(ids[:n], rootfs.Mount{Target: target, Writable: rw, Volatile: true}); err != nil {
					return err
				}
				return os.WriteFile(filepath.Join(target, "f"), nil, 0o644)
			}))
		}
		var st unix.Stat_t
		must(t, unix.Stat(filepath.Join(rw, "upper"), &st))
		if want := map[bool]uint32{true: 0o755, false: 0o711}[n == 0]; st.Mode&0o7777 != want {
			t.Errorf("%d layers: upper has mode %o", n, st.Mode)
		}
	}
	if got := modes(t, s, ids[1:], "gone"); !strings.Contains(got[0], "no such file") {
		t.Errorf("a whiteout of the lowest layer is seen: %q", got)
	}
}
