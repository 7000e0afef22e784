package mount

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// inUserns is set in a test process that was started inside a user namespace of its own.
const inUserns = "STRATA_MOUNT_TEST_USERNS"

func needMounts(t *testing.T) {
	t.Helper()
	if err := Private(func() error { return nil }); err != nil {
		t.Skipf("no private mount namespace: %v", err)
	}
}

// userxattr is what overlays in this process need.
func userxattr() bool { return os.Getenv(inUserns) != "" }

func TestInUserNamespace(t *testing.T) {
	if userxattr() {
		t.Skip("is inside already")
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^(TestOverlay|TestBind|TestPrivate)", "-test.v")
	cmd.Env = append(os.Environ(), inUserns+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		t.Skipf("no user namespace: %v", err)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if strings.Contains(string(out), "--- SKIP") {
		t.Logf("some skipped inside:\n%s", out)
	}
}

func layers(t *testing.T, n int) (lower []string) {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		l := filepath.Join(dir, fmt.Sprintf("layer,with:odd\\name%03d", i))
		must(t, os.Mkdir(l, 0o755))
		must(t, os.WriteFile(filepath.Join(l, fmt.Sprintf("file%03d", i)), []byte("x"), 0o644))
		must(t, os.WriteFile(filepath.Join(l, "same"), fmt.Append(nil, i), 0o644))
		lower = append(lower, l)
	}
	return lower
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// checkMerged looks at an overlay of n layers made by the function above.
func checkMerged(target string, n int) error {
	for _, i := range []int{0, n / 2, n - 1} {
		if _, err := os.Stat(filepath.Join(target, fmt.Sprintf("file%03d", i))); err != nil {
			return err
		}
	}
	if b, err := os.ReadFile(filepath.Join(target, "same")); err != nil || string(b) != "0" {
		return fmt.Errorf("top layer does not win: %q %v", b, err)
	}
	return nil
}

func TestOverlayManyLayers(t *testing.T) {
	needMounts(t)
	const n = 420
	lower, target := layers(t, n), t.TempDir()
	must(t, Private(func() error {
		o := Overlay{Lower: lower, Userxattr: userxattr()}
		if err := o.Mount(target); err != nil {
			return err
		}
		return checkMerged(target, n)
	}))
	if entries, _ := os.ReadDir(target); len(entries) != 0 {
		t.Errorf("the mount is seen outside: %d entries", len(entries))
	}
}

func TestOverlayOldAPI(t *testing.T) {
	needMounts(t)
	const n = 180
	lower, target, rw := layers(t, n), t.TempDir(), t.TempDir()
	o := Overlay{Lower: lower, Upper: filepath.Join(rw, "u"), Work: filepath.Join(rw, "w"), Userxattr: userxattr()}
	must(t, os.Mkdir(o.Upper, 0o755))
	must(t, os.Mkdir(o.Work, 0o755))
	must(t, Private(func() error {
		h, err := o.open()
		if err != nil {
			return err
		}
		defer h.close()
		if err := o.mountOld(h, target); err != nil {
			return err
		}
		return checkMerged(target, n)
	}))
}

func TestOverlayWritable(t *testing.T) {
	needMounts(t)
	for _, volatile := range []bool{false, true} {
		lower, target, rw := layers(t, 2), t.TempDir(), t.TempDir()
		o := Overlay{Lower: lower, Upper: filepath.Join(rw, "u"), Work: filepath.Join(rw, "w"), Userxattr: userxattr(), Volatile: volatile}
		must(t, os.Mkdir(o.Upper, 0o755))
		must(t, os.Mkdir(o.Work, 0o755))
		must(t, Private(func() error {
			if err := o.Mount(target); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(target, "new"), []byte("n"), 0o644); err != nil {
				return err
			}
			if err := os.Remove(filepath.Join(target, "file000")); err != nil {
				return err
			}
			info, err := os.ReadFile("/proc/thread-self/mountinfo")
			if err != nil {
				return err
			}
			ours := "" // the machine may have other overlays
			for line := range strings.Lines(string(info)) {
				if strings.Contains(line, " "+target+" ") {
					ours = line
				}
			}
			if !strings.Contains(ours, "redirect_dir=nofollow") {
				return fmt.Errorf("redirect_dir=nofollow is not in effect: %q", ours)
			}
			if volatile != strings.Contains(ours, "volatile") {
				return fmt.Errorf("volatile wanted %v: %q", volatile, ours)
			}
			return Unmount(target)
		}))
		var st unix.Stat_t
		must(t, unix.Lstat(filepath.Join(o.Upper, "file000"), &st))
		if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
			t.Errorf("whiteout has mode %o", st.Mode)
		}
	}
}

func TestOverlayErrors(t *testing.T) {
	needMounts(t)
	target := t.TempDir()
	for name, tc := range map[string]struct {
		o    Overlay
		want error
	}{
		"nothing":  {Overlay{}, errdef.ErrInvalid},
		"too many": {Overlay{Lower: make([]string, MaxLower+1)}, errdef.ErrLimit},
		"missing":  {Overlay{Lower: []string{target, filepath.Join(target, "none")}}, errdef.ErrNotFound},
	} {
		err := Private(func() error { return tc.o.Mount(target) })
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBind(t *testing.T) {
	needMounts(t)
	for name, bind := range map[string]func(source, target string, readonly, recursive bool) error{"tree": Bind, "old": bindOld} {
		source, target := t.TempDir(), t.TempDir()
		must(t, os.Mkdir(filepath.Join(source, "sub"), 0o755))
		must(t, Private(func() error {
			if err := unix.Mount("tmpfs", filepath.Join(source, "sub"), "tmpfs", 0, "size=4k"); err != nil {
				return err
			}
			if err := bind(source, target, true, true); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(target, "f"), nil, 0o644); !errors.Is(err, unix.EROFS) {
				return fmt.Errorf("write through a read-only bind: %v", err)
			}
			if name == "tree" {
				if err := os.WriteFile(filepath.Join(target, "sub", "f"), nil, 0o644); !errors.Is(err, unix.EROFS) {
					return fmt.Errorf("write into a submount of a read-only bind: %v", err)
				}
			}
			if err := Unmount(target); err != nil {
				return err
			}
			return bind(source, target, false, false)
		}))
	}
}

func TestPrivateChildSeesMounts(t *testing.T) {
	needMounts(t)
	source, target := layers(t, 1)[0], t.TempDir()
	for range 20 { // also when the goroutine comes to stand on the process's first thread
		must(t, Private(func() error {
			if err := Bind(source, target, true, false); err != nil {
				return err
			}
			out, err := exec.Command("ls", target).CombinedOutput()
			if !strings.Contains(string(out), "file000") {
				return fmt.Errorf("child sees %q: %v", out, err)
			}
			return nil
		}))
	}
	if entries, _ := os.ReadDir(target); len(entries) != 0 {
		t.Error("the mount is seen outside")
	}
}

func TestPrivateGoexit(t *testing.T) {
	needMounts(t)
	err := Private(func() error { runtime.Goexit(); return nil })
	if err == nil {
		t.Error("no error from a function that never returned")
	}
}
