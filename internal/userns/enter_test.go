package userns_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/userns"
)

// plainUser owns nothing on the machine and stands in no file of it.
const plainUser = 12345

// facts are what the child of a test, the test binary itself, reports of where it runs.
type facts struct {
	UID, GID       int
	Active, Single bool
	Cwd, Inode     string
	Args           []string
	Root, Run      string
	UIDMap         string
	Chown, Mount   string // error texts
	Error, Hint    string
	Notices        []string
}

// TestMain makes the test binary the program that enters, and the pause process.
func TestMain(m *testing.M) {
	switch {
	case os.Args[0] == userns.PauseName:
		os.Exit(userns.PauseMain())
	case os.Getenv("USERNS_TEST_ETC") != "":
		os.Exit(inPrivateEtc(os.Getenv("USERNS_TEST_ETC")))
	case os.Getenv("USERNS_TEST_STORE") != "":
		report()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func report() {
	var f facts
	if userns.MustEnter() {
		err := userns.Enter(context.Background(), userns.EnterOptions{
			Root:   os.Getenv("USERNS_TEST_STORE"),
			Notice: func(s string) { fmt.Fprintln(os.Stderr, "notice:", s) },
		})
		f.Error, f.Hint = err.Error(), errdef.Hint(err)
	}
	f.UID, f.GID, f.Active, f.Single = os.Getuid(), os.Getgid(), userns.Active(), userns.Single()
	f.Cwd, _ = os.Readlink("/proc/self/cwd")
	f.Inode, _ = os.Readlink("/proc/self/ns/user")
	f.Args = os.Args[1:]
	f.Root, f.Run = os.Getenv("STRATA_ROOT"), os.Getenv("STRATA_RUN")
	uidMap, _ := os.ReadFile("/proc/self/uid_map")
	f.UIDMap = strings.Join(strings.Fields(string(uidMap)), " ")
	if dir, err := os.MkdirTemp(os.Getenv("USERNS_TEST_STORE"), ""); err == nil {
		f.Chown, f.Mount = fmt.Sprint(os.Chown(dir, 33, 33)), fmt.Sprint(unix.Mount("tmpfs", dir, "tmpfs", 0, ""))
		_ = unix.Unmount(dir, unix.MNT_DETACH)
		_ = os.Remove(dir)
	}
	_ = json.NewEncoder(os.Stdout).Encode(f)
}

// inPrivateEtc runs the rest of the command line, as the plain user, where /etc/subuid and its like are those of dir.
func inPrivateEtc(dir string) int {
	for _, name := range []string{"passwd", "subuid", "subgid"} {
		if err := unix.Mount(filepath.Join(dir, name), "/etc/"+name, "", unix.MS_BIND, ""); err != nil {
			fmt.Fprintln(os.Stderr, name, err)
			return 1
		}
	}
	os.Unsetenv("USERNS_TEST_ETC")
	cmd := exec.Command(os.Args[1], os.Args[2:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: plainUser, Gid: plainUser}}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// house is a directory of the plain user with an installation of the test binary, a store and a run directory.
type house struct {
	dir, program string
	credential   *syscall.Credential
	etc          string // private /etc, if any
}

func newHouse(t *testing.T, withHelper bool) *house {
	t.Helper()
	if setting, _ := userns.Forbidden("/proc"); setting != "" {
		t.Skip("user namespaces are forbidden here: " + setting)
	}
	dir, err := os.MkdirTemp("", "userns") // t.TempDir may lie below a directory that the plain user cannot enter
	if err != nil {
		t.Fatal(err)
	}
	h := &house{dir: dir, program: filepath.Join(dir, "bin", "program")}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Cleanup(h.endPauses)
	for _, sub := range []string{"bin", "store", "run", "work"} {
		must(t, os.Mkdir(filepath.Join(dir, sub), 0o700))
	}
	copyFile(t, "/proc/self/exe", h.program)
	if withHelper {
		h.buildHelper(t)
	}
	if os.Geteuid() == 0 {
		h.credential = &syscall.Credential{Uid: plainUser, Gid: plainUser}
		must(t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(path, plainUser, plainUser)
		}))
	}
	return h
}

func (h *house) buildHelper(t *testing.T) {
	t.Helper()
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("no C compiler (cc) to build strata-enter with")
	}
	out, err := exec.Command(cc, "-o", filepath.Join(h.dir, "bin", "strata-enter"), "../../cmd/strata-enter/strata-enter.c").CombinedOutput()
	if err != nil {
		t.Fatalf("cc: %v\n%s", err, out)
	}
}

