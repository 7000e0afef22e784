package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"strata/internal/atomicfile"
	"strata/internal/errdef"
	"strata/internal/oci"
)

// Depth says how much a check reads.
type Depth int

const (
	// Quick looks at the record, and whether all files of the layer are there in their sizes.
	Quick Depth = iota
	// Digests reads every byte and compares the tar with the diffID.
	Digests
	// Full also makes the layer anew from its tar, beside it, and compares the two: owners, modes, times and all else that
	// the tar says of what is on the disk.
	Full
)

// Check proves the layer: errdef.ErrCorrupt, naming the layer and, where that can be known, its file;
// errdef.ErrNotFound as [Store.Stat] does.
func (s *Store) Check(ctx context.Context, id oci.DiffID, depth Depth) error {
	m, err := s.Stat(id)
	if err != nil {
		return err
	}
	if depth == Quick && m.Form == formTar {
		return s.tarPresent(m)
	}
	if depth == Quick {
		return s.present(ctx, id)
	}
	if err := s.checkDigest(ctx, m); err != nil {
		return err
	}
	if _, err := readSums(s.path(id, sumsName)); err != nil {
		return fmt.Errorf("layer %s: %w", id, err)
	}
	if depth == Digests {
		return nil
	}
	return s.checkForm(ctx, m)
}

// checkDigest is Verify that looks for the file that is to blame.
func (s *Store) checkDigest(ctx context.Context, m Meta) error {
	size, err := s.verify(ctx, m.DiffID)
	if err == nil && size != m.Size {
		return fmt.Errorf("layer %s: %s: the tar has %d bytes, not %d: %w", m.DiffID, metaName, size, m.Size, errdef.ErrCorrupt)
	}
	if !errors.Is(err, errdef.ErrCorrupt) {
		return err
	}
	list, serr := readSums(s.path(m.DiffID, sumsName))
	if serr != nil || list == nil || strings.Contains(err.Error(), m.DiffID.Hex()+": file ") || strings.Contains(err.Error(), skelName) {
		return err // which names the file, or nobody knows it
	}
	names := s.blame(ctx, m.DiffID, list)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if len(names) == 0 { // every payload is what it was
		names = []string{map[string]string{formDir: skelName, formTar: tarName}[m.Form]}
	}
	return fmt.Errorf("%w: damaged: %s", err, strings.Join(names, ", "))
}

// present sees that every file of the layer is there and has its size, without reading any.
func (s *Store) present(ctx context.Context, id oci.DiffID) error {
	a, err := s.assemble(ctx, id, false)
	if err != nil {
		return err
	}
	defer a.Close()
	for {
		if err := a.advance(); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("layer %s: %w", id, err)
		}
		if _, err := a.Seek(a.rest, io.SeekCurrent); err != nil && err != io.EOF {
			return fmt.Errorf("layer %s: %w", id, err)
		}
	}
}

// checkForm makes the layer anew in scratch space and compares what lies on the disk.
func (s *Store) checkForm(ctx context.Context, m Meta) error {
	g, made, err := s.again(ctx, m.DiffID)
	if err != nil {
		return err
	}
	defer g.discard()
	if m.Entries != made.Entries || m.Root != made.Root || m.Opaque != made.Opaque || strings.Join(m.Implicit, "\n") != strings.Join(made.Implicit, "\n") {
		return fmt.Errorf("layer %s: %s says other than the tar: %w", m.DiffID, metaName, errdef.ErrCorrupt)
	}
	if m.Form == formTar {
		if m.Index != made.Index {
			return fmt.Errorf("layer %s: file %q is not the index of its tar: %w", m.DiffID, indexName, errdef.ErrCorrupt)
		}
		return nil
	}
	if err := sameTree(ctx, s.path(m.DiffID, fsName), g.fs()); err != nil {
		return fmt.Errorf("layer %s: %w", m.DiffID, err)
	}
	return nil
}

// again makes the layer anew from its own tar, in the form that it has.
func (s *Store) again(ctx context.Context, id oci.DiffID) (*staging, Meta, error) {
	r, err := s.rawTar(ctx, id)
	if err != nil {
		return nil, Meta{}, err
	}
	defer r.Close()
	return s.stageTar(ctx, r, id, s.formOf(id))
}

