package tool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// copier copies files and trees.
type copier struct {
	recursive, preserve, deref, force, noClobber, verbose bool
	p                                                     *Proc
}

// cp copies: -r -R, -a (everything as it is), -p (mode, owner, times), -d -P (links as links), -L, -f, -n, -v, -t, -T.
func cp(p *Proc) error {
	o, args, err := p.opts("rRapdPLfnvt:T", "recursive=r", "archive=a", "preserve=p", "no-dereference=P", "dereference=L", "force=f", "no-clobber=n",
		"verbose=v", "target-directory=t", "no-target-directory=T")
	if err != nil {
		return err
	}
	c := &copier{
		recursive: o.has('r') || o.has('R') || o.has('a'), preserve: o.has('p') || o.has('a'), force: o.has('f'),
		noClobber: o.has('n'), verbose: o.has('v'), p: p,
	}
	c.deref = o.has('L') || !(c.recursive || o.has('d') || o.has('P'))
	return p.toTarget(o, args, func(from, to string) error { return c.copy(from, to) })
}

// toTarget calls fn for each source with the name it shall have: in the target if that is a directory, else the target.
func (p *Proc) toTarget(o opts, args []string, fn func(from, to string) error) error {
	target := o.last('t', "")
	if target == "" {
		if err := need(args, 2); err != nil {
			return err
		}
		target, args = args[len(args)-1], args[:len(args)-1]
	}
	st, err := os.Stat(target)
	into := err == nil && st.IsDir() && !o.has('T')
	if !into && len(args) > 1 {
		return fmt.Errorf("%s is not a directory", target)
	}
	for _, from := range args {
		to := target
		if into {
			to = filepath.Join(target, filepath.Base(from))
		}
		if err := fn(from, to); err != nil {
			p.warn(err)
		}
	}
	return nil
}

func (c *copier) copy(from, to string) error {
	st, err := os.Lstat(from)
	if err == nil && c.deref {
		st, err = os.Stat(from)
	}
	if err != nil {
		return err
	}
	if old, err := os.Lstat(to); err == nil {
		if os.SameFile(st, old) {
			return fmt.Errorf("%s and %s are the same file", from, to)
		}
		if c.noClobber && !old.IsDir() {
			return nil
		}
	}
	if c.verbose {
		fmt.Fprintf(c.p.Out, "%s -> %s\n", from, to)
	}
	switch st.Mode().Type() {
	case 0:
		err = c.file(from, to, st.Mode().Perm())
	case fs.ModeDir:
		err = c.dir(from, to, st.Mode().Perm())
	case fs.ModeSymlink:
		err = c.link(from, to)
	default:
		sys := st.Sys().(*syscall.Stat_t)
		err = os.NewSyscallError("mknod", unix.Mknod(to, sys.Mode, int(sys.Rdev)))
	}
	if err == nil && c.preserve {
		err = keep(st, to)
	}
	return err
}

func (c *copier) file(from, to string, mode fs.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil && c.force && os.Remove(to) == nil {
		out, err = os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func (c *copier) dir(from, to string, mode fs.FileMode) error {
	if !c.recursive {
		return fmt.Errorf("%s is a directory (-r copies it)", from)
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	if err := os.Mkdir(to, mode|0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, e := range entries {
		if err := c.copy(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
			c.p.warn(err)
		}
	}
	return nil
}

func (c *copier) link(from, to string) error {
	target, err := os.Readlink(from)
	if err != nil {
		return err
	}
	if err = os.Symlink(target, to); errors.Is(err, fs.ErrExist) && os.Remove(to) == nil {
		err = os.Symlink(target, to)
	}
	return err
}

// keep gives a copy the owner, mode and times of the original. Who may not give files away keeps them.
func keep(st fs.FileInfo, to string) error {
	sys := st.Sys().(*syscall.Stat_t)
	if err := os.Lchown(to, int(sys.Uid), int(sys.Gid)); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	if st.Mode()&fs.ModeSymlink == 0 {
		if err := unix.Chmod(to, sys.Mode&0o7777); err != nil {
			return &fs.PathError{Op: "chmod", Path: to, Err: err}
		}
	}
	times := []unix.Timespec{{Sec: sys.Atim.Sec, Nsec: sys.Atim.Nsec}, {Sec: sys.Mtim.Sec, Nsec: sys.Mtim.Nsec}}
	return os.NewSyscallError("utimensat", unix.UtimesNanoAt(unix.AT_FDCWD, to, times, unix.AT_SYMLINK_NOFOLLOW))
}
