package layer

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/oci"
)

// Ingest makes a layer of an uncompressed tar in one pass: hash, and either unpack and skeleton or write and index. want, when not empty, is the diffID
// that it must have (errdef.ErrCorrupt otherwise). A layer that is there already is not read again: then nothing is
// taken from tar. Otherwise tar is read to its end, what follows the archive included. A failed Ingest keeps nothing.
// No other goroutine of ours reads tar after Ingest has returned.
func (s *Store) Ingest(ctx context.Context, tar io.Reader, want oci.DiffID) (Meta, error) {
	if want != "" {
		if _, err := oci.ParseDiffID(string(want)); err != nil {
			return Meta{}, err
		}
		if err := s.hold(ctx, want); err != nil {
			return Meta{}, err
		}
		if m, err := s.Stat(want); err == nil {
			return m, nil
		}
	}
	g, err := s.stage()
	if err != nil {
		return Meta{}, err
	}
	defer g.discard()
	m, err := s.take(ctx, g, tar, "")
	if err != nil {
		if want == "" {
			return Meta{}, fmt.Errorf("layer: %w", err)
		}
		return Meta{}, fmt.Errorf("layer %s: %w", want, err)
	}
	if want != "" && m.DiffID != want {
		return Meta{}, fmt.Errorf("layer %s: the tar of %d bytes has diffID %s: %w", want, m.Size, m.DiffID, errdef.ErrCorrupt)
	}
	return s.publish(ctx, g, m)
}

// AsTar says whether a layer that comes as a tar is kept as one.
func (s *Store) AsTar() (bool, error) {
	if s.opt.TarForm == nil {
		return false, nil
	}
	return s.opt.TarForm()
}

// take fills the staged layer, all but its record, in the form that is said, or "" for that in which layers are kept.
func (s *Store) take(ctx context.Context, g *staging, src io.Reader, form string) (Meta, error) {
	asTar := form == formTar
	if form == "" {
		var err error
		if asTar, err = s.AsTar(); err != nil {
			return Meta{}, err
		}
	}
	if asTar {
		return s.takeTar(ctx, g, src)
	}
	return s.unpack(ctx, g, src)
}

// unpack fills the staged layer, all but its record.
func (s *Store) unpack(ctx context.Context, g *staging, src io.Reader) (Meta, error) {
	root, err := makeRoot(g.fs())
	if err != nil {
		return Meta{}, err
	}
	defer root.Close()
	skel, err := newSkelWriter(filepath.Join(g.path, skelName))
	if err != nil {
		return Meta{}, err
	}
	defer skel.abandon()
	in := newTee(ctx, src)
	defer in.close()

	rec := newRecorder(in, skel, g.path)
	u := newUnpacker(int(root.Fd()), rec)
	defer u.t.close()
	u.sums = newSums()
	u.userxattr, u.ignoreOwner, u.max = s.opt.Userxattr, s.opt.IgnoreOwner, s.opt.MaxEntries
	if err := u.run(ctx, rec); err != nil {
		return Meta{}, err
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, rec, u.buf); err != nil { // what follows the archive
		return Meta{}, err
	}
	if err := skel.finish(); err != nil {
		return Meta{}, err
	}
	if err := u.sums.write(filepath.Join(g.path, sumsName)); err != nil {
		return Meta{}, err
	}
	m, err := s.newMeta(in.sum(), formDir)
	if err != nil {
		return Meta{}, err
	}
	m.Size, m.Disk, m.Content, m.Entries = in.size, u.disk+rec.disk, u.content, u.entries
	m.Implicit, m.Missing = u.implicit(), u.missing
	m.Root, m.Opaque = !u.dirs[""].implicit, u.dirs[""].opaque
	return m, nil
}

func makeRoot(dir string) (*os.File, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	return os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
}
