package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/layer"
	"strata/internal/rootfs"
)

// CopyOptions say how files are copied into or out of a container.
type CopyOptions struct {
	// Ref is the container as the user named it, for messages.
	Ref string
	// Dir is an empty directory to show the container's files in.
	Dir string
	// Follow copies what a symbolic link at the source leads to.
	Follow bool
	// Archive keeps owners. Without it a file copied in is root's, one copied out the caller's.
	Archive bool
	// Moved counts the bytes that have passed, for whoever shows progress.
	Moved *atomic.Int64
}

// Copied tells of a finished copy.
type Copied struct {
	// Bytes are those of the tar that the copy would be.
	Bytes int64
	// Dest is the place of the copy, as docker reports it.
	Dest string
	// Devices is the number of device nodes that were left out.
	Devices int
}

// CopyOut copies src of the container to dest of this machine, by docker's rules.
func (s *Store) CopyOut(ctx context.Context, rec Record, src, dest string, o CopyOptions) (Copied, error) {
	dst, err := hostDestination(dest)
	if err != nil {
		return Copied{}, err
	}
	done := Copied{Dest: dst.path}
	err = s.withTree(ctx, rec, o.Dir, func(t *fileTree) error {
		from, end, err := t.source(src, o)
		if err != nil {
			return err
		}
		defer from.dir.Close()
		dir, name, err := placeCopy(end, dst)
		if err != nil {
			return err
		}
		to, err := rootfs.OpenRoot(dir)
		if err != nil {
			return err
		}
		defer to.Close()
		owner := layer.CopyOptions{Shown: dir, LeaveOwner: !o.Archive, Harmless: !o.Archive, IgnoreOwner: s.opt.SingleID}
		done.Devices, err = from.copy(ctx, name, o.Moved, func(r io.Reader) (int, error) {
			return layer.CopyTree(ctx, r, to.File(), "", owner)
		})
		return err
	})
	done.Bytes = o.Moved.Load()
	return done, err
}

// CopyOutTar writes the tar of src of the container to w.
func (s *Store) CopyOutTar(ctx context.Context, rec Record, src string, w io.Writer, o CopyOptions) error {
	return s.withTree(ctx, rec, o.Dir, func(t *fileTree) error {
		from, end, err := t.source(src, o)
		if err != nil {
			return err
		}
		defer from.dir.Close()
		_, name := splitEntry(end.path) // of a link that was followed, what it leads to
		if name == "/" {
			name = "."
		}
		return layer.WriteResource(ctx, w, from.dir, from.base, name, t.shift)
	})
}

// CopyIn copies src of this machine to dest of the container, by docker's rules.
func (s *Store) CopyIn(ctx context.Context, rec Record, src, dest string, o CopyOptions) (Copied, error) {
	end, err := hostSource(src, o.Follow)
	if err != nil {
		return Copied{}, err
	}
	from, err := openSource(end.path, openPath)
	if err != nil {
		return Copied{}, err
	}
	defer from.dir.Close()
	var done Copied
	err = s.withTree(ctx, rec, o.Dir, func(t *fileTree) error {
		dst, err := t.destination(dest, o)
		if err != nil {
			return err
		}
		done.Dest = o.Ref + ":" + dst.path
		dir, name, err := placeCopy(end, dst)
		if err != nil {
			return err
		}
		if dir, err = t.unpackDir(dir, name, o); err != nil {
			return err
		}
		owner := layer.CopyOptions{Shown: "/", IgnoreOwner: s.opt.SingleID, Shift: t.shift}
		if root := 0; !o.Archive {
			owner.UID, owner.GID = &root, &root
		}
		_, err = from.copy(ctx, name, o.Moved, func(r io.Reader) (int, error) {
			return layer.CopyTree(ctx, r, t.root.File(), dir, owner)
		})
		return err
	})
	done.Bytes = o.Moved.Load()
	return done, err
}

// CopyInTar unpacks the tar, compressed or not, that r gives into the directory dest of the container. Its entries keep
// their owners.
func (s *Store) CopyInTar(ctx context.Context, rec Record, r io.Reader, dest string, o CopyOptions) error {
	return s.withTree(ctx, rec, o.Dir, func(t *fileTree) error {
		dst, err := t.destination(dest, o)
		if err != nil {
			return err
		}
		if !dst.dir {
			return &wordedError{fmt.Sprintf(`destination "%s:%s" must be a directory`, o.Ref, dest), errdef.ErrInvalid}
		}
		dir, err := t.unpackDir(dst.path, ".", o)
		if err != nil {
			return err
		}
		plain, _, err := layer.Decompress(interruptible(ctx, r))
		if err != nil {
			return err
		}
		defer plain.Close()
		_, err = layer.CopyTree(ctx, plain, t.root.File(), dir, layer.CopyOptions{Shown: "/", IgnoreOwner: s.opt.SingleID, Shift: t.shift})
		return err
	})
}

// interruptible gives what r gives until ctx ends, also while r has nothing to give.
func interruptible(ctx context.Context, r io.Reader) io.Reader {
	pr, pw := io.Pipe()
	go func() {
		_, err := io.Copy(pw, r)
		pw.CloseWithError(err)
	}()
	context.AfterFunc(ctx, func() { pr.CloseWithError(ctx.Err()) })
	return pr
}

