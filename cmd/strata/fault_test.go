//go:build linux && amd64

package main_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"golang.org/x/sys/unix"
)

// The fault suites (TestFault…) do to a store what machines do: processes die between any two system calls, power goes, disks
// fill up, lie and rot. After each fault the store must be whole by `strata system check`, what was reported must be there, and what was cut
// short must work when it is done again. `make test` injects a few, `make fault` (STRATA_FAULTS=full) many. Each suite
// works in a mount namespace of its own, on disks of its own: what it mounts ends with it.

// faults is how many faults a suite injects. STRATA_FAULTS=N is any other number.
func faults(short, full int) int {
	switch v := os.Getenv("STRATA_FAULTS"); v {
	case "":
		return short
	case "full":
		return full
	default:
		n, err := strconv.Atoi(v)
		if err != nil {
			return short
		}
		return n
	}
}

// apart runs the test again, in mount and network namespaces of its own and beside other tests, and reports whether this is that run.
func apart(t *testing.T) bool {
	const mark = "STRATA_FAULT_APART"
	if os.Getenv(mark) == t.Name() {
		return true
	}
	if os.Getuid() != 0 {
		t.Skip("needs root: mounts and tracing")
	}
	t.Parallel()
	programs := bin(t)
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=0")
	cmd.Env = append(os.Environ(), mark+"="+t.Name(), "STRATA_BIN="+programs)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	for line := range strings.Lines(out.String()) {
		if _, said, ok := strings.Cut(line, "faults injected"); ok && err == nil {
			t.Logf("%s faults injected%s", strings.TrimSpace(line[:strings.Index(line, " faults injected")]), strings.TrimSpace(said))
		}
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	return false
}

// lab is a store on a disk of its own, and what is done to it.
type lab struct {
	t        *testing.T
	programs string
	dir      string // on a tmpfs
	root     string // the store
	registry string // host:port of a registry
	more     []string
}

// newLab makes a tmpfs for disks and a registry.
func newLab(t *testing.T) *lab {
	l := &lab{t: t, programs: bin(t), dir: t.TempDir()}
	l.check(unix.Mount("tmpfs", l.dir, "tmpfs", 0, "size=6g"))
	t.Cleanup(func() { _ = unix.Unmount(l.dir, unix.MNT_DETACH) })
	for _, sub := range []string{"run", "home", "disk"} {
		l.check(os.Mkdir(filepath.Join(l.dir, sub), 0o755))
	}
	l.root = filepath.Join(l.dir, "disk", "store")
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	l.registry = strings.TrimPrefix(server.URL, "http://")
	return l
}

func (l *lab) check(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) path(elem ...string) string { return filepath.Join(append([]string{l.dir}, elem...)...) }

func (l *lab) env() []string {
	env := []string{"PATH=" + l.programs + ":" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "STRATA_ROOT=" + l.root, "STRATA_RUN=" + l.path("run"),
		"HOME=" + l.path("home"), "DOCKER_CONFIG=" + l.path("home"), "NO_COLOR=1", "TMPDIR=" + l.dir}
	return append(env, l.more...)
}

func (l *lab) command(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(l.programs, "strata"), args...)
	cmd.Env, cmd.Dir = l.env(), l.dir
	return cmd
}

// strata runs a command and gives its output.
func (l *lab) strata(args ...string) (string, error) {
	out, err := l.command(args...).CombinedOutput()
	return string(out), err
}

