package cgroup

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"strata/internal/errdef"
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
//
// On a machine that has more to do than processors the wait costs nobody anything, while our moves hold up all that starts and ends.
func (t Tree) Hasten() (stop func()) {
	stopped := make(chan struct{})
	go func() {
		if t.busy() {
			return
		}
		own, procs, err := t.ownGroup()
		if err != nil {
			return // it costs time, no more
		}
		defer procs.Close()
		for end := time.Now().Add(hastenFor); time.Now().Before(end); {
			// A process that somebody has moved is not to be moved back.
			if now, err := places(filepath.Join(t.Proc, "self")); err != nil || !slices.Equal(now, own) {
				return
			}
			if _, err := procs.WriteAt([]byte("0"), 0); err != nil {
				return
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

// busy reports whether more threads want to run than twice the processors: see proc_loadavg(5).
func (t Tree) busy() bool {
	raw, err := os.ReadFile(filepath.Join(t.Proc, "loadavg"))
	if err != nil {
		return false
	}
	var minute, five, fifteen float64
	var running int
	_, err = fmt.Sscanf(string(raw), "%f %f %f %d/", &minute, &five, &fifteen, &running)
	return err == nil && running > 2*runtime.NumCPU()
}

// ownGroup gives the groups in which this process is, and the file that moves processes to one of them, of version 1.
func (t Tree) ownGroup() (own []place, procs *os.File, err error) {
	all, err := t.hierarchies()
	if err != nil {
		return nil, nil, err
	}
	own, err = places(filepath.Join(t.Proc, "self"))
	if err != nil {
		return nil, nil, err
	}
	dirs := t.group(all, own, func(p string) string { return p }).dirs
	for _, c := range slices.Sorted(maps.Keys(dirs)) {
		procs, err = os.OpenFile(filepath.Join(dirs[c], "cgroup.procs"), os.O_WRONLY, 0)
		return own, procs, err
	}
	return nil, nil, fmt.Errorf("control group of version 1: %w", errdef.ErrNotFound)
}
