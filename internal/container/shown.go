package container

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"strata/internal/rootfs"
)

// What containers see has one mode, whatever the umask of whoever calls: their users are others.
const (
	shownDir  = 0o755
	shownFile = 0o644
)

// makeShown makes a directory of the host that a container is to see, and those above it that lack.
func makeShown(dir string) error {
	var lacking []string
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		lacking = append(lacking, dir)
	}
	for _, d := range slices.Backward(lacking) {
		err := os.Mkdir(d, shownDir)
		if errors.Is(err, fs.ErrExist) {
			continue // another was quicker
		}
		if err == nil {
			err = os.Chmod(d, shownDir)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// writeShown writes a file that a container is to see. It is not renamed into place: a running container has it mounted.
func writeShown(file, content string) error {
	if err := os.WriteFile(file, []byte(content), shownFile); err != nil {
		return err
	}
	return os.Chmod(file, shownFile)
}

// makeCwd makes the working directory in the container's tree, as docker does. In a mount the runtime does it.
func makeCwd(root *rootfs.Root, spec *specs.Spec) error {
	if below(spec.Process.Cwd, spec.Mounts) {
		return nil
	}
	_, err := root.MkdirAll(spec.Process.Cwd, shownDir, 0, 0)
	return err
}
