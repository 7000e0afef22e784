package container

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/isolate"
	"strata/internal/mount"
	"strata/internal/network"
	"strata/internal/oci"
	"strata/internal/rootfs"
	"strata/internal/runtime"
)

func TestMain(m *testing.M) {
	if IsShim(os.Args[0]) {
		os.Exit(ShimMain(context.Background(), os.Args, openAt))
	}
	os.Exit(isolate.Main(m.Run))
}

// base is a Mounter whose every stack is one directory.
type base struct{ dir string }

func (b base) Private(fn func() error) error { return mount.Private(fn) }

func (b base) Unmount(m rootfs.Mount) error { return mount.Unmount(m.Target) }

func (b base) Changes(_ []oci.DiffID, m rootfs.Mount, _ string) (rootfs.Changes, error) {
	return rootfs.Changes{Upper: filepath.Join(m.Writable, "upper"), Lower: []string{b.dir}}, nil
}

func (b base) Mount(_ []oci.DiffID, m rootfs.Mount) error {
	o := mount.Overlay{Lower: []string{b.dir}}
	if upper := filepath.Join(m.Over, "upper"); m.Over != "" {
		o.Lower = []string{upper, b.dir}
		if err := os.MkdirAll(upper, 0o755); err != nil {
			return err
		}
	}
	if m.Writable != "" {
		o.Upper, o.Work, o.Volatile = filepath.Join(m.Writable, "upper"), filepath.Join(m.Writable, "work"), m.Volatile
		for _, d := range []string{o.Upper, o.Work} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				return err
			}
		}
	}
	return o.Mount(m.Target)
}

func openAt(p Place) (*Store, error) {
	return Open(Options{
		Place: p, Rootfs: base{filepath.Join(p.Root, "base")}, Program: "/proc/self/exe", Init: filepath.Join(p.Root, "strata-init"),
		Runtime:  &runtime.Runtime{Path: p.Runtime, State: filepath.Join(p.Run, "runtime")},
		Networks: network.Open(network.Options{Dir: filepath.Join(p.Root, "networks"), Run: filepath.Join(p.Root, "net")}),
	})
}

// liveStore is a store with a real runtime and a base of busybox. What a test leaves running is killed at its end, and
// then nothing of it may be left.
func liveStore(t *testing.T) *Store {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: containers are started directly, not in a user namespace")
	}
	rt, err := runtime.Find(os.Getenv("STRATA_RUNTIME"))
	if err != nil {
		t.Skip("needs an OCI runtime: STRATA_RUNTIME is not set and none was found:", err)
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("needs /bin/busybox from package busybox-static")
	}
	dir := t.TempDir()
	p := Place{Root: filepath.Join(dir, "root"), Run: filepath.Join(dir, "run", strings.Repeat("deep", 30)), Runtime: rt.Path}
	for _, d := range []string{"bin", "etc", "tmp", "data/sub"} {
		if err := os.MkdirAll(filepath.Join(p.Root, "base", d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(p.Root, "base/bin/busybox"), string(busybox), 0o755)
	for _, tool := range []string{"sh", "cat", "echo", "sleep", "true", "kill", "id", "ls", "env", "stty", "hostname", "touch", "head", "yes", "stat", "ps"} {
		if err := os.Symlink("busybox", filepath.Join(p.Root, "base/bin", tool)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(p.Root, "base/etc/passwd"), "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n", 0o644)
	write(t, filepath.Join(p.Root, "base/etc/group"), "root:x:0:\nann:x:1000:\n", 0o644)
	write(t, filepath.Join(p.Root, "base/data/file"), "from the image", 0o640)
	s, err := openAt(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nothingLeft(t, s, dir) })
	return s
}

func write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

// nothingLeft removes all containers and then looks for processes and mounts of the store.
func nothingLeft(t *testing.T, s *Store, dir string) {
	ctx := context.Background()
	all, err := s.List(ctx)
	if err != nil {
		t.Error(err)
	}
	for _, rec := range all {
		if err := s.Remove(ctx, rec, RemoveOptions{Force: true, Volumes: true}); err != nil {
			t.Error(err)
		}
	}
	for _, d := range []string{s.opt.Place.Run, s.opt.Runtime.State, s.records.Path(), s.names.dir, s.blocks.dir} {
		entries, _ := os.ReadDir(d)
		for _, e := range entries {
			if e.Name() != "names" && e.Name() != "ids" && e.Name() != "runtime" && e.Name() != ".lock" {
				t.Errorf("left: %s/%s", d, e.Name())
			}
		}
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	if bytes.Contains(mounts, []byte(dir)) {
		t.Error("a mount was left")
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		left := processesOf(dir)
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("processes left: %q", left)
			return
		}
	}
}

func processesOf(dir string) (found []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		if raw, err := os.ReadFile(f); err == nil && bytes.Contains(raw, []byte(dir)) {
			found = append(found, string(bytes.ReplaceAll(raw, []byte{0}, []byte{' '})))
		}
	}
	return found
}

func make1(t *testing.T, s *Store, c Config, h HostConfig) Record {
	t.Helper()
	if h.Network == "" {
		h.Network = "none"
	}
	rec, err := s.Create(t.Context(), CreateOptions{ImageName: "base", Config: c, Host: h})
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func sh(script string) Config { return Config{Cmd: []string{"/bin/sh", "-c", script}} }

// capture gives a file to be written and a function that closes it and returns what was.
func capture(t *testing.T) (*os.File, func() string) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string)
	go func() {
		raw, _ := io.ReadAll(r)
		r.Close()
		got <- string(raw)
	}()
	return w, func() string { w.Close(); return <-got }
}

// run starts rec attached with input and returns its exit code and output.
func run(t *testing.T, s *Store, rec Record, input string) (int, string, string) {
	t.Helper()
	out, outText := capture(t)
	errs, errText := capture(t)
	st := Streams{Out: out, Err: errs}
	if rec.Config.OpenStdin {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		go func() { io.WriteString(w, input); w.Close() }()
		defer r.Close()
		st.In = r
	}
	res, err := s.Start(t.Context(), rec, StartOptions{Attach: true, Streams: st})
	o, e := outText(), errText()
	if err != nil {
		t.Fatalf("start: %v\n%s%s", err, o, e)
	}
	return res.Code, o, e
}

func lookup(t *testing.T, s *Store, id string) Record {
	t.Helper()
	rec, err := s.Lookup(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func startDetached(t *testing.T, s *Store, rec Record) Record {
	t.Helper()
	if _, err := s.Start(t.Context(), rec, StartOptions{}); err != nil {
		t.Fatal(err)
	}
	return lookup(t, s, rec.ID)
}

func startError(t *testing.T, err error, exit int) {
	t.Helper()
	var se *runtime.StartError
	if !errors.As(err, &se) || se.Exit != exit {
		t.Errorf("error %v (%T), want exit class %d", err, err, exit)
	}
}

func buildInit(t *testing.T, s *Store) {
	t.Helper()
	cmd := exec.Command("go", "build", "-ldflags", "-s -w", "-o", s.opt.Init, "strata/cmd/strata-init")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("needs the go command to build strata-init: %v %s", err, out)
	}
}

// patience is how long what must come in the end is waited for, however busy the machine is.
const patience = 2 * time.Minute

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never:", what)
		}
	}
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
}
