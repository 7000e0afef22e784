package disk_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"strata/internal/disk"
)

// TestRemoveAll removes, as a plain user, directories in which nothing may be removed.
func TestRemoveAll(t *testing.T) {
	if os.Geteuid() == 0 {
		dir := t.TempDir()
		if err := os.Chown(dir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestRemoveAll$")
		cmd.Env, cmd.Dir = append(os.Environ(), "STRATA_TEST_DIR="+dir), "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // a temporary directory is its maker's alone
			t.Fatal(err)
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	top := os.Getenv("STRATA_TEST_DIR")
	if top == "" {
		top = t.TempDir()
	}
	deep := filepath.Join(top, "tree", "a", "b")
	if err := os.MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(deep, "file"), nil, 0o400); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{deep, filepath.Dir(deep)} {
		if err := os.Chmod(dir, 0o100); err != nil {
			t.Fatal(err)
		}
	}
	if err := disk.RemoveAll(filepath.Join(top, "tree")); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Join(top, "tree")); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
}
