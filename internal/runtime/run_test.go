package runtime_test

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/mount"
	"strata/internal/runtime"
	"strata/internal/userns"
)

// In a container of these tests the only program is /prog, a copy of the test binary.
const (
	prog     = "/prog"
	inUserns = "STRATA_RUNTIME_TEST_USERNS"
)

func TestMain(m *testing.M) {
	if os.Args[0] == prog {
		os.Exit(inside(os.Args[1:]))
	}
	if os.Args[0] == userns.PauseName {
		os.Exit(userns.PauseMain())
	}
	if err := runtime.Reap(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// inside is what /prog does in a container.
func inside(args []string) int {
	switch args[0] {
	case "exit":
		n, _ := strconv.Atoi(args[1])
		return n
	case "echo":
		fmt.Println(strings.Join(args[1:], " "))
	case "cat":
		io.Copy(os.Stdout, os.Stdin)
	case "sleep":
		fmt.Println("ready")
		time.Sleep(time.Minute)
	case "tty":
		ws, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
		fmt.Println("size", ws, err)
	case "facts":
		facts()
	case "check":
		checkInside()
	case "suicide":
		unix.Kill(os.Getppid(), unix.SIGKILL)
	}
	return 0
}

func facts() {
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "Cap") || strings.HasPrefix(line, "Seccomp:") || strings.HasPrefix(line, "Groups") {
			fmt.Print(line)
		}
	}
	links, _ := os.ReadDir("/sys/class/net")
	fmt.Println("links:", len(links))
	for _, path := range []string{"/dev/null", "/dev/pts", "/dev/shm", "/dev/mqueue", "/proc/self", "/sys/kernel"} {
		if _, err := os.Stat(path); err != nil {
			fmt.Println("missing:", err)
		}
	}
	kcore, err := os.ReadFile("/proc/keys")
	fmt.Println("masked:", len(kcore), err)
	fmt.Println("readonly:", os.WriteFile("/proc/sys/kernel/domainname", []byte("x"), 0))
	host, _ := os.Hostname()
	fmt.Println("host:", host, "pid:", os.Getpid(), "uid:", os.Getuid(), "gid:", os.Getgid())
	wd, _ := os.Getwd()
	fmt.Println("cwd:", wd)
}

// box is a root file system, a runtime and a place for bundles.
type box struct {
	*runtime.Runtime
	root, bundle string
}

