package runtime_test

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"strata/internal/runtime"
)

// TestOrphans holds that what a killed runtime leaves in a container is reaped, and the container's first process is not.
func TestOrphans(t *testing.T) {
	if _, err := os.Stat("/proc/thread-self/children"); err != nil {
		t.Skip("a kernel without lists of children")
	}
	must(t, runtime.Reap())
	input, live := pipe(t)
	// orphan is a process that is the first one of a namespace, and whose parent is gone. It ends with its input.
	orphan := func() int {
		parent := exec.Command("unshare", "--user", "--pid", "--fork", "cat")
		if os.Getuid() == 0 {
			parent = exec.Command("unshare", "--pid", "--fork", "cat")
		}
		parent.Stdin = input
		if err := parent.Start(); err != nil {
			t.Skip(err)
		}
		ended := make(chan struct{})
		go func() {
			_ = parent.Wait() // it is killed
			close(ended)
		}()
		for {
			raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", parent.Process.Pid))
			pid, perr := strconv.Atoi(strings.TrimSpace(string(raw)))
			if err == nil && perr == nil {
				must(t, parent.Process.Kill())
				<-ended
				return pid
			}
			select {
			case <-ended:
				t.Skip("no namespaces of process ids here")
			case <-time.After(time.Millisecond):
			}
		}
	}
	first, other := orphan(), orphan()
	live.Close()
	for {
		living, err := runtime.Orphans(first)
		must(t, err)
		if living == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", other)); err == nil {
		t.Error("a process that ended was not reaped")
	}
	if code, err := runtime.Wait(t.Context(), first); err != nil || code != 0 {
		t.Errorf("the first process was reaped by another: %d, %v", code, err)
	}
}
