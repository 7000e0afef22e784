package tool

import (
	stdtar "archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// archiver is one tar.
type archiver struct {
	o     opts
	p     *Proc
	strip int
	only  []string // members asked for
}

// tar makes (-c), lists (-t) and extracts (-x) archives: -f -z -v -C -p -O -h -k --strip-components --exclude. What it reads
// may be packed by gzip or bzip2 whatever the flags say.
func tar(p *Proc) error {
	if len(p.Args) > 0 && !strings.HasPrefix(p.Args[0], "-") { // the old style: "tar xzf FILE"
		p.Args = append([]string{"-" + p.Args[0]}, p.Args[1:]...)
	}
	o, args, err := p.opts("ctxzjf:vC:pOhkmsS:e:", "create=c", "list=t", "extract=x", "get=x", "gzip=z", "file=f", "verbose=v", "directory=C",
		"to-stdout=O", "dereference=h", "keep-old-files=k", "strip-components=S", "exclude=e", "no-same-owner=s", "preserve-permissions=p", "touch=m")
	if err != nil {
		return err
	}
	a := &archiver{o: o, p: p, only: args}
	if a.strip, err = strconv.Atoi(o.last('S', "0")); err != nil {
		return err
	}
	if o.has('c') {
		return a.create(args)
	}
	if !o.has('x') && !o.has('t') {
		return errors.New("one of -c, -t, -x is needed")
	}
	name := o.last('f', "-")
	return p.input(name, func(_ string, r io.Reader) error {
		// The directory is changed after the archive was opened.
		if err := a.enter(); err != nil {
			return err
		}
		r, err := unpacked(r)
		if err != nil {
			return err
		}
		return a.read(stdtar.NewReader(r))
	})
}

func (a *archiver) enter() error {
	if dir := a.o.last('C', ""); dir != "" {
		return os.Chdir(dir)
	}
	return nil
}

// unpacked looks at the first bytes and undoes gzip or bzip2.
func unpacked(r io.Reader) (io.Reader, error) {
	b := bufio.NewReader(r)
	magic, _ := b.Peek(3)
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return gzip.NewReader(b)
	case bytes.HasPrefix(magic, []byte("BZh")):
		return bzip2.NewReader(b), nil
	}
	return b, nil
}

func (a *archiver) create(args []string) error {
	out := io.Writer(a.p.Out)
	if name := a.o.last('f', "-"); name != "-" {
		f, err := os.Create(name)
		if err != nil {
			return err
		}
		defer f.Close()
		out = f
	}
	if err := a.enter(); err != nil {
		return err
	}
	closers := []io.Closer{}
	if a.o.has('z') {
		z := gzip.NewWriter(out)
		out, closers = z, append(closers, z)
	}
	w := stdtar.NewWriter(out)
	closers = append([]io.Closer{w}, closers...)
	links := map[[2]uint64]string{}
	for _, arg := range args {
		err := filepath.WalkDir(arg, func(name string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return a.add(w, name, links)
		})
		if err != nil {
			a.p.warn(err)
		}
	}
	var err error
	for _, c := range closers {
		err = errors.Join(err, c.Close())
	}
	return err
}

func (a *archiver) excluded(name string) bool {
	for _, pattern := range a.o['e'] {
		whole, _ := path.Match(pattern, strings.TrimPrefix(name, "./"))
		base, _ := path.Match(pattern, path.Base(name))
		if whole || base {
			return true
		}
	}
	return false
}

