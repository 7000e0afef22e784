package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/mount"
	"strata/internal/runtime"
)

func newRunner(t *testing.T) (box, *runtime.Runner) {
	t.Helper()
	b := newBox(t)
	n, err := b.Runner()
	if errors.Is(err, errdef.ErrUnavailable) {
		t.Skipf("no warm runner: %v", err)
	}
	must(t, err)
	t.Cleanup(func() { must(t, n.Close()) })
	return b, n
}

// shown runs the bundle in n and gives what it printed.
func shown(t *testing.T, n *runtime.Runner, id, bundle string) (int, string) {
	t.Helper()
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	code, err := n.Run(t.Context(), id, bundle, runtime.Stdio{Out: w, Err: w}, nil)
	w.Close()
	must(t, err)
	out, err := io.ReadAll(r)
	must(t, err)
	return code, string(out)
}

// TestRealRunnerSame: a container is the same whether it is run warm or by the runtime's program, filter included, the first
// time and later, and when its filter is another than the first one's.
func TestRealRunnerSame(t *testing.T) {
	b, n := newRunner(t)
	for i, caps := range [][]string{runtime.ContainerCaps(true), runtime.ContainerCaps(true), nil, runtime.BuildCaps()} {
		p := b.params(prog, "facts")
		p.Process.Caps, p.Seccomp = caps, true
		b.write(t, p)
		r, w, err := os.Pipe()
		must(t, err)
		_, err = b.Run(t.Context(), id(t), b.bundle, runtime.Stdio{Out: w, Err: w}, nil)
		must(t, err)
		w.Close()
		want, err := io.ReadAll(r)
		must(t, err)
		_, got := shown(t, n, fmt.Sprint(id(t), "-", i), b.bundle)
		if got != string(want) || !strings.Contains(got, "Seccomp:\t2") {
			t.Errorf("%d: warm:\n%s\ncold:\n%s", i, got, want)
		}
	}
}

func TestRealRunnerEnds(t *testing.T) {
	b, n := newRunner(t)
	b.write(t, b.params(prog, "exit", "7"))
	var pid int
	// A runner frees an id only a moment after its reply, so each run has its own.
	code, err := n.Run(t.Context(), id(t)+"-exit", b.bundle, runtime.Stdio{}, func(p int) { pid = p })
	if code != 7 || err != nil || pid <= 0 {
		t.Errorf("%d, %v, pid %d", code, err, pid)
	}
	for i, tc := range []struct {
		arg, message string
		exit         int
	}{
		{"nosuch", `exec: "nosuch": executable file not found in $PATH`, 127},
		{"/no/such", `exec: "/no/such": stat /no/such: no such file or directory`, 127},
	} {
		b.write(t, b.params(tc.arg))
		_, err := n.Run(t.Context(), id(t)+"-"+filepath.Base(tc.arg)+"-"+strconv.Itoa(i), b.bundle, runtime.Stdio{}, func(int) { t.Errorf("%s has started", tc.arg) })
		startError(t, err, tc.exit, tc.message)
	}
	b.write(t, b.params(prog, "sleep"))
	ctx, cancel := context.WithCancel(t.Context())
	_, err = n.Run(ctx, id(t)+"-cancel", b.bundle, runtime.Stdio{}, func(int) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestRealRunnerParallel: each container sees what is mounted in the namespace of the thread that asked for it.
func TestRealRunnerParallel(t *testing.T) {
	b, n := newRunner(t)
	dir := t.TempDir()
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			own := box{b.Runtime, b.root, filepath.Join(dir, strconv.Itoa(i))}
			target := filepath.Join(dir, "root"+strconv.Itoa(i))
			if err := os.Mkdir(target, 0o755); err != nil {
				t.Error(err)
				return
			}
			p := own.params(prog, "exit", strconv.Itoa(i))
			p.RootPath, p.Seccomp = target, true
			own.write(t, p)
			for round := range 3 {
				err := mount.Private(func() error {
					if err := mount.Bind(b.root, target, false, false); err != nil {
						return err
					}
					code, err := n.Run(t.Context(), fmt.Sprint(id(t), "-", i, "-", round), own.bundle, runtime.Stdio{}, nil)
					if code != i {
						t.Errorf("%d ended with %d", i, code)
					}
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// TestRealRunnerClose: containers go with the runner, and nothing of them is left.
func TestRealRunnerClose(t *testing.T) {
	b := newBox(t)
	n, err := b.Runner()
	if errors.Is(err, errdef.ErrUnavailable) {
		t.Skipf("no warm runner: %v", err)
	}
	must(t, err)
	b.write(t, b.params(prog, "sleep"))
	pids, ended := make(chan int, 1), make(chan error, 1)
	go func() {
		_, err := n.Run(context.WithoutCancel(t.Context()), id(t), b.bundle, runtime.Stdio{}, func(pid int) { pids <- pid })
		ended <- err
	}()
	var pid int
	select {
	case pid = <-pids:
	case err := <-ended:
		t.Fatalf("did not start: %v", err)
	}
	must(t, n.Close())
	if err := <-ended; !errors.Is(err, errdef.ErrUnavailable) {
		t.Errorf("%v, want %v", err, errdef.ErrUnavailable)
	}
	gone := func() bool { return unix.Kill(pid, 0) == unix.ESRCH }
	for end := time.Now().Add(time.Minute); !gone() && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
	}
	if !gone() {
		t.Errorf("process %d runs on", pid)
	}
	nothingLeft(t, b)
	if _, err := n.Run(t.Context(), id(t), b.bundle, runtime.Stdio{}, nil); !errors.Is(err, errdef.ErrUnavailable) {
		t.Errorf("after Close: %v", err)
	}
}

// TestNoRunner: another runtime has no warm one.
func TestNoRunner(t *testing.T) {
	if _, err := (&runtime.Runtime{Path: "/bin/true"}).Runner(); !errors.Is(err, errdef.ErrUnavailable) {
		t.Errorf("%v, want %v", err, errdef.ErrUnavailable)
	}
}
