package mount

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// mapped is where the tests' user namespace has its id 0.
const mapped = 200_000

// users makes a user namespace. The process in it does nothing.
func users(t *testing.T) *Users {
	t.Helper()
	if os.Geteuid() != 0 || userxattr() {
		t.Skip("mapping the owners of a mount takes root")
	}
	cmd := exec.Command("sleep", "60")
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: mapped, Size: 65536}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids}
	if err := cmd.Start(); err != nil {
		t.Skipf("no user namespace: %v", err)
	}
	defer func() { _ = cmd.Wait() }() // it was killed
	defer func() { _ = cmd.Process.Kill() }()
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", cmd.Process.Pid))
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return &Users{f, mapped, mapped}
}

func owner(path string) string {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d:%d", st.Uid, st.Gid)
}

func TestIdmap(t *testing.T) {
	needMounts(t)
	ns, dir, target := users(t), t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "f"), nil, 0o600))
	must(t, os.Chown(filepath.Join(dir, "f"), 7, 8))
	must(t, Private(func() error {
		tree, err := Idmap(dir, ns, true)
		if errors.Is(err, errdef.ErrUnsupported) {
			t.Skip(err)
		}
		if err != nil {
			return err
		}
		defer tree.Close()
		if err := Attach(tree, target); err != nil {
			return err
		}
		if got := owner(filepath.Join(target, "f")); got != "200007:200008" {
			return fmt.Errorf("owner %s", got)
		}
		return nil
	}))
	if _, err := Idmap("/proc", ns, false); !errors.Is(err, errdef.ErrUnsupported) {
		t.Errorf("a file system that cannot: %v", err)
	}
}

// What a process of the namespace writes has, in the upper directory, the owners that it has without one.
func TestOverlayIdmapped(t *testing.T) {
	needMounts(t)
	ns, lower, rw, target := users(t), layers(t, 3), t.TempDir(), t.TempDir()
	must(t, os.Chmod(filepath.Dir(target), 0o755))
	must(t, os.Chmod(target, 0o755))
	o := Overlay{Lower: lower, Upper: filepath.Join(rw, "upper"), Work: filepath.Join(rw, "work"), Users: ns}
	for _, d := range []string{o.Upper, o.Work} {
		must(t, os.Mkdir(d, 0o755))
	}
	must(t, os.Chown(filepath.Join(lower[0], "same"), 5, 6))
	must(t, Private(func() error {
		if err := o.Mount(target); err != nil {
			return err
		}
		if got := owner(filepath.Join(target, "same")); got != "200005:200006" {
			return fmt.Errorf("owner of a file below: %s", got)
		}
		if err := os.Chown(filepath.Join(target, "same"), mapped+9, mapped+9); err != nil {
			return err
		}
		if err := os.Mkdir(filepath.Join(target, "roots"), 0o755); err == nil {
			return errors.New("a user who is not of the namespace made a directory")
		}
		return ns.As(func() error { return os.WriteFile(filepath.Join(target, "new"), nil, 0o600) })
	}))
	for file, want := range map[string]string{"same": "9:9", "new": "0:0"} {
		if got := owner(filepath.Join(o.Upper, file)); got != want {
			t.Errorf("%s belongs to %s, want %s", file, got, want)
		}
	}
}
