package runtime_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/runtime"
)

// installed gives the system call filter that the kernel runs for a process, one instruction of eight bytes after another.
func installed(t *testing.T, pid int) []byte {
	t.Helper()
	goruntime.LockOSThread() // the tracer is a thread
	defer goruntime.UnlockOSThread()
	err := unix.PtraceAttach(pid)
	if errors.Is(err, unix.EPERM) {
		t.Skipf("ptrace: %v", err)
	}
	must(t, err)
	defer func() { must(t, unix.PtraceDetach(pid)) }()
	_, err = unix.Wait4(pid, nil, unix.WALL, nil)
	must(t, err)
	get := func(to unsafe.Pointer) int {
		n, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SECCOMP_GET_FILTER, uintptr(pid), 0, uintptr(to), 0, 0)
		if errno != 0 {
			t.Skipf("the kernel does not show filters: %v", errno)
		}
		return int(n)
	}
	program := make([]byte, 8*get(nil))
	get(unsafe.Pointer(&program[0]))
	return program
}

// filterBox is a box whose runtime uses compiled filters.
func filterBox(t *testing.T) box {
	t.Helper()
	b := newBox(t)
	if _, _, err := b.Helper(); err != nil {
		t.Skip(err)
	}
	return b
}

// filterOf starts a container of the bundle and gives its filter, and that of a command in it.
func filterOf(t *testing.T, b box, name string) (container, command []byte) {
	t.Helper()
	ctx := t.Context()
	var pids []int
	start := func(run func(runtime.Stdio) (int, *os.File, error)) []byte {
		r, w, err := os.Pipe()
		must(t, err)
		defer r.Close()
		pid, _, err := run(runtime.Stdio{Out: w})
		w.Close()
		must(t, err)
		pids = append(pids, pid)
		_, err = io.ReadFull(r, make([]byte, len("ready\n")))
		must(t, err)
		return installed(t, pid)
	}
	defer func() {
		for _, pid := range slices.Backward(pids) { // a zombie in it would keep the container up
			must(t, unix.Kill(pid, unix.SIGKILL))
			_, err := runtime.Wait(context.WithoutCancel(ctx), pid)
			must(t, err)
		}
		must(t, b.Delete(context.WithoutCancel(ctx), name, false))
	}()
	container = start(func(s runtime.Stdio) (int, *os.File, error) { return b.Start(ctx, name, b.bundle, s) })
	p := b.params(prog, "sleep").Process
	command = start(func(s runtime.Stdio) (int, *os.File, error) { return b.Exec(ctx, name, b.bundle, *p.Spec(), s) })
	return container, command
}

// files are the kept filters.
func files(t *testing.T, b box) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(b.Filters, "*"))
	must(t, err)
	return names
}

// plain are the filters that the runtime compiles itself for one bundle. There are several: before the list's program runc
// puts a few instructions for unknown calls, the processor's architectures in a random order, some of them seldom.
type plain struct {
	box
	t    *testing.T
	seen [][]byte
}

func newPlain(t *testing.T, b box) *plain {
	own := *b.Runtime
	own.Filters = ""
	b.Runtime = &own
	return &plain{box: b, t: t}
}

// has reports whether the runtime itself gives this filter, too.
func (p *plain) has(filter []byte) bool {
	p.t.Helper()
	for range 200 {
		if slices.ContainsFunc(p.seen, func(s []byte) bool { return bytes.Equal(s, filter) }) {
			return true
		}
		one, other := filterOf(p.t, p.box, fmt.Sprint(id(p.t), "-plain-", len(p.seen)))
		p.seen = append(p.seen, one, other)
	}
	return false
}

// TestRealFilterSame: a compiled filter that was kept is bit for bit the one that the runtime compiles itself, in a container
// and in a command started in it; the first time, later, and when the kept one is of another list.
func TestRealFilterSame(t *testing.T) {
	b := filterBox(t)
	for i, caps := range [][]string{runtime.ContainerCaps(true), nil, {"CAP_SYS_ADMIN"}} {
		p := b.params(prog, "sleep")
		p.Process.Caps = caps
		b.write(t, p)
		want := newPlain(t, b)
		for _, when := range []string{"first", "later"} {
			got, exec := filterOf(t, b, fmt.Sprint(id(t), "-", when, "-", i))
			if len(got) < 8*100 || !want.has(got) || !want.has(exec) {
				t.Errorf("%d, %s: a filter of %d bytes, and of %d for a command", i, when, len(got), len(exec))
			}
		}
	}
	kept := files(t, b)
	if len(kept) != 3 {
		t.Fatalf("kept are %v", kept)
	}
	// Each in another's place: nobody takes them.
	data, err := os.ReadFile(kept[0])
	must(t, err)
	for _, k := range kept[1:] {
		must(t, os.WriteFile(k, data, 0o600))
	}
	b.write(t, b.params(prog, "sleep"))
	want := newPlain(t, b)
	if got, exec := filterOf(t, b, id(t)+"-wrong"); !want.has(got) || !want.has(exec) {
		t.Error("another list's filter was taken")
	}
}

