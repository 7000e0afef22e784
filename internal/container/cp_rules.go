package container

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"strata/internal/errdef"
)

// The rules of cp: docker's, which are those of cp -a but for three things. The parent of the destination must exist; a
// directory is copied under a new name only to where nothing is; and "/." after a directory means what is in it.

// wordedError has docker's words and a class.
type wordedError struct {
	text  string
	class error
}

func (e *wordedError) Error() string { return e.text }
func (e *wordedError) Unwrap() error { return e.class }

func errCannotCopyDir() error { return &wordedError{"cannot copy directory", errdef.ErrConflict} }
func errNoSuchDir() error     { return &wordedError{"no such directory", errdef.ErrNotFound} }

// copyEnd is the source or the destination of a copy.
type copyEnd struct {
	// path as the user gave it, made absolute, links resolved as far as they are followed. A "/" or "/." at its end is kept.
	path        string
	exists, dir bool
	// rename is the name of the copy where it is not the last component of path: links were followed.
	rename string
}

// placeCopy gives the directory into which a copy of src is to be unpacked to become dst, and its name there: "." is for
// what is in src.
func placeCopy(src, dst copyEnd) (dir, name string, err error) {
	_, name = splitEntry(src.path)
	if src.rename != "" {
		name = src.rename
	}
	if name == "/" {
		name = "."
	}
	parent, base := splitEntry(dst.path)
	switch {
	case dst.exists && dst.dir:
		return dst.path, name, nil
	case dst.exists && src.dir:
		return "", "", errCannotCopyDir()
	case !dst.exists && !src.dir && assertsDir(dst.path):
		return "", "", errNoSuchDir()
	}
	return parent, base, nil
}

// splitEntry splits p into its directory and its last component, which may be ".".
func splitEntry(p string) (dir, base string) {
	clean := path.Clean(p)
	if endsInDot(p) {
		clean += "/."
	}
	return path.Dir(clean), path.Base(clean)
}

func endsInDot(p string) bool   { return path.Base(p) == "." }
func endsInSlash(p string) bool { return strings.HasSuffix(p, "/") }
func assertsDir(p string) bool  { return endsInSlash(p) || endsInDot(p) }

// keepEnd puts back a "/" or "/." that cleaning took from the end of original.
func keepEnd(clean, original string) string {
	if !endsInDot(clean) && endsInDot(original) {
		if !endsInSlash(clean) {
			clean += "/"
		}
		clean += "."
	}
	if !endsInSlash(clean) && endsInSlash(original) {
		clean += "/"
	}
	return clean
}

// followed is the path to copy instead of the link p, when links are followed to target, and the name of the copy.
func followed(p, target string) (full, rename string) {
	full = keepEnd(target, p)
	if path.Base(p) != path.Base(full) {
		rename = path.Base(p)
	}
	return full, rename
}

// insidePath is a path of a container as docker takes it: from the root, whatever the working directory.
func insidePath(p string) string { return keepEnd(path.Join("/", p), p) }

// SplitCopyArg tells CONTAINER:PATH from a path of this machine, which has a "/" or a "." before any colon.
func SplitCopyArg(arg string) (container, p string) {
	if strings.HasPrefix(arg, "/") {
		return "", arg
	}
	container, p, ok := strings.Cut(arg, ":")
	if !ok || strings.HasPrefix(container, ".") {
		return "", arg
	}
	return container, p
}

// hostSource looks at a path of this machine that is to be copied.
func hostSource(name string, follow bool) (copyEnd, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return copyEnd{}, err
	}
	abs = keepEnd(abs, name)
	var src copyEnd
	if follow {
		target, err := filepath.EvalSymlinks(abs)
		if err != nil {
			return src, err
		}
		src.path, src.rename = followed(abs, target)
	} else {
		dir, base := filepath.Split(abs)
		target, err := filepath.EvalSymlinks(dir)
		if err != nil {
			return src, notDir(abs, err)
		}
		src.path = strings.TrimSuffix(target, "/") + "/" + base
		if endsInSlash(abs) && path.Base(abs) != path.Base(src.path) {
			src.rename = path.Base(abs)
		}
	}
	info, err := os.Lstat(src.path)
	if err != nil {
		return src, err
	}
	src.exists, src.dir = true, info.IsDir()
	return src, nil
}

// notDir names the path in Go's bare "not a directory".
func notDir(name string, err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return err
	}
	return fmt.Errorf("%s: %w", name, err)
}

// maxCopyLinks is how many links are followed to a destination.
const maxCopyLinks = 10

// hostDestination looks at a path of this machine that is to become a copy. Links are followed, also to where nothing is.
func hostDestination(name string) (copyEnd, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return copyEnd{}, err
	}
	dst := copyEnd{path: keepEnd(abs, name)}
	if err := validOutput(dst.path); err != nil {
		return dst, err
	}
	info, err := os.Lstat(dst.path)
	for n := 0; err == nil && info.Mode()&os.ModeSymlink != 0; n++ {
		if n > maxCopyLinks {
			return dst, &wordedError{"too many symlinks in " + name, errdef.ErrInvalid}
		}
		target, err2 := os.Readlink(strings.TrimSuffix(dst.path, "/"))
		if err2 != nil {
			return dst, err2
		}
		if !filepath.IsAbs(target) {
			parent, _ := splitEntry(dst.path)
			target = filepath.Join(parent, target)
		}
		dst.path = target
		info, err = os.Lstat(dst.path)
	}
	if err == nil {
		dst.exists, dst.dir = true, info.IsDir()
		return dst, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return dst, err
	}
	parent, _ := splitEntry(dst.path)
	above, err := os.Stat(parent)
	if err == nil && !above.IsDir() {
		err = &wordedError{parent + ": not a directory", errdef.ErrInvalid}
	}
	return dst, err
}

// validOutput refuses a destination without a directory to be in, and a device.
func validOutput(name string) error {
	dir := filepath.Dir(filepath.Clean(name))
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return &wordedError{fmt.Sprintf("invalid output path: directory %q does not exist", dir), errdef.ErrNotFound}
	}
	info, err := os.Stat(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&(os.ModeDevice|os.ModeIrregular) != 0 {
		return &wordedError{fmt.Sprintf("invalid output path: %q must be a directory or a regular file: got a device", name), errdef.ErrInvalid}
	}
	return nil
}
