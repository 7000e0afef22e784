package layer

import (
	"context"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"strata/internal/oci"
)

const (
	formTar   = "tar"
	tarName   = "tar"
	indexName = "index.erofs"
)

// takeTar fills the staged layer in tar form, all but its record: in one pass the tar is hashed, written as it is, and its
// headers are read for the index.
func (s *Store) takeTar(ctx context.Context, g *staging, src io.Reader) (Meta, error) {
	out, err := create(filepath.Join(g.path, tarName))
	if err != nil {
		return Meta{}, err
	}
	tar := &tarFile{f: out}
	defer tar.close()
	index, err := create(filepath.Join(g.path, indexName))
	if err != nil {
		return Meta{}, err
	}
	defer index.Close()
	in := newTee(ctx, src)
	defer in.close()
	in.each = tar.write

	sums := newSums()
	x := newIndexer(&countingReader{r: in, sums: sums}, s.opt.MaxEntries, &contentStore{f: index})
	if err := x.run(ctx); err != nil {
		return Meta{}, err
	}
	if _, err := in.skip(1<<62, nil); err != nil { // what follows the archive
		return Meta{}, err
	}
	if err := sums.write(filepath.Join(g.path, sumsName)); err != nil {
		return Meta{}, err
	}
	m, err := s.newMeta(in.sum(), formTar)
	if err != nil {
		return Meta{}, err
	}
	m.Size = in.size
	if err := x.describe(&m, index); err != nil {
		return Meta{}, err
	}
	// The kernel reads whole blocks: an archive that was cut behind a payload is made longer on our disk.
	if err := out.Truncate(wholeBlocks(m.Size)); err != nil {
		return Meta{}, err
	}
	return m, tar.close()
}

func create(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}

// describe writes the index and tells in the record what the tar is.
func (x *indexer) describe(m *Meta, index *os.File) error {
	m.Implicit, m.Content, m.Entries, m.Missing = x.finish(), x.content, x.entries, x.missing
	m.Root, m.Opaque = !x.root.implicit, x.root.opaque
	size, err := x.writeIndex(index, m.DiffID, m.Size)
	if err != nil {
		return err
	}
	m.Disk = m.Size + size
	if _, err := index.Seek(0, io.SeekStart); err != nil {
		return err
	}
	m.Index, err = digest.FromReader(index)
	return err
}

func (x *indexer) writeIndex(index *os.File, id oci.DiffID, tarSize int64) (size int64, err error) {
	if _, err := index.Seek(erofsHead+x.store.size, io.SeekStart); err != nil {
		return 0, err
	}
	uuid := ImageID(id)
	head, size, err := writeErofs(index, x.root, x.store.size, tarSize, uuid[:])
	if err != nil {
		return 0, err
	}
	_, err = index.WriteAt(head, 0)
	return size, err
}

// ImageID is the UUID of the layer's EROFS image, the first half of its diffID: overlay tells its lower file systems apart by it.
func ImageID(id oci.DiffID) (uuid [16]byte) {
	_, _ = hex.Decode(uuid[:], []byte(id.Hex()[:2*len(uuid)])) // a diffID has no other digits
	return uuid
}

// tarFile writes a layer's tar and has the disk begin early, so that the flush at the end finds little to do.
type tarFile struct {
	f           *os.File
	size, begun int64
	disk        sync.WaitGroup // the one call that may wait for the disk
	busy        atomic.Bool
}

const writeBehind = 8 << 20

func (t *tarFile) write(p []byte) error {
	var err error
	if len(p) >= pieceSize && allZero(p) { // a large sparse file: a hole on our disk, too
		_, err = t.f.Seek(int64(len(p)), io.SeekCurrent)
	} else {
		_, err = t.f.Write(p)
	}
	if err != nil {
		return err
	}
	t.size += int64(len(p))
	if t.size-t.begun < writeBehind || !t.busy.CompareAndSwap(false, true) {
		return nil
	}
	from, n := t.begun, t.size-t.begun
	t.begun = t.size
	t.disk.Go(func() {
		// A hint: what it does not begin the flush will do.
		_ = unix.SyncFileRange(int(t.f.Fd()), from, n, unix.SYNC_FILE_RANGE_WRITE)
		t.busy.Store(false)
	})
	return nil
}

func (t *tarFile) close() error {
	t.disk.Wait()
	return t.f.Close()
}
