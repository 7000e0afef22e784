package tool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// rm removes files, with -r trees; -f says nothing of what is not there; -d empty directories; -v names each.
func rm(p *Proc) error {
	o, args, err := p.opts("rRfdv", "recursive=r", "force=f", "dir=d", "verbose=v")
	if err != nil {
		return err
	}
	if len(args) == 0 && !o.has('f') {
		return need(args, 1)
	}
	for _, name := range args {
		if err := remove(o, name); err != nil {
			p.warn(err)
		} else if o.has('v') {
			fmt.Fprintf(p.Out, "removed %s\n", name)
		}
	}
	return nil
}

func remove(o opts, name string) error {
	if base := filepath.Base(name); base == "/" || base == "." || base == ".." {
		return fmt.Errorf("refusing to remove %s", name)
	}
	st, err := os.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && o.has('f'):
		return nil
	case err != nil:
		return err
	case !st.IsDir():
		return os.Remove(name)
	case o.has('r') || o.has('R'):
		return os.RemoveAll(name)
	case o.has('d'):
		return rmdirOne(name)
	}
	return fmt.Errorf("%s is a directory (-r removes it)", name)
}

// rmdir removes empty directories, with -p their parents too.
func rmdir(p *Proc) error {
	o, args, err := p.opts("p", "parents=p", "ignore-fail-on-non-empty=i")
	if err != nil {
		return err
	}
	if err := need(args, 1); err != nil {
		return err
	}
	for _, name := range args {
		for name = filepath.Clean(name); name != "." && name != "/"; name = filepath.Dir(name) {
			err := rmdirOne(name)
			if err != nil && !(o.has('i') && errors.Is(err, unix.ENOTEMPTY)) {
				p.warn(err)
			}
			if err != nil || !o.has('p') {
				break
			}
		}
	}
	return nil
}

func rmdirOne(name string) error {
	if err := unix.Rmdir(name); err != nil {
		return &fs.PathError{Op: "rmdir", Path: name, Err: err}
	}
	return nil
}