// stageTar makes the layer id of a tar, beside the store, in the form that is said, or "" for that in which layers are kept.
func (s *Store) stageTar(ctx context.Context, r io.Reader, id oci.DiffID, form string) (*staging, Meta, error) {
	g, err := s.stage()
	if err != nil {
		return nil, Meta{}, err
	}
	m, err := s.take(ctx, g, r, form)
	if err == nil && m.DiffID != id {
		err = fmt.Errorf("the tar of %d bytes has diffID %s: %w", m.Size, m.DiffID, errdef.ErrCorrupt)
	}
	if err != nil {
		g.discard()
		return nil, Meta{}, fmt.Errorf("layer %s: %w", id, err)
	}
	return g, m, nil
}

// Remake makes the layer anew from its own tar, whatever its record or its tree became. It fails as [Store.Verify] does when
// the tar is damaged itself, and then nothing changes.
func (s *Store) Remake(ctx context.Context, id oci.DiffID) error {
	g, m, err := s.again(ctx, id)
	if err != nil {
		return err
	}
	defer g.discard()
	return s.replace(ctx, g, m)
}

// Unpack makes a directory of a layer that is kept as a tar, for where that cannot be mounted. Whoever has it mounted
// keeps what he has.
func (s *Store) Unpack(ctx context.Context, id oci.DiffID) error {
	if err := s.hold(ctx, id); err != nil {
		return err
	}
	r, err := s.Tar(ctx, id)
	if err != nil {
		return err
	}
	defer r.Close()
	g, m, err := s.stageTar(ctx, r, id, formDir)
	if err != nil {
		return err
	}
	defer g.discard()
	return s.replace(ctx, g, m)
}

// Replace puts the layer that the tar makes in the place of what stands under its name. The tar must be of diffID id:
// errdef.ErrCorrupt.
func (s *Store) Replace(ctx context.Context, tar io.Reader, id oci.DiffID) (Meta, error) {
	if err := s.hold(ctx, id); err != nil {
		return Meta{}, err
	}
	g, m, err := s.stageTar(ctx, tar, id, "")
	if err != nil {
		return Meta{}, err
	}
	defer g.discard()
	return m, s.replace(ctx, g, m)
}

// replace publishes the staged layer in the place of the one that is there. What is known of compressed forms stays, and what was promised:
// a layer that a power cut cannot take makes room for another such one only.
func (s *Store) replace(ctx context.Context, g *staging, m Meta) error {
	when, err := s.opt.Durable.Get()
	if err != nil {
		return err
	}
	write := atomicfile.Write
	if old, err := readMeta(s.path(m.DiffID, metaName)); err == nil && old.Sealed && when != atomicfile.Never {
		if err := s.flush(); err != nil {
			return err
		}
		m.Sealed, write = true, atomicfile.WriteDurable
	}
	err = s.swap(ctx, g, m.DiffID, func() (bool, error) {
		if old, err := readMeta(s.path(m.DiffID, metaName)); err == nil {
			m.Blobs, m.Created = old.Blobs, old.Created
		}
		return true, writeMeta(filepath.Join(g.path, metaName), m, write)
	})
	if err == nil && m.Sealed {
		err = atomicfile.SyncDir(s.dir) // before what had the name is deleted
	}
	if err != nil {
		return fmt.Errorf("layer %s: %w", m.DiffID, err)
	}
	return nil
}

// rawTar is Tar for a layer whose record may be damaged, or not be good in this boot.
func (s *Store) rawTar(ctx context.Context, id oci.DiffID) (io.ReadCloser, error) {
	if _, err := oci.ParseDiffID(string(id)); err != nil {
		return nil, err
	}
	if _, err := os.Lstat(s.path(id)); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("layer %s: %w", id, errdef.ErrNotFound)
	}
	if s.formOf(id) == formTar {
		return s.rawTarFile(ctx, id)
	}
	return s.assemble(ctx, id, false)
}
