package runtime

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"strata/internal/beside"
	"strata/internal/errdef"
)

// Runtime is an OCI runtime program.
type Runtime struct {
	// Path is the program; "" where none is installed: then nothing can be started, and what was never started can be
	// deleted.
	Path string
	// Absent is why nothing can be started when Path is ""; nil: because none is installed.
	Absent error
	// State is the directory in which it keeps its containers, best on a tmpfs. It is made when it is needed.
	State string
	// Filters is the directory in which compiled system call filters are kept: filter.go tells. It is made when it is
	// needed; "" compiles each anew.
	Filters string
}

// Find looks the runtime up: a path as it is, a name in $PATH. The empty name means strata's own runtime, beside the
// running program or in ../libexec/strata, else strata-runc, runc or crun in $PATH.
func Find(name string) (*Runtime, error) {
	if name != "" {
		path, err := exec.LookPath(name)
		if err != nil {
			return nil, fmt.Errorf("runtime %q: %w: %w", name, err, errdef.ErrUnavailable)
		}
		return found(path)
	}
	if path := ours(); path != "" {
		return found(path)
	}
	if installed := Installed(); len(installed) > 0 {
		return found(installed[0].Path)
	}
	return nil, absent()
}

// absent is the error where no runtime is installed.
func absent() error {
	return errdef.WithHint(
		fmt.Errorf("no container runtime: neither strata-runc beside the program nor strata-runc, runc or crun in $PATH: %w", errdef.ErrUnavailable),
		"build it with `make`, or install one: sudo apt-get install runc   (Fedora: sudo dnf install runc)")
}

// present is the error of [absent] for a runtime without a program.
func (r *Runtime) present() error {
	if r.Path == "" && r.Absent != nil {
		return r.Absent
	}
	if r.Path == "" {
		return absent()
	}
	return nil
}

// Installed lists the runtimes of this machine that are known by name, the one that is taken first.
func Installed() []Runtime {
	var all []Runtime
	if path := ours(); path != "" {
		all = append(all, Runtime{Path: path})
	}
	for _, name := range []string{"strata-runc", "runc", "crun"} {
		if path, err := exec.LookPath(name); err == nil && (len(all) == 0 || name != all[0].Name()) {
			all = append(all, Runtime{Path: path})
		}
	}
	return all
}

// FindChroot finds strata-chroot, the runtime for where there are no namespaces.
func FindChroot() (*Runtime, error) {
	if path := beside.Find("strata-chroot"); path != "" {
		return found(path)
	}
	return nil, errdef.WithHint(fmt.Errorf("strata-chroot is not beside the program: %w", errdef.ErrUnavailable), "make bin/strata-chroot")
}

// Shares reports whether the runtime leaves a container in the namespaces of its surroundings.
func (r Runtime) Shares() bool { return r.Name() == "strata-chroot" }

// ours is strata's own runtime beside the program or in ../libexec/strata, "" if it is not there.
func ours() string { return beside.Find("strata-runc") }

// Name is what a person calls the runtime.
func (r Runtime) Name() string { return filepath.Base(r.Path) }

func found(path string) (*Runtime, error) {
	if !strings.HasPrefix(path, "/") {
		abs, err := filepath.Abs(path)
		if err != nil {
			return nil, err
		}
		path = abs
	}
	return &Runtime{Path: path}, nil
}
