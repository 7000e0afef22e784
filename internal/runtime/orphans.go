package runtime

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Orphans reaps what a runtime that was killed left in a container with process ids of its own: processes that became this one's
// children ([Reap]), and that nobody waits for. As long as one that has ended is not reaped, the container's first process
// cannot end. first is that process, which somebody does wait for; no [Runtime.Exec] must be under way, nor anybody wait for a process that one gave.
// living is how many of them run on.
//
// It needs a kernel that lists a process's children (CONFIG_PROC_CHILDREN).
func Orphans(first int) (living int, err error) {
	self, err := depth("self")
	if err != nil {
		return 0, err
	}
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		return 0, err
	}
	for _, list := range lists {
		raw, err := os.ReadFile(list)
		if err != nil {
			continue // the thread has ended
		}
		for _, field := range bytes.Fields(raw) {
			pid, err := strconv.Atoi(string(field))
			if err != nil || pid == first {
				continue
			}
			if deep, err := depth(string(field)); err != nil || deep <= self {
				continue // gone, or one that we started ourselves
			}
			if got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); got == 0 && err == nil {
				living++
			}
		}
	}
	return living, nil
}

// depth is how many process ids a process has: one in each namespace that it is in, as far as this process sees them.
func depth(pid string) (int, error) {
	raw, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(raw) {
		if ids, ok := bytes.CutPrefix(line, []byte("NSpid:")); ok {
			return len(bytes.Fields(ids)), nil
		}
	}
	return 0, fmt.Errorf("/proc/%s/status has no NSpid", pid)
}
