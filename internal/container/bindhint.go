package container

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/rootfs"
)

// notAbsolute is the error about the source of a -v that is neither a path from the root nor a volume's name.
func notAbsolute(spec, source string) error {
	if source == "" {
		err := fmt.Errorf("volume %q: empty section between colons: %w", spec, errdef.ErrInvalid)
		return errdef.WithHint(err, "the part before the first colon is empty: is a variable in it not set?")
	}
	err := fmt.Errorf("volume %q: %q includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed; "+
		"if you intended to pass a host directory, use absolute path: %w", spec, source, errdef.ErrInvalid)
	return errdef.WithHint(err, fmt.Sprintf("-v \"$PWD\"/%s   (or -v ./%s)", strings.TrimPrefix(spec, "/"), spec))
}

// sameKind refuses to show a directory at a file's place, or a file at a directory's.
func sameKind(root *rootfs.Root, b Bind) error {
	source, err := os.Stat(b.Source)
	if err != nil {
		return err
	}
	at, err := root.Stat(b.Destination)
	if err != nil || source.IsDir() == (at.Mode&unix.S_IFMT == unix.S_IFDIR) {
		return nil // what is not there is made as it must be
	}
	kind := map[bool]string{true: "a directory", false: "a file"}
	err = fmt.Errorf("bind %s at %s: the one is %s and the other %s: %w", b.Source, b.Destination, kind[source.IsDir()], kind[!source.IsDir()], errdef.ErrInvalid)
	if source.IsDir() && b.CreateSource {
		return errdef.WithHint(err, fmt.Sprintf("see what there is: ls -ld %s   (-v makes a directory of a source that does not exist)", b.Source))
	}
	return errdef.WithHint(err, "name a file for a file, a directory for a directory")
}
