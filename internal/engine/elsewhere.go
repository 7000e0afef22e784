package engine

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"strata/internal/errdef"
	"strata/internal/image"
	"strata/internal/userns"
)

// systemRoot is root's store.
const systemRoot = "/var/lib/strata"

// neighbour is the store of the other one of two: of root for a plain user, of the user who called sudo for root.
type neighbour struct {
	root string
	// owner as messages name it; command is what runs a command line there.
	owner   string
	command func(line string) string
}

// neighbours finds it, if there is one.
func neighbours() (neighbour, bool) {
	if os.Geteuid() != 0 || userns.Active() {
		return neighbour{systemRoot, "root", func(line string) string { return "sudo " + line }}, true
	}
	caller, err := user.LookupId(os.Getenv("SUDO_UID"))
	if err != nil || caller.Uid == "0" {
		return neighbour{}, false
	}
	without := func(line string) string { return line + "   (without sudo)" }
	return neighbour{filepath.Join(caller.HomeDir, ".local", "share", "strata"), caller.Username, without}, true
}

// elsewhere adds to the error about a name that this store does not have that the neighbour's store has it. Where that one
// cannot be looked into, nothing is claimed.
func (e *Engine) elsewhere(name string, err error) error {
	if n, ok := neighbours(); ok && errors.Is(err, errdef.ErrNotFound) {
		return n.explain(e.opts.Root, name, err)
	}
	return err
}

func (n neighbour) explain(root, name string, err error) error {
	if n.root == root {
		return err
	}
	if has, lerr := image.TaggedIn(n.root, name); lerr != nil || !has {
		return err
	}
	err = fmt.Errorf("%w here (%s); %s's store has it (%s)", err, root, n.owner, n.root)
	return &Elsewhere{err, n.command}
}

// Elsewhere is the error about a name that another store has. Line gives the command line that uses that store.
type Elsewhere struct {
	error
	Line func(line string) string
}

// Unwrap gives what the store itself said.
func (e *Elsewhere) Unwrap() error { return e.error }

// NotImage is a name of a file or directory in the place of an image's.
type NotImage struct {
	Name string
	// Directory tells a directory from a file. Of files, Archive is one that holds an image, as save writes it, and
	// Dockerfile one that an image is built of, by its name.
	Directory, Archive, Dockerfile bool
}

// Error says what the name is instead.
func (n *NotImage) Error() string {
	switch {
	case n.Directory:
		return n.Name + " is a directory, not an image: build it first"
	case n.Archive:
		return n.Name + " is an archive, not an image: load it first"
	}
	if n.Dockerfile {
		return n.Name + " is a file, not an image: build it first"
	}
	return n.Name + " is a file, not an image"
}

// Unwrap gives the class.
func (n *NotImage) Unwrap() error { return errdef.ErrInvalid }

// notImage tells a name that no image has and that is a file or a directory here; nil else. A directory is meant only where
// it could be built.
func notImage(name string) error {
	st, err := os.Stat(name)
	switch {
	case err != nil:
		return nil
	case st.Mode().IsRegular():
		lower := strings.ToLower(filepath.Base(name))
		isDockerfile := strings.Contains(lower, "dockerfile") || strings.Contains(lower, "containerfile")
		return &NotImage{Name: name, Dockerfile: isDockerfile, Archive: strings.HasSuffix(name, ".tar") || strings.HasSuffix(name, ".tar.gz") || strings.HasSuffix(name, ".tgz")}
	case st.IsDir() && (strings.HasPrefix(name, ".") || strings.HasSuffix(name, "/") || exists(filepath.Join(name, "Dockerfile"))):
		return &NotImage{Name: name, Directory: true}
	}
	return nil
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}
