package runtime

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"strata/internal/errdef"
)

// Runtime is an OCI runtime program.
type Runtime struct {
	// Path is the program.
	Path string
	// State is the directory in which it keeps its containers, best on a tmpfs. It is made when it is needed.
	State string
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
	if self, err := os.Executable(); err == nil {
		dir := filepath.Dir(self)
		for _, path := range []string{
			filepath.Join(dir, "strata-runc"),
			filepath.Join(dir, "../libexec/strata/strata-runc"),
		} {
			if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
				return found(path)
			}
		}
	}
	for _, name := range []string{"strata-runc", "runc", "crun"} {
		if path, err := exec.LookPath(name); err == nil {
			return found(path)
		}
	}
	return nil, errdef.WithHint(
		fmt.Errorf("no container runtime: neither strata-runc beside the program nor strata-runc, runc or crun in $PATH: %w", errdef.ErrUnavailable),
		"build it with `make`, or install the package runc or crun")
}

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
