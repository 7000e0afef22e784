package layer

import (
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/disk"
	"strata/internal/errdef"
)

// CommitOptions say what an upper directory is compared with and what is no part of it.
type CommitOptions struct {
	// Lower are the directories of the stack under upper, topmost first.
	Lower []string
	// Sockets in upper are whiteouts, as [MakeWhiteout] may leave them; else they are left out.
	Sockets bool
	// Drop are the paths in the container of mount points that the engine made. Each is left out if it is still an empty
	// file or directory that no lower layer has, and then a directory whose modification time alone changed by it too.
	Drop []string
	// Epoch: no modification time in the layer is later.
	Epoch *time.Time
	// Files are regular files that upper lacks, by their paths in it, which begin with no slash. Their directories are there;
	// what has their name is what they replace. The layer is then in tar form: ask [Store.AsTar] before.
	Files map[string]*File
}

// Commit makes a layer of an overlay upper directory that is not mounted any more. The directory becomes the layer: it
// is renamed into the store, from the same file system, and is gone afterwards, in success and failure. Its root should
// have been made with the attributes of the root below, or the layer says that they changed. An upper directory without
// changes makes no layer: then the Meta is empty.
func (s *Store) Commit(ctx context.Context, upper string, o CommitOptions) (Meta, error) {
	g, err := s.stage()
	if err != nil {
		return Meta{}, err
	}
	defer g.discard()
	if err := os.Rename(upper, g.fs()); err != nil {
		_ = disk.RemoveAll(upper) // the rename's failure is the one to tell
		return Meta{}, fmt.Errorf("commit: %w", err)
	}
	if len(o.Files) > 0 {
		m, err := s.commitTar(ctx, g, o)
		if err != nil {
			return Meta{}, fmt.Errorf("commit: %w", err)
		}
		return m, nil
	}
	m, err := s.commit(ctx, g, o)
	if err != nil {
		return Meta{}, fmt.Errorf("commit: %w", err)
	}
	if m.DiffID == "" {
		return m, nil
	}
	return s.publish(ctx, g, m)
}

func (s *Store) commit(ctx context.Context, g *staging, o CommitOptions) (Meta, error) {
	fd, err := unix.Open(g.fs(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return Meta{}, &fs.PathError{Op: "open", Path: g.fs(), Err: err}
	}
	defer unix.Close(fd)
	c := newCleaner(s.opt.Userxattr, o)
	c.self = s.opt.selfOwner()
	changed, root, err := c.root(ctx, fd, o.Lower)
	if err != nil || !changed {
		return Meta{}, err
	}
	if !root {
		if err := s.plainRoot(fd); err != nil {
			return Meta{}, err
		}
	}
	skel, err := newSkelWriter(filepath.Join(g.path, skelName))
	if err != nil {
		return Meta{}, err
	}
	defer skel.abandon()
	out := &commitSink{stop: ctx.Err, hash: newHasher(), skel: skel, sums: newSums()}
	e := newEmitter(out)
	e.layer, e.userxattr, e.self = true, s.opt.Userxattr, s.opt.selfOwner()
	err = e.tree(ctx, fd, root)
	id := out.hash.sum()
	if err != nil {
		return Meta{}, err
	}
	if e.entries > s.opt.MaxEntries {
		return Meta{}, fmt.Errorf("layer of %d entries (at most %d): %w", e.entries, s.opt.MaxEntries, errdef.ErrLimit)
	}
	if err := skel.finish(); err != nil {
		return Meta{}, err
	}
	if err := out.sums.write(filepath.Join(g.path, sumsName)); err != nil {
		return Meta{}, err
	}
	m, err := s.newMeta(id, formDir)
	m.Size, m.Disk, m.Content, m.Entries, m.Root = out.hash.size, out.disk, out.disk, e.entries, root
	m.Opaque = lowerStack{s.opt.Userxattr}.opaque(g.fs())
	return m, err
}

// plainRoot gives the root what unpacking gives it when there is no entry for it.
func (s *Store) plainRoot(fd int) error {
	u := &unpacker{ignoreOwner: s.opt.IgnoreOwner}
	if _, overlay, err := xattrsOf(fd); err != nil {
		return err
	} else if err := strip(fd, overlay, overlayXattr(s.opt.Userxattr, "opaque")); err != nil {
		return err
	}
	return u.apply(fd, attrs{mode: 0o755})
}

// commitSink hashes a tar and writes its skeleton.
type commitSink struct {
	stop func() error
	hash *hasher
	skel *skelWriter
	sums *sums
	disk int64
}

func (s *commitSink) raw(p []byte) error {
	_, _ = s.hash.Write(p) // a hash takes everything
	return s.skel.raw(p)
}

func (s *commitSink) file(path string, fd int, size int64) error {
	s.disk += size
	var sum uint32
	for n := size; n > 0; {
		if err := s.stop(); err != nil {
			return err
		}
		room := s.hash.room()
		k, err := readFd(fd, room[:min(n, int64(len(room)))])
		if err == io.EOF {
			return errShrank
		}
		if err != nil {
			return err
		}
		sum = crc32.Update(sum, s.sums.table, room[:k])
		s.hash.advance(k)
		n -= int64(k)
	}
	s.sums.add(sum)
	_, err := s.skel.file(path, size)
	return err
}
