package runtime

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"strata/internal/errdef"
	"strata/internal/mount"
	"strata/internal/program"
	"strata/internal/rootfs"
)

// failedExec is the exit status of a runtime's child whose execve(2) failed after the container had been started, which is
// too late for an error. Any program can end with it, too.
const failedExec = 255

// Unexecuted reports whether a process that ended with code may never have been executed, or be a shell that could not
// execute something.
func Unexecuted(code int) bool { return code == 126 || code == 127 || code == failedExec }

// Examine tells, from the container's files, why the process of a bundle could not be executed that ended with code, or was
// refused with err. What is found about an err is kept in its [StartError]; about a code it is returned, nil when nothing
// is certain, with the exit status that tells more than a runtime's 255.
//
// It must be called in mount.Private, with the bundle's root file system mounted, and leaves the bundle's bind mounts there.
func Examine(bundle string, code int, err error) *program.Problem {
	if err == nil && !Unexecuted(code) {
		return nil
	}
	spec, rerr := readBundle(bundle)
	if rerr != nil || spec.Process == nil || spec.Root == nil {
		return nil
	}
	root, rerr := rootfs.OpenRoot(spec.Root.Path)
	if rerr != nil {
		return nil
	}
	defer root.Close()
	if showBinds(root, spec) != nil {
		return nil
	}
	return ExamineProcess(root, spec.Process, code, err)
}

// ExamineProcess is [Examine] for a process in the tree of root.
func ExamineProcess(root program.Tree, p *specs.Process, code int, err error) *program.Problem {
	c, behindInit := command(p)
	if err != nil {
		explain(err, func() *program.Problem { return program.Examine(root, c) })
		return nil
	}
	if !Unexecuted(code) {
		return nil
	}
	found := program.Examine(root, c)
	switch {
	case code == failedExec && found == nil:
		return nil
	case code == failedExec:
	case found != nil && (behindInit || found.Exit == code):
		return found
	default:
		return program.ExamineShell(root, c, code)
	}
	switch found.Kind {
	case program.Loader, program.Interpreter, program.Format:
		return found // what only execve(2) finds out; the rest would have been an error
	}
	return nil
}

// command is what a process was to execute. With --init that stands behind the init and "--".
func command(p *specs.Process) (c program.Command, behindInit bool) {
	args := p.Args
	if behindInit = len(args) > 2 && args[1] == "--" && strings.HasPrefix(args[0], "/sbin/"); behindInit {
		args = args[2:]
	}
	return program.Command{Args: args, Env: p.Env, Cwd: p.Cwd, UID: p.User.UID, GID: p.User.GID, Groups: p.User.AdditionalGids}, behindInit
}

// showBinds mounts what the bundle binds into its tree, so that the tree is what the process saw.
func showBinds(root *rootfs.Root, spec *specs.Spec) error {
	for _, m := range spec.Mounts {
		if m.Type != "bind" || strings.HasPrefix(m.Destination, "/etc/") {
			continue
		}
		at, err := root.Resolve(m.Destination)
		if err != nil {
			return err
		}
		// Without links, and nobody is left who could put one there.
		if err := mount.Bind(m.Source, filepath.Join(spec.Root.Path, at), true, true); err != nil {
			return err
		}
	}
	return nil
}

func readBundle(bundle string) (*specs.Spec, error) {
	raw, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	spec := &specs.Spec{}
	if err := json.Unmarshal(raw, spec); err != nil {
		return nil, fmt.Errorf("bundle %s: %w: %w", bundle, err, errdef.ErrInvalid)
	}
	return spec, nil
}
