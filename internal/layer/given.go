package layer

import (
	"archive/tar"
	"bufio"
	"cmp"
	"context"
	"io"
	"io/fs"
	"path"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// File is a regular file of a changeset that its upper directory lacks: it goes into the layer from where it is. Several
// names of one File are hard links.
type File struct {
	Mode     uint32 // permission bits, with set-id and sticky
	UID, GID int
	MTime    time.Time
	Size     int64
	// Open gives the content, and the extended attributes that the file is to have. Its Close says so when what was read
	// is not what was meant.
	Open func() (io.ReadCloser, map[string][]byte, error)
}

// given is a name that a File has in a directory.
type given struct {
	name string
	file *File
}

// givenFiles are the files of each directory in the order of their names, and the directories that are there for their sake.
type givenFiles struct {
	in    map[string][]given
	dirs  map[string]bool
	first map[*File]*tar.Header // of files written already, as links to them
	out   *writerSink
}

func newGiven(files map[string]*File) *givenFiles {
	g := &givenFiles{in: map[string][]given{}, dirs: map[string]bool{}, first: map[*File]*tar.Header{}}
	for p, f := range files {
		dir := parentOf(p)
		g.in[dir] = append(g.in[dir], given{path.Base(p), f})
		for ; !g.dirs[dir]; dir = parentOf(dir) {
			g.dirs[dir] = true
		}
	}
	for _, list := range g.in {
		slices.SortFunc(list, func(a, b given) int { return cmp.Compare(a.name, b.name) })
	}
	return g
}

// commitTar makes a layer in tar form of an upper directory and the files that are given beside it.
func (s *Store) commitTar(ctx context.Context, from *staging, o CommitOptions) (Meta, error) {
	fd, err := unix.Open(from.fs(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return Meta{}, &fs.PathError{Op: "open", Path: from.fs(), Err: err}
	}
	defer unix.Close(fd)
	files := newGiven(o.Files)
	c := newCleaner(s.opt.Userxattr, o)
	c.stays = files.dirs
	_, root, err := c.root(ctx, fd, o.Lower)
	if err != nil {
		return Meta{}, err
	}
	g, err := s.stage()
	if err != nil {
		return Meta{}, err
	}
	defer g.discard()
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.CloseWithError(s.emitGiven(ctx, w, fd, root, files))
	}()
	m, err := s.takeTar(ctx, g, r)
	r.CloseWithError(err)
	<-done // it reads the directory that is removed next
	if err != nil {
		return Meta{}, err
	}
	return s.publish(ctx, g, m)
}

func (s *Store) emitGiven(ctx context.Context, w io.Writer, fd int, root bool, files *givenFiles) error {
	buf := bufio.NewWriterSize(w, chunkSize)
	files.out = &writerSink{stop: ctx.Err, w: buf, buf: make([]byte, chunkSize)}
	e := newEmitter(files.out)
	e.layer, e.userxattr, e.given = true, s.opt.Userxattr, files
	if err := e.tree(ctx, fd, root); err != nil {
		return err
	}
	return buf.Flush()
}

// givenFile writes a given file, or a link to the name under which it was written before.
func (e *emitter) givenFile(p string, f *File) error {
	if hdr := e.given.first[f]; hdr != nil {
		again := *hdr
		again.Name = p
		return e.write(&again)
	}
	r, xattrs, err := f.Open()
	if err != nil {
		return err
	}
	hdr, err := f.header(p, xattrs)
	if err == nil {
		e.given.first[f] = &tar.Header{
			Typeflag: tar.TypeLink, Linkname: p, Mode: hdr.Mode, Uid: hdr.Uid, Gid: hdr.Gid, ModTime: hdr.ModTime, Format: hdr.Format,
		}
		err = e.write(hdr)
	}
	if err == nil {
		err = e.given.out.stream(r, f.Size)
	}
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return e.out.raw(zeroBlocks[:-f.Size&511])
}

func (f *File) header(p string, xattrs map[string][]byte) (*tar.Header, error) {
	// What a disk would make of the attributes, so that the same files give the same layer.
	n := node{attrs: attrs{mode: unix.S_IFREG | f.Mode, xattrs: map[string]string{}}}
	for name, value := range xattrs {
		if kept(name) {
			n.xattrs[name] = string(value)
		}
	}
	if err := n.settleXattrs(); err != nil {
		return nil, err
	}
	hdr := &tar.Header{
		Typeflag: tar.TypeReg, Name: p, Mode: int64(n.mode & 0o7777), Uid: f.UID, Gid: f.GID, ModTime: f.MTime, Size: f.Size, Format: tar.FormatPAX,
	}
	for name, value := range n.xattrs {
		if hdr.PAXRecords == nil {
			hdr.PAXRecords = map[string]string{}
		}
		hdr.PAXRecords[paxXattr+name] = value
	}
	return hdr, nil
}

// stream writes size bytes of what r gives.
func (s *writerSink) stream(r io.Reader, size int64) error {
	if err := s.stop(); err != nil {
		return err
	}
	n, err := io.Copy(s.w, io.LimitReader(r, size)) // straight into the buffer of a bufio.Writer
	if err == nil && n < size {
		err = errShrank
	}
	return err
}
