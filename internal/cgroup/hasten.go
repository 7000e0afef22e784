package cgroup

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

const (
	// hastenPause is less than what the kernel's grace period takes, after which it is slow again.
	hastenPause = 2 * time.Millisecond
	// hastenFor bounds it: a runtime that takes longer has other troubles.
	hastenFor = 200 * time.Millisecond
)

// Hasten has the kernel move processes between groups of version 1 at once until stop is called. Each move takes a lock of the
// whole machine whose writer, when there was none lately, first waits for a grace period (RCU): some 10 ms in which a runtime that
// puts its process into the container's groups stands still. The wait is the same for who moves a process to where it is. So we
// do that, meanwhile, with this process. With version 2 runtimes make processes in their groups and wait for nothing.
func (t Tree) Hasten() (stop func()) {
	stopped := make(chan struct{})
	go func() {
		for end := time.Now().Add(hastenFor); time.Now().Before(end); {
			// Read anew each time: a process that somebody has moved is not to be moved back.
			dir := t.version1()
			if dir == "" || os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0) != nil {
				return // it costs time, no more
			}
			select {
			case <-stopped:
				return
			case <-time.After(hastenPause):
			}
		}
	}()
	return sync.OnceFunc(func() { close(stopped) })
}

// version1 is the directory of one of this process's groups of version 1, "" where there are none.
func (t Tree) version1() string {
	all, err := t.hierarchies()
	if err != nil {
		return ""
	}
	own, err := places(filepath.Join(t.Proc, "self"))
	if err != nil {
		return ""
	}
	dirs := t.group(all, own, func(p string) string { return p }).dirs
	for _, c := range slices.Sorted(maps.Keys(dirs)) {
		return dirs[c]
	}
	return ""
}