// The commands that reach from inside what cp cannot.
const (
	reading = "cat"
	writing = "cat >"
)

// copySource is what is to be copied: base in the open directory dir.
type copySource struct {
	dir   *os.File
	base  string
	shift layer.Shift // of the tree that it is in
}

// openSource opens the directory that p, without links on its way, is in.
func openSource(p string, open func(string) (*os.File, error)) (copySource, error) {
	dir, base := path.Split(p)
	if base == "" { // it ends in "/": the directory itself
		base = "."
	}
	f, err := open(dir)
	return copySource{dir: f, base: base}, err
}

// openPath opens a directory of this machine that need not be readable.
func openPath(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return os.NewFile(uintptr(fd), dir), nil
}

// copy hands the source's tar under the name name to unpack.
func (c copySource) copy(ctx context.Context, name string, moved *atomic.Int64, unpack func(r io.Reader) (int, error)) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pr, pw := io.Pipe()
	packed := make(chan struct{})
	go func() {
		defer close(packed)
		pw.CloseWithError(layer.WriteResource(ctx, countingWriter{pw, moved}, c.dir, c.base, name, c.shift))
	}()
	n, err := unpack(pr)
	if err == nil {
		_, err = io.Copy(io.Discard, pr) // so that all of it is counted
	}
	pr.CloseWithError(err)
	<-packed
	return n, err
}

type countingWriter struct {
	w io.Writer
	n *atomic.Int64
}

func (c countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n.Add(int64(n))
	return n, err
}

// source finds what is to be copied out of the container.
func (t *fileTree) source(name string, o CopyOptions) (copySource, copyEnd, error) {
	none := copySource{}
	if name == "" {
		return none, copyEnd{}, &wordedError{"bad parameter: path cannot be empty", errdef.ErrInvalid}
	}
	end := copyEnd{path: insidePath(name), exists: true}
	real, st, err := t.locate(end.path)
	if err == nil && o.Follow && st.Mode&unix.S_IFMT == unix.S_IFLNK {
		link := real
		if real, err = t.root.Resolve(link); err == nil {
			end.path, end.rename = followed(end.path, real)
			st, err = t.root.Lstat(real)
		} else if lost, lerr := t.root.Landing(link); lerr == nil {
			name = lost
		}
	}
	if err != nil {
		return none, end, t.missing(name, o.Ref, err)
	}
	if err := t.reachable(path.Clean(real), o.Ref, reading); err != nil {
		return none, end, err
	}
	end.dir = st.Mode&unix.S_IFMT == unix.S_IFDIR
	from, err := openSource(real, func(dir string) (*os.File, error) {
		return t.root.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	})
	from.shift = t.shift
	return from, end, err
}

// locate resolves the links on the way to p but not p itself, unless it ends in "/" or "/.", which stays at the end.
func (t *fileTree) locate(p string) (real string, st unix.Stat_t, err error) {
	dir, base := path.Split(p)
	if dir, err = t.root.Resolve(dir); err != nil {
		return "", st, err
	}
	real = strings.TrimSuffix(dir, "/") + "/" + base
	st, err = t.root.Lstat(real)
	return real, st, err
}

// missing puts docker's words for a file that is not there.
func (t *fileTree) missing(name, ref string, err error) error {
	if errors.Is(err, unix.ENOTDIR) {
		return &wordedError{fmt.Sprintf("%s: not a directory", name), errdef.ErrInvalid}
	}
	if !errors.Is(err, errdef.ErrNotFound) {
		return err
	}
	gone := &wordedError{fmt.Sprintf("Could not find the file %s in container %s", name, ref), errdef.ErrNotFound}
	if err := t.reachable(path.Clean(insidePath(name)), ref, reading); err != nil {
		return errdef.WithHint(gone, errdef.Hint(err))
	}
	return gone
}

// destination looks at the place in the container that is to become a copy. A link there is followed, also to where
// nothing is.
func (t *fileTree) destination(name string, o CopyOptions) (copyEnd, error) {
	dst := copyEnd{path: name}
	if name == "" {
		return dst, nil
	}
	_, st, err := t.locate(insidePath(name))
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
		if dst.path, err = t.root.Landing(insidePath(name)); err == nil {
			st, err = t.root.Lstat(dst.path)
		}
	}
	if err != nil {
		return dst, nil // what is wrong with it shows when its parent is opened
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR, unix.S_IFBLK:
		return dst, &wordedError{fmt.Sprintf(`destination "%s:%s" must be a directory or a regular file: got a device`, o.Ref, name), errdef.ErrInvalid}
	}
	dst.exists, dst.dir = true, st.Mode&unix.S_IFMT == unix.S_IFDIR
	return dst, nil
}

// unpackDir resolves the directory to unpack base in, which must be there, be one and be writable.
func (t *fileTree) unpackDir(dir, base string, o CopyOptions) (string, error) {
	real, err := t.root.Resolve(insidePath(dir))
	if err != nil {
		return "", t.missing(dir, o.Ref, err)
	}
	if st, err := t.root.Lstat(real); err != nil {
		return "", err
	} else if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return "", &wordedError{"extraction point is not a directory", errdef.ErrInvalid}
	}
	if err := t.reachable(path.Join(real, base), o.Ref, writing); err != nil {
		return "", err
	}
	return real, t.writable(real)
}
