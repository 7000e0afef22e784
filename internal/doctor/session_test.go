package doctor_test

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"strata/internal/doctor"
	"strata/internal/mount"
)

// TestAppArmor: a restriction is a blocker for a plain user, and none for root.
func TestAppArmor(t *testing.T) {
	restricted := system(t, map[string]string{"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"})
	got := run(t, doctor.Options{System: restricted})["apparmor"]
	want := doctor.Fail
	if os.Geteuid() == 0 {
		want = doctor.OK
	}
	if got.Status != want || !strings.Contains(got.Detail, "restricts") {
		t.Errorf("%+v", got)
	}
	if got := run(t, doctor.Options{System: t.TempDir()})["apparmor"]; got.Status != doctor.OK {
		t.Errorf("without the setting: %+v", got)
	}
}

// TestSession is what a plain user's login gives.
func TestSession(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "")
	systemd := system(t, map[string]string{"run/systemd/system/x": ""})
	checks := run(t, doctor.Options{System: systemd})
	want := doctor.Warn
	if os.Geteuid() == 0 {
		want = doctor.OK
	}
	if got := checks["linger"]; got.Status != want {
		t.Errorf("%+v", got)
	}
	if got := run(t, doctor.Options{System: t.TempDir()})["linger"]; got.Status != doctor.OK {
		t.Errorf("without systemd: %+v", got)
	}
}

// TestStorePlace is a store on file systems that lack something.
func TestStorePlace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	for option, want := range map[string]doctor.Status{"": doctor.OK, "noexec": doctor.Fail, "nosuid": doctor.Warn} {
		dir := t.TempDir()
		err := mount.Private(func() error {
			flags := map[string]uintptr{"noexec": unix.MS_NOEXEC, "nosuid": unix.MS_NOSUID}[option]
			if err := unix.Mount("tmpfs", dir, "tmpfs", flags, ""); err != nil {
				return err
			}
			if got := run(t, doctor.Options{Root: dir})["noexec"]; got.Status != want {
				t.Errorf("mounted %q: %+v, want %s", option, got, want)
			}
			return nil
		})
		if err != nil {
			t.Skipf("no private mounts: %v", err)
		}
	}
}