// endPauses ends the pause processes that the house's commands left.
func (h *house) endPauses() {
	records, _ := filepath.Glob(filepath.Join(h.dir, "run", "userns-*.json"))
	for _, path := range records {
		if pid := recorded(path); pid > 1 {
			_ = unix.Kill(pid, unix.SIGTERM)
		}
	}
}

func recorded(path string) int {
	var r struct{ PID int }
	data, _ := os.ReadFile(path)
	_ = json.Unmarshal(data, &r)
	return r.PID
}

// run runs the program as the plain user and gives its report.
func (h *house) run(t *testing.T, args ...string) (facts, string) {
	t.Helper()
	cmd := exec.Command(h.program, args...)
	cmd.Env = append(os.Environ(), "USERNS_TEST_STORE="+filepath.Join(h.dir, "store"), "STRATA_RUN="+filepath.Join(h.dir, "run"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: h.credential}
	if h.etc != "" {
		cmd.Args = append([]string{h.program, h.program}, args...)
		cmd.Env = append(cmd.Env, "USERNS_TEST_ETC="+h.etc)
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	}
	cmd.Dir = filepath.Join(h.dir, "work")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var f facts
	if err != nil || json.Unmarshal(out, &f) != nil {
		t.Errorf("%v: %s%s", err, out, &stderr)
	}
	return f, stderr.String()
}

func TestEnterSingle(t *testing.T) {
	for name, withHelper := range map[string]bool{"strata-enter": true, "nsenter": false} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, withHelper)
			if _, err := exec.LookPath("nsenter"); !withHelper && err != nil {
				t.Skip("nsenter is not installed")
			}
			first, notices := h.run(t, "build", "", "a b")
			if os.Getuid() != 0 && !first.Single {
				t.Skip("this user has ranges of ids")
			}
			want := facts{
				Active: true, Single: true, Cwd: filepath.Join(h.dir, "work"), Args: []string{"build", "", "a b"},
				Root: filepath.Join(h.dir, "store"), Run: filepath.Join(h.dir, "run"), UIDMap: first.UIDMap, Inode: first.Inode,
				Chown: first.Chown, Mount: "<nil>",
			}
			if !withHelper {
				want.Cwd = first.Cwd // /proc cannot tell it there; os.Getwd can, by $PWD
			}
			if got, want := fmt.Sprintf("%+v", first), fmt.Sprintf("%+v", want); got != want {
				t.Errorf("inside:\n got %s\nwant %s", got, want)
			}
			if uid := h.uid(); first.UIDMap != fmt.Sprintf("0 %d 1", uid) {
				t.Errorf("uid map %q, want uid %d alone", first.UIDMap, uid)
			}
			if strings.Count(notices, "notice: only your own user id") != 1 {
				t.Errorf("notices of the first entry: %q", notices)
			}
			second, notices := h.run(t)
			if second.Inode != first.Inode || notices != "" {
				t.Errorf("second entry: namespace %s (first: %s), notices %q", second.Inode, first.Inode, notices)
			}
		})
	}
}

func (h *house) uid() int {
	if h.credential != nil {
		return int(h.credential.Uid)
	}
	return os.Getuid()
}

func TestEnterRanges(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: lays its own /etc/subuid over the machine's")
	}
	if _, err := exec.LookPath("newuidmap"); err != nil {
		t.Skip("newuidmap is not installed (package uidmap)")
	}
	h := newHouse(t, true)
	h.etc = filepath.Join(h.dir, "etc")
	must(t, os.Mkdir(h.etc, 0o755))
	must(t, os.Chmod(h.dir, 0o755))
	for name, text := range map[string]string{
		"passwd": "root:x:0:0::/:/bin/sh\nplain:x:12345:12345::/:/bin/sh\n",
		"subuid": "other:1:1\nplain:200000:1000\n12345:300000:64536\n",
		"subgid": "plain:200000:65536\n",
	} {
		must(t, os.WriteFile(filepath.Join(h.etc, name), []byte(text), 0o644))
	}
	f, notices := h.run(t)
	if want := "0 12345 1 1 200000 1000 1001 300000 64536"; f.UIDMap != want || f.Single || !f.Active {
		t.Errorf("uid map %q (single %v, active %v), want %q; %s", f.UIDMap, f.Single, f.Active, want, notices)
	}
	if f.Chown != "<nil>" || notices != "" {
		t.Errorf("chown: %s, notices: %s", f.Chown, notices)
	}
}