func (l *lab) must(args ...string) string {
	l.t.Helper()
	out, err := l.strata(args...)
	if err != nil {
		l.t.Fatalf("strata %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (l *lab) tool(name string, args ...string) {
	l.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if out, err := cmd.CombinedOutput(); err != nil {
		l.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

func (l *lab) write(name, text string) {
	l.t.Helper()
	file := l.path(name)
	l.check(os.MkdirAll(filepath.Dir(file), 0o755))
	l.check(os.WriteFile(file, []byte(text), 0o644))
}

// mkfs makes a disk image with an ext4 of the size and gives its path.
func (l *lab) mkfs(name, size string, args ...string) string {
	l.t.Helper()
	img := l.path(name)
	l.tool("truncate", "-s", size, img)
	l.tool("mkfs.ext4", append([]string{"-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"}, append(args, img)...)...)
	return img
}

// attach mounts a disk image under the store.
func (l *lab) attach(img string) {
	l.t.Helper()
	l.tool("mount", "-o", "loop", img, l.path("disk"))
	l.t.Cleanup(func() { _ = unix.Unmount(l.path("disk"), unix.MNT_DETACH) })
}

// detach unmounts the disk and waits until nobody has it any more: mount namespaces of killed processes end a while after
// them, and until then the file system lives on.
func (l *lab) detach() {
	l.t.Helper()
	var err error
	for end := time.Now().Add(waiting); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		l.endProcesses()
		if err = unix.Unmount(l.path("disk"), 0); err == nil || errors.Is(err, unix.EINVAL) {
			if !l.attached() {
				return
			}
		}
	}
	l.t.Fatalf("the disk is still in use: %v", err)
}

// attached reports whether a loop device has a file of the lab.
func (l *lab) attached() bool {
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	l.check(err)
	for _, file := range files {
		if raw, err := os.ReadFile(file); err == nil && strings.HasPrefix(string(raw), l.dir+"/") {
			return true
		}
	}
	return false
}

// processes are those that work on the store.
func (l *lab) processes() []int {
	entries, err := os.ReadDir("/proc")
	l.check(err)
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		env, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err == nil && bytes.Contains(env, []byte("STRATA_RUN="+l.path("run")+"\x00")) && !isZombie(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func isZombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(after, "Z") || strings.HasPrefix(after, "X")
}

// endProcesses kills what works on the store.
func (l *lab) endProcesses() {
	for _, pid := range l.processes() {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

// whole proves the store: nothing is broken, and no process, mount or file is left of commands that were killed.
func (l *lab) whole() error {
	if out, err := l.strata("system", "check"); err != nil {
		return fmt.Errorf("system check: %w\n%s", err, out)
	}
	var left []int
	for end := time.Now().Add(waiting); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if left = l.processes(); len(left) == 0 {
			break
		}
	}
	var errs []error
	for _, pid := range left {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		errs = append(errs, fmt.Errorf("process %d is left: %q", pid, line))
	}
	return errors.Join(append(errs, l.mounts(), l.leftovers())...)
}

// mounts tells what is mounted below the store where all see it.
func (l *lab) mounts() error {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 4 && strings.HasPrefix(fields[4], l.root) {
			return fmt.Errorf("mount is left: %s", fields[4])
		}
	}
	return nil
}

// leftovers finds files of dead commands. What is younger than a living writer's could be is made old first.
func (l *lab) leftovers() error {
	var errs []error
	old := time.Now().Add(-time.Hour)
	for _, dir := range []string{".", "images", "refs", "bases", "containers", "containers/names", "blobs/sha256", "layers", "cache", "cache/entries", "cache/slots", "cache/aliases", "cache/context"} {
		entries, err := os.ReadDir(filepath.Join(l.root, dir))
		if err != nil {
			continue
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), ".tmp-") {
				errs = append(errs, os.Chtimes(filepath.Join(l.root, dir, e.Name()), old, old))
			}
		}
	}
	temps, err := filepath.Glob(l.root + "/layers/*/.tmp-*")
	if err != nil {
		return err
	}
	for _, file := range temps {
		errs = append(errs, os.Chtimes(file, old, old))
	}
	if out, err := l.strata("system", "check", "--quick"); err != nil {
		errs = append(errs, fmt.Errorf("%w\n%s", err, out))
	}
	for _, pattern := range []string{".tmp-*", "leases/*", "trash/*", "*/.tmp-*", "*/*/.tmp-*"} {
		files, err := filepath.Glob(filepath.Join(l.root, pattern))
		if err != nil {
			return err
		}
		for _, file := range files {
			errs = append(errs, fmt.Errorf("file is left: %s", file))
		}
	}
	return errors.Join(errs...)
}

// operation is one command of the suites, with what holds when it was done.
type operation struct {
	name string
	args []string
	done func(l *lab) error
}

func (l *lab) operations() []operation {
	has := func(name string, want bool) func(l *lab) error {
		return func(l *lab) error {
			_, err := l.strata("image", "inspect", name)
			if (err == nil) != want {
				return fmt.Errorf("image %s there: %v", name, err == nil)
			}
			return nil
		}
	}
	return []operation{
		{"pull", []string{"pull", "-q", l.registry + "/pulled"}, has(l.registry+"/pulled", true)},
		{"load", []string{"load", "-q", "-i", l.path("loaded.tar")}, has("loaded", true)},
		{"build", []string{"build", "-q", "-t", "built", l.path("ctx")}, has("built", true)},
		{"commit", []string{"commit", "made", "committed"}, has("committed", true)},
		{"tag", []string{"tag", "app", "tagged"}, has("tagged", true)},
		{"rmi", []string{"rmi", "old"}, has("old", false)},
		{"prune", []string{"system", "prune", "-af"}, has("app", false)},
		{"gc", []string{"builder", "prune", "-af"}, func(*lab) error { return nil }},
		{"volume", []string{"volume", "prune", "-af"}, func(l *lab) error {
			if out, err := l.strata("volume", "inspect", "vol"); err == nil {
				return fmt.Errorf("the volume is there: %s", out)
			}
			return nil
		}},
	}
}

// fill makes a store on which all operations can be done, and leaves it beside the disk's store as the template.
func (l *lab) fill() {
	l.t.Helper()
	l.write("ctx/Dockerfile", "FROM app\nCOPY data /data\nRUN echo built > /built && cp /data/one /two\n")
	l.write("ctx/data/one", strings.Repeat("one\n", 1000))
	l.write("ctx/data/sub/two", "two")
	l.write("app/Dockerfile", "FROM strata.internal/toolbox\nRUN mkdir -p /srv/a/b && echo app > /srv/a/b/c && ln /srv/a/b/c /srv/d && ln -s a /srv/l\nCMD cat /srv/d\n")
	l.write("img/Dockerfile", "FROM app\nARG WHAT\nCOPY file /\nRUN echo $WHAT > /what && rm /srv/d\n")
	l.write("img/file", strings.Repeat("0123456789abcdef", 9000))
	l.must("build", "-q", "-t", "app", l.path("app"))
	for _, name := range []string{"pulled", "loaded", "old", "kept"} {
		l.must("build", "-q", "-t", name, "--build-arg", "WHAT="+name, l.path("img"))
	}
	l.must("build", "-q", "-t", "kept", "--build-arg", "WHAT=again", l.path("img")) // what it was dangles
	l.must("tag", "pulled", l.registry+"/pulled")
	l.must("push", "-q", l.registry+"/pulled")
	l.must("save", "-o", l.path("loaded.tar"), "loaded")
	l.must("rmi", "pulled", l.registry+"/pulled", "loaded")
	l.must("run", "--name", "made", "app", "sh", "-c", "echo x > /y; rm /srv/l")
	l.must("run", "--rm", "-v", "vol:/v", "app", "sh", "-c", "mkdir /v/d; echo x > /v/d/x")
	l.must("builder", "prune", "-f", "--all")
	l.must("build", "-q", "-t", "cached", "--build-arg", "WHAT=cached", l.path("img"))
	l.must("rmi", "cached")
	if err := l.whole(); err != nil {
		l.t.Fatal(err)
	}
	l.tool("cp", "-a", l.root, l.root+".template")
}

// reset puts the template in the store's place.
func (l *lab) reset() {
	l.t.Helper()
	l.endProcesses()
	for end := time.Now().Add(waiting); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err := os.RemoveAll(l.root); err == nil {
			break
		}
	}
	l.tool("cp", "-a", l.root+".template", l.root)
	runs, err := filepath.Glob(l.path("run") + "/*")
	l.check(err)
	for _, dir := range runs {
		if err := os.RemoveAll(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			l.t.Fatal(err)
		}
	}
}

// survives wants a whole store after a fault, and another one after the operation was done again.
func (l *lab) survives(o operation) error {
	err := l.whole()
	if err == nil {
		err = l.again(o)
	}
	if err == nil {
		err = l.whole()
	}
	return err
}

// again does an operation that was cut short: it must succeed, or find that it was done.
func (l *lab) again(o operation) error {
	out, err := l.strata(o.args...)
	if err != nil && (o.name != "rmi" || o.done(l) != nil) {
		return fmt.Errorf("done again: %w\n%s", err, out)
	}
	return o.done(l)
}