// TestRealFilterTrust: a kept filter is taken, so that much depends on who can write one: what others could have made or
// changed is not.
func TestRealFilterTrust(t *testing.T) {
	b := filterBox(t)
	b.write(t, b.params(prog, "sleep"))
	want, _ := filterOf(t, b, id(t)+"-good")
	kept := files(t, b)
	if len(kept) != 1 {
		t.Fatalf("kept are %v", kept)
	}
	good, err := os.ReadFile(kept[0])
	must(t, err)
	weak := weakened(t, good)
	plant := func(data []byte, mode os.FileMode) {
		os.Remove(kept[0])
		must(t, os.WriteFile(kept[0], data, 0o600))
		must(t, os.Chmod(kept[0], mode))
	}
	taken := func(what string) bool {
		got, _ := filterOf(t, b, id(t)+"-"+what)
		const before = 8 * 32 // room for what runc puts before the list's program
		return !bytes.Equal(got[before:], want[before:])
	}
	plant(weak, 0o600)
	if !taken("ours") {
		t.Error("the kept filter is not used at all: this test proves nothing")
	}
	for _, c := range []struct {
		what  string
		spoil func()
	}{
		{"writable", func() { plant(weak, 0o666) }},
		{"foreign", func() { plant(weak, 0o600); must(t, os.Chown(kept[0], 65534, 65534)) }},
		{"sum", func() { plant(append(append([]byte(nil), good[:sha256.Size]...), weak[sha256.Size:]...), 0o600) }},
		{"short", func() { plant(good[:len(good)/2], 0o600) }},
		{"empty", func() { plant(nil, 0o600) }},
		{"link", func() {
			other := filepath.Join(t.TempDir(), "weak")
			must(t, os.WriteFile(other, weak, 0o600))
			os.Remove(kept[0])
			must(t, os.Symlink(other, kept[0]))
		}},
		{"directory", func() { plant(weak, 0o600); must(t, os.Chmod(b.Filters, 0o755)) }},
		{"elsewhere", func() {
			must(t, os.Rename(b.Filters, b.Filters+"-moved"))
			must(t, os.Chmod(b.Filters+"-moved", 0o700))
			must(t, os.Symlink(b.Filters+"-moved", b.Filters))
		}},
	} {
		if os.Getenv(inUserns) != "" && c.what == "foreign" {
			continue
		}
		c.spoil()
		if taken(c.what) {
			t.Errorf("%s: taken", c.what)
		}
	}
}

// weakened is a kept filter that lets everything pass, with a good sum.
func weakened(t *testing.T, kept []byte) []byte {
	t.Helper()
	data := bytes.Clone(kept[sha256.Size:])
	const entry = 16 + 6*24
	program := data[8+entry*binary.NativeEndian.Uint64(data):]
	allow := []byte{0x06, 0, 0, 0, 0, 0, 0xff, 0x7f} // ret ALLOW
	for i := 0; i+8 <= len(program); i += 8 {
		if program[i] == 0x06 {
			copy(program[i:], allow)
		}
	}
	sum := sha256.Sum256(data)
	return append(sum[:], data...)
}

// TestFilterElsewhere: other runtimes know of no compiled filters.
func TestFilterElsewhere(t *testing.T) {
	if _, _, err := (&runtime.Runtime{Path: "/bin/true"}).Helper(); !errors.Is(err, errdef.ErrUnavailable) {
		t.Errorf("%v, want %v", err, errdef.ErrUnavailable)
	}
}

// TestRealRunnerFilter: containers of a warm runner have the same filter, too, the first and the later ones.
func TestRealRunnerFilter(t *testing.T) {
	b := filterBox(t)
	n, err := b.Runner()
	must(t, err)
	defer func() { must(t, n.Close()) }()
	b.write(t, b.params(prog, "sleep"))
	want := newPlain(t, b)
	for i := range 2 {
		var filter []byte
		_, err := n.Run(t.Context(), fmt.Sprint(id(t), "-", i), b.bundle, runtime.Stdio{}, func(pid int) {
			filter = installed(t, pid)
			must(t, unix.Kill(pid, unix.SIGKILL))
		})
		must(t, err)
		if !want.has(filter) {
			t.Errorf("%d: a filter of %d bytes", i, len(filter))
		}
	}
}