func TestEnterTogether(t *testing.T) {
	h := newHouse(t, true)
	inodes := make([]string, 8)
	var all sync.WaitGroup
	for i := range inodes {
		all.Go(func() {
			f, _ := h.run(t)
			inodes[i] = f.Inode
		})
	}
	all.Wait()
	for _, ino := range inodes {
		if ino == "" || ino != inodes[0] {
			t.Fatalf("commands at once are in different namespaces: %q", inodes)
		}
	}
}

func TestEnterAfterPauseDied(t *testing.T) {
	h := newHouse(t, true)
	first, _ := h.run(t)
	records, _ := filepath.Glob(filepath.Join(h.dir, "run", "userns-*.json"))
	if len(records) != 1 {
		t.Fatalf("records: %q", records)
	}
	pid := recorded(records[0])
	for _, sig := range []unix.Signal{unix.SIGHUP, unix.SIGINT} {
		must(t, unix.Kill(pid, sig))
	}
	if f, _ := h.run(t); f.Inode != first.Inode {
		t.Errorf("the pause process died of a session's signals")
	}
	must(t, unix.Kill(pid, unix.SIGTERM))
	awaitEnd(pid)
	if f, _ := h.run(t); !f.Active {
		t.Errorf("after the pause process ended: %+v", f)
	}
	h.endPauses()
	// The pid of another process, as after a reboot.
	must(t, os.WriteFile(records[0], fmt.Appendf(nil, `{"pid":%d,"start":1,"userns":1}`, os.Getpid()), 0o666))
	if f, _ := h.run(t); !f.Active {
		t.Errorf("with a stale record: %+v", f)
	}
}

func awaitEnd(pid int) {
	if fd, err := unix.PidfdOpen(pid, 0); err == nil {
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		unix.Close(fd)
	}
}

func TestMarkerAloneProvesNothing(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	ino, _ := os.Readlink("/proc/self/ns/user")
	cmd.Env = append(os.Environ(), "USERNS_TEST_STORE="+t.TempDir(), "STRATA_RUN="+t.TempDir(),
		"STRATA_USERNS="+strings.Trim(ino, "user:[]"))
	if os.Geteuid() != 0 {
		t.Skip("as a plain user the child would enter")
	}
	out, err := cmd.Output()
	var f facts
	if err != nil || json.Unmarshal(out, &f) != nil || f.Active {
		t.Errorf("err %v, active %v", err, f.Active)
	}
}

func TestRunDirRefusesForeign(t *testing.T) {
	link := filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink(t.TempDir(), link))
	open := filepath.Join(t.TempDir(), "open")
	must(t, os.Mkdir(open, 0o700))
	must(t, os.Chmod(open, 0o777))
	for _, dir := range []string{link, open} {
		if _, err := userns.RunDir(dir); err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("%s: %v", dir, err)
		}
	}
	made := filepath.Join(t.TempDir(), "a", "b")
	if got, err := userns.RunDir(made); err != nil || got != made {
		t.Errorf("RunDir = %q, %v", got, err)
	}
}

func TestForbidden(t *testing.T) {
	proc := t.TempDir()
	if setting, fix := userns.Forbidden(proc); setting+fix != "" {
		t.Errorf("nothing set: %q %q", setting, fix)
	}
	must(t, os.MkdirAll(filepath.Join(proc, "sys/user"), 0o755))
	must(t, os.WriteFile(filepath.Join(proc, "sys/user/max_user_namespaces"), []byte("0\n"), 0o644))
	setting, fix := userns.Forbidden(proc)
	if setting != "user.max_user_namespaces = 0" || !strings.Contains(fix, "sysctl -w user.max_user_namespaces=") {
		t.Errorf("Forbidden = %q, %q", setting, fix)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	must(t, err)
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE, 0o755)
	must(t, err)
	_, err = io.Copy(out, in)
	must(t, err)
	must(t, out.Close())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