func newBox(t *testing.T) box {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root (TestRootless runs as anyone)")
	}
	r, err := runtime.Find(os.Getenv("STRATA_TEST_RUNTIME"))
	if err != nil {
		t.Skipf("no container runtime: %v", err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if f, err := elf.Open(self); err == nil {
		defer f.Close()
		if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
			t.Skip("the test binary is not static (CGO_ENABLED=0 makes it so)")
		}
	}
	dir := t.TempDir()
	r.State, r.Filters = filepath.Join(dir, "state"), filepath.Join(dir, "filters")
	b := box{r, filepath.Join(dir, "root"), filepath.Join(dir, "bundle")}
	for _, d := range []string{"proc", "sys", "dev", "etc"} {
		must(t, os.MkdirAll(filepath.Join(b.root, d), 0o755))
	}
	if err := os.Link(self, b.root+prog); err != nil {
		data, err := os.ReadFile(self)
		must(t, err)
		must(t, os.WriteFile(b.root+prog, data, 0o755))
	}
	must(t, os.Chmod(dir, 0o711))
	return b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (b box) params(args ...string) runtime.Params {
	return runtime.Params{
		Process:     runtime.Process{Args: args, Env: []string{"PATH=/bin"}, Caps: runtime.ContainerCaps(true)},
		RootPath:    b.root,
		Hostname:    "box",
		Seccomp:     true,
		Rootless:    os.Getenv(inUserns) != "",
		SingleID:    os.Getenv(inUserns) != "",
		HostNetwork: false,
	}
}

func (b box) write(t *testing.T, p runtime.Params) {
	t.Helper()
	spec, err := runtime.Spec(p)
	must(t, err)
	must(t, runtime.WriteBundle(b.bundle, spec))
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	must(t, err)
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

func id(t *testing.T) string {
	return fmt.Sprintf("strata-test-%s-%d", t.Name(), os.Getpid())
}

func TestRealRun(t *testing.T) {
	b := newBox(t)
	b.write(t, b.params(prog, "exit", "7"))
	var pid int
	code, err := b.Run(t.Context(), id(t), b.bundle, runtime.Stdio{}, func(p int) { pid = p })
	if err != nil || code != 7 {
		t.Fatalf("code %d, %v", code, err)
	}
	if pid == 0 {
		t.Error("not told of the start")
	}
	nothingLeft(t, b)
}

func nothingLeft(t *testing.T, b box) {
	t.Helper()
	left, err := os.ReadDir(b.State)
	must(t, err)
	for _, e := range left {
		t.Errorf("left in the state directory: %s", e.Name())
	}
}

func TestRealFacts(t *testing.T) {
	b := newBox(t)
	p := b.params(prog, "facts")
	p.Process.Cwd = "/srv/dir"
	if !p.SingleID {
		p.Process.UID, p.Process.GID, p.Process.Groups = 1000, 100, []uint32{100, 7}
		p.Process.Caps = runtime.BuildCaps()
	}
	b.write(t, p)
	r, w := pipe(t)
	code, err := b.Run(t.Context(), id(t), b.bundle, runtime.Stdio{Out: w, Err: w}, nil)
	w.Close()
	out, _ := io.ReadAll(r)
	if err != nil || code != 0 {
		t.Fatalf("code %d, %v\n%s", code, err, out)
	}
	want := []string{"Seccomp:\t2", "links: 1", "masked: 0", "readonly: open /proc/sys/kernel/domainname: read-only file system", "host: box pid: 1", "cwd: /srv/dir", "CapInh:\t0000000000000000"}
	if !p.SingleID {
		want = append(want, "uid: 1000 gid: 100", "Groups:\t7 100", "CapEff:\t0000000000000000", "CapBnd:\t00000000a80425fb")
	}
	for _, w := range want {
		if !strings.Contains(string(out), w) {
			t.Errorf("no %q in:\n%s", w, out)
		}
	}
	if strings.Contains(string(out), "missing:") {
		t.Errorf("%s", out)
	}
}

func TestRealHostNetwork(t *testing.T) {
	b := newBox(t)
	p := b.params(prog, "facts")
	p.HostNetwork, p.ReadOnly = true, true
	must(t, os.MkdirAll(filepath.Join(b.root, "work"), 0o755))
	b.write(t, p)
	r, w := pipe(t)
	code, err := b.Run(t.Context(), id(t), b.bundle, runtime.Stdio{Out: w, Err: w}, nil)
	w.Close()
	out, _ := io.ReadAll(r)
	links, _ := os.ReadDir("/sys/class/net")
	if err != nil || code != 0 || !strings.Contains(string(out), fmt.Sprintf("links: %d\n", len(links))) {
		t.Errorf("code %d, %v\n%s", code, err, out)
	}
}

func TestRealStartExecKill(t *testing.T) {
	b := newBox(t)
	b.write(t, b.params(prog, "sleep"))
	r, w := pipe(t)
	name := id(t)
	ctx := t.Context()
	pid, console, err := b.Start(ctx, name, b.bundle, runtime.Stdio{Out: w})
	must(t, err)
	defer b.Delete(context.Background(), name, true)
	if console != nil {
		t.Error("a terminal that nobody asked for")
	}
	buf := make([]byte, 6)
	if _, err := io.ReadFull(r, buf); err != nil || string(buf) != "ready\n" {
		t.Fatalf("%q %v", buf, err)
	}
	s, err := b.Status(ctx, name)
	if err != nil || s.Status != "running" || s.Pid != pid {
		t.Errorf("state %+v, %v", s, err)
	}
	pids, err := b.Pids(ctx, name)
	if err != nil || !slices.Equal(pids, []int{pid}) {
		t.Errorf("pids %v, want [%d], %v", pids, pid, err)
	}

	in, inW := pipe(t)
	outR, out := pipe(t)
	p := b.params(prog, "cat").Process
	epid, _, err := b.Exec(ctx, name, b.bundle, *p.Spec(), runtime.Stdio{In: in, Out: out})
	must(t, err)
	in.Close()
	out.Close()
	fmt.Fprint(inW, "hello")
	inW.Close()
	if got, _ := io.ReadAll(outR); string(got) != "hello" {
		t.Errorf("exec'ed cat gave %q", got)
	}
	if code, err := runtime.Wait(ctx, epid); code != 0 || err != nil {
		t.Errorf("exec: %d, %v", code, err)
	}
	p.Args = []string{"nosuch"}
	_, _, err = b.Exec(ctx, name, b.bundle, *p.Spec(), runtime.Stdio{})
	startError(t, err, 127, `exec: "nosuch": executable file not found in $PATH`)

	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if _, err := runtime.Wait(short, pid); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait past its time: %v", err)
	}
	if err := b.Delete(ctx, name, false); !errors.Is(err, errdef.ErrConflict) {
		t.Errorf("delete of a running container: %v", err)
	}
	must(t, b.Kill(ctx, name, unix.SIGKILL, true))
	if code, err := runtime.Wait(ctx, pid); code != 137 || err != nil {
		t.Errorf("killed: %d, %v", code, err)
	}
	must(t, b.Delete(ctx, name, false))
	if err := b.Delete(ctx, name, false); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
	must(t, b.Delete(ctx, name, true))
	nothingLeft(t, b)
}

func TestRealForceDelete(t *testing.T) {
	b := newBox(t)
	b.write(t, b.params(prog, "sleep"))
	pid, _, err := b.Start(t.Context(), id(t), b.bundle, runtime.Stdio{})
	must(t, err)
	must(t, b.Kill(t.Context(), id(t), unix.SIGURG, false)) // ignored by Go programs
	must(t, b.Delete(t.Context(), id(t), true))
	if code, err := runtime.Wait(t.Context(), pid); code != 137 || err != nil {
		t.Errorf("killed: %d, %v", code, err)
	}
	nothingLeft(t, b)
}

func TestRealCancel(t *testing.T) {
	b := newBox(t)
	b.write(t, b.params(prog, "sleep"))
	ctx, cancel := context.WithCancel(t.Context())
	_, err := b.Run(ctx, id(t), b.bundle, runtime.Stdio{}, func(int) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	nothingLeft(t, b)
}

func TestRealTerminal(t *testing.T) {
	b := newBox(t)
	if len(b.State) < 110 {
		b.State = filepath.Join(b.State, strings.Repeat("long", 30)) // more than a socket address holds
	}
	p := b.params(prog, "tty")
	p.Process.Terminal, p.Process.Width, p.Process.Height = true, 91, 17
	b.write(t, p)
	pid, console, err := b.Start(t.Context(), id(t), b.bundle, runtime.Stdio{})
	must(t, err)
	defer console.Close()
	out, _ := io.ReadAll(console) // ends with EIO when the last holder of the terminal has ended
	if !bytes.Contains(out, []byte("size &{17 91 0 0} <nil>")) {
		t.Errorf("terminal says %q", out)
	}
	if code, err := runtime.Wait(t.Context(), pid); code != 0 || err != nil {
		t.Errorf("%d, %v", code, err)
	}
	must(t, b.Delete(t.Context(), id(t), false))
	nothingLeft(t, b)
}

func startError(t *testing.T, err error, exit int, message string) {
	t.Helper()
	var se *runtime.StartError
	if !errors.As(err, &se) {
		t.Fatalf("no StartError: %v", err)
	}
	if se.Exit != exit || !strings.Contains(se.Message, message) {
		t.Errorf("%d %q, want %d %q (raw %q)", se.Exit, se.Message, exit, message, se.Raw)
	}
}

func TestRealStartErrors(t *testing.T) {
	b := newBox(t)
	must(t, os.WriteFile(filepath.Join(b.root, "plain"), []byte("x"), 0o644))
	for _, tc := range []struct {
		arg, message string
		exit         int
	}{
		{"nosuch", `exec: "nosuch": executable file not found in $PATH`, 127},
		{"/no/such", `exec: "/no/such": stat /no/such: no such file or directory`, 127},
		{"/plain", `exec: "/plain": permission denied`, 126},
	} {
		b.write(t, b.params(tc.arg))
		_, _, err := b.Start(t.Context(), id(t), b.bundle, runtime.Stdio{})
		startError(t, err, tc.exit, tc.message)
		_, err = b.Run(t.Context(), id(t), b.bundle, runtime.Stdio{}, func(int) { t.Errorf("%s has started", tc.arg) })
		startError(t, err, tc.exit, tc.message)
	}
	nothingLeft(t, b)
}

// TestRealPrivateMounts: the runtime sees a root file system that is mounted in this thread's namespace only.
func TestRealPrivateMounts(t *testing.T) {
	b := newBox(t)
	target := t.TempDir()
	p := b.params(prog, "exit", "3")
	p.RootPath = target
	b.write(t, p)
	var pid int
	must(t, mount.Private(func() (err error) {
		if err := mount.Bind(b.root, target, false, false); err != nil {
			return err
		}
		pid, _, err = b.Start(t.Context(), id(t), b.bundle, runtime.Stdio{})
		return err
	}))
	if code, err := runtime.Wait(t.Context(), pid); code != 3 || err != nil {
		t.Errorf("%d, %v", code, err)
	}
	must(t, b.Delete(t.Context(), id(t), false))
}

// TestRootless runs the others as root of a user namespace that has a single id.
func TestRootless(t *testing.T) {
	if os.Getenv(inUserns) != "" {
		t.Skip("is inside already")
	}
	if _, err := runtime.Find(""); err != nil {
		t.Skipf("no container runtime: %v", err)
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestReal", "-test.v")
	cmd.Env = append(os.Environ(), inUserns+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Skipf("no user namespace: %v", err)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%d ran inside, %d skipped", strings.Count(string(out), "--- PASS"), strings.Count(string(out), "--- SKIP"))
}