func (a *archiver) add(w *stdtar.Writer, name string, links map[[2]uint64]string) error {
	st, err := os.Lstat(name)
	if err == nil && a.o.has('h') {
		st, err = os.Stat(name)
	}
	if err != nil {
		return err
	}
	if a.excluded(name) {
		if st.IsDir() {
			return filepath.SkipDir
		}
		return nil
	}
	target, _ := os.Readlink(name)
	h, err := stdtar.FileInfoHeader(st, target)
	if err != nil {
		return err
	}
	h.Name = strings.TrimLeft(name, "/")
	if st.IsDir() {
		h.Name += "/"
	}
	var sys unix.Stat_t
	if unix.Lstat(name, &sys) == nil && sys.Nlink > 1 && st.Mode().IsRegular() {
		key := [2]uint64{sys.Dev, sys.Ino}
		if first, ok := links[key]; ok {
			h.Typeflag, h.Linkname, h.Size = stdtar.TypeLink, first, 0
		} else {
			links[key] = h.Name
		}
	}
	if a.o.has('v') {
		fmt.Fprintln(a.p.Err, name)
	}
	if err := w.WriteHeader(h); err != nil || h.Typeflag != stdtar.TypeReg {
		return err
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyN(w, f, h.Size)
	return err
}

func (a *archiver) wanted(name string) bool {
	if a.excluded(name) {
		return false
	}
	for _, w := range a.only {
		w = strings.TrimSuffix(w, "/")
		if strings.TrimSuffix(name, "/") == w || strings.HasPrefix(name, w+"/") {
			return true
		}
	}
	return len(a.only) == 0
}

func (a *archiver) read(r *stdtar.Reader) error {
	// Nothing leaves this directory, by no name and by no link that an earlier member made.
	root, err := os.OpenRoot(".")
	if err != nil {
		return err
	}
	defer root.Close()
	for {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if !a.wanted(h.Name) {
			continue
		}
		if a.o.has('t') {
			a.list(h)
			continue
		}
		name := h.Name
		for range a.strip {
			_, name, _ = strings.Cut(strings.TrimLeft(name, "/"), "/")
		}
		if name = filepath.Clean(strings.TrimLeft(name, "/")); name == "." || name == "" && a.strip > 0 {
			continue
		}
		if a.o.has('v') {
			fmt.Fprintln(a.p.Out, h.Name)
		}
		if a.o.has('O') {
			_, err = io.Copy(a.p.Out, r)
		} else {
			err = a.extract(root, name, h, r)
		}
		if err != nil {
			a.p.warn(fmt.Errorf("%s: %w", h.Name, err))
		}
	}
}

func (a *archiver) list(h *stdtar.Header) {
	if !a.o.has('v') {
		fmt.Fprintln(a.p.Out, h.Name)
		return
	}
	name := h.Name
	if h.Linkname != "" {
		name += " -> " + h.Linkname
	}
	fmt.Fprintf(a.p.Out, "%s %d/%d %9d %s %s\n", h.FileInfo().Mode(), h.Uid, h.Gid, h.Size, h.ModTime.Format("2006-01-02 15:04"), name)
}

func (a *archiver) extract(root *os.Root, name string, h *stdtar.Header, r io.Reader) error {
	if err := root.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		return err
	}
	if st, err := root.Lstat(name); err == nil && !(st.IsDir() && h.Typeflag == stdtar.TypeDir) {
		if a.o.has('k') {
			return fs.ErrExist
		}
		if err := root.Remove(name); err != nil {
			return err
		}
	}
	mode := fs.FileMode(h.Mode & 0o777)
	var err error
	switch h.Typeflag {
	case stdtar.TypeDir:
		if err = root.Mkdir(name, mode|0o700); errors.Is(err, fs.ErrExist) {
			err = nil
		}
	case stdtar.TypeReg:
		var f *os.File
		if f, err = root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode); err != nil {
			return err
		}
		_, err = io.Copy(f, r)
		err = errors.Join(err, f.Close())
	case stdtar.TypeSymlink:
		err = root.Symlink(h.Linkname, name)
	case stdtar.TypeLink:
		return root.Link(strings.TrimLeft(h.Linkname, "/"), name)
	default:
		return fmt.Errorf("a member of type %q: %w", h.Typeflag, errors.ErrUnsupported)
	}
	if err != nil {
		return err
	}
	return a.attributes(root, name, h)
}

// attributes gives owner (to root only), mode and time as the archive says.
func (a *archiver) attributes(root *os.Root, name string, h *stdtar.Header) error {
	if os.Geteuid() == 0 && !a.o.has('s') {
		if err := root.Lchown(name, h.Uid, h.Gid); err != nil {
			return err
		}
	}
	if h.Typeflag == stdtar.TypeSymlink {
		return nil
	}
	if os.Geteuid() == 0 || a.o.has('p') {
		if err := root.Chmod(name, h.FileInfo().Mode()&(fs.ModePerm|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky)); err != nil {
			return err
		}
	}
	if a.o.has('m') {
		return nil
	}
	return root.Chtimes(name, h.ModTime, h.ModTime)
}
