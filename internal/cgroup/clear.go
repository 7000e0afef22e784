package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// Made lists the directories in which a runtime that this process starts makes the group of the container id. told is the path that
// the runtime is told, "" is its own choice, below the caller's groups. They need not be there.
func (t Tree) Made(id, told string) ([]string, error) {
	all, err := t.hierarchies()
	if err != nil {
		return nil, err
	}
	own, err := places(filepath.Join(t.Proc, "self"))
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, h := range all {
		for _, p := range own {
			switch {
			case !p.of(h):
			case told != "":
				dirs = append(dirs, h.at(told))
			default:
				dirs = append(dirs, h.at(path.Join(p.path, id)))
			}
		}
	}
	return dirs, nil
}

// of reports whether the place is one in the hierarchy.
func (p place) of(h hierarchy) bool {
	if p.controllers == "" {
		return h.controllers == nil
	}
	first, _, _ := strings.Cut(p.controllers, ",")
	return has(h.controllers, first)
}

// clearWait is how long killed processes may take to leave a group.
const clearWait = 10 * time.Second

// Clear kills what is in the groups at dirs, and below, and removes them. One that is not there is no error, nor is one that is not ours
// to remove.
func Clear(ctx context.Context, dirs []string) error {
	ctx, cancel := context.WithTimeout(ctx, clearWait)
	defer cancel()
	var errs []error
	for _, dir := range dirs {
		errs = append(errs, clearGroup(ctx, dir))
	}
	return errors.Join(errs...)
}

func clearGroup(ctx context.Context, dir string) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err := removeTree(dir)
		if !errors.Is(err, unix.EBUSY) {
			if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, unix.EROFS) {
				return fmt.Errorf("control group %s: %w", dir, err)
			}
			return nil
		}
		killAll(dir)
		select {
		case <-ctx.Done():
			return fmt.Errorf("control group %s: its processes do not end: %w", dir, errdef.ErrConflict)
		case <-time.After(pause):
		}
	}
}

// removeTree removes a group and those below it, deepest first. The files in them go with them.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return unix.Rmdir(dir)
}

// killAll kills the processes in a group and below it. A process that has left the group by then is left alone: with its
// descriptor at hand it is looked for once more.
func killAll(dir string) {
	_ = filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return nil // it is going
		}
		for pid := range members(name) {
			fd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				continue
			}
			if members(name)[pid] {
				_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) // who has ended needs none
			}
			unix.Close(fd)
		}
		return nil
	})
}

// members are the processes that are in a group itself.
func members(dir string) map[int]bool {
	pids := map[int]bool{}
	list, err := text(dir, "cgroup.procs")
	if err != nil {
		return pids
	}
	for word := range strings.FieldsSeq(list) {
		if pid, err := strconv.Atoi(word); err == nil && pid > 0 {
			pids[pid] = true
		}
	}
	return pids
}
