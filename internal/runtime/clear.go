package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"strata/internal/cgroup"
)

// Clear ends and removes whatever is left of a container of which the runtime, or who called it, was killed: at any moment, so that the
// runtime itself may know nothing of it yet, or no longer. groups are the directories of its control groups (cgroup.Tree.Made).
func (r *Runtime) Clear(ctx context.Context, id string, groups []string) error {
	if err := r.endCalls(ctx, id); err != nil {
		return err
	}
	if err := r.Delete(ctx, id, true); err != nil {
		return err
	}
	return errors.Join(cgroup.Clear(ctx, groups), r.Forget(id))
}

// Known reports whether the runtime keeps anything of a container.
func (r *Runtime) Known(id string) bool {
	_, err := os.Lstat(filepath.Join(r.State, id))
	return err == nil
}

// Forget removes what is kept of a container of which nothing runs any more.
func (r *Runtime) Forget(id string) error {
	entries, err := os.ReadDir(r.State)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if e.Name() == id || strings.HasPrefix(e.Name(), id+".") { // scratch files of a call
			err = errors.Join(err, os.RemoveAll(filepath.Join(r.State, e.Name())))
		}
	}
	return err
}

// endCalls kills the runtime's own processes that are about the container id and waits for their end: one that is just starting it
// would go on with that.
func (r *Runtime) endCalls(ctx context.Context, id string) error {
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, p := range procs {
		pid, err := strconv.Atoi(p.Name())
		if err != nil || !r.calledFor(pid, id) {
			continue
		}
		// With its descriptor at hand it is looked at once more, since by then another process may have its number.
		if err := killAndWait(ctx, pid, func() bool { return r.calledFor(pid, id) }); err != nil {
			return fmt.Errorf("container %s: its runtime: %w", id, err)
		}
	}
	return nil
}

// calledFor reports whether a process is a call of the runtime about the container id.
func (r *Runtime) calledFor(pid int, id string) bool {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return false
	}
	words := bytes.Split(bytes.TrimSuffix(line, []byte{0}), []byte{0})
	return len(words) > 3 && string(words[1]) == "--root" && string(words[2]) == r.State && string(words[len(words)-1]) == id
}
