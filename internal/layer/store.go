package layer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/atomicfile"
	"strata/internal/errdef"
	"strata/internal/oci"
	"strata/internal/parallel"
)

// Options say how layers lie on this machine's disk.
type Options struct {
	// Userxattr takes user.overlay.* instead of trusted.overlay.*, as overlay mounts in a user namespace do.
	Userxattr bool
	// IgnoreOwner tolerates that owners cannot be set (a namespace with a single id). The skeleton keeps the truth.
	IgnoreOwner bool
	// Self: outside of any namespace, as a plain user. What belongs to this process's user and group is root's in a layer.
	Self bool
	// TempDir gives a directory on the store's file system for what is not finished. nil: the store's own directory.
	TempDir func() (string, error)
	// Hold is told a layer's name before the store relies on the layer or publishes it, so that a sweep by another
	// process leaves it alone. nil: nobody sweeps.
	Hold func(ctx context.Context, id oci.DiffID) error
	// TarForm says whether a layer that comes as a tar is kept as one. It is asked before each. nil: it is unpacked.
	TarForm func() (bool, error)
	// MaxEntries bounds the entries of one layer, directories that they imply included; 0 is [DefaultMaxEntries].
	MaxEntries int
	// Durable says when layers are flushed and sealed: by Sync, or each as it is published, or never. nil: by Sync.
	Durable atomicfile.Policy
	// BootIDPath is where the kernel's boot id is read; "" is /proc/sys/kernel/random/boot_id.
	BootIDPath string
}

// DefaultMaxEntries bounds the entries of a layer where nothing else is said.
const DefaultMaxEntries = 5_000_000

const (
	formDir  = "dir"
	fsName   = "fs"
	skelName = "skeleton"
	sideName = "shadow"
	metaName = "meta.json"
	lockName = "lock"
)

// Store is a directory of layers. It may be used by many goroutines and many processes at once.
type Store struct {
	dir  string
	opt  Options
	boot func() (string, error)

	sealing  sync.Mutex // held by who flushes
	mu       sync.Mutex
	unsealed map[oci.DiffID]bool // written, or handed out while unsealed
	records  memo
}

// Open opens the store at dir, making it if need be.
func Open(dir string, o Options) (*Store, error) {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, fmt.Errorf("layer store: %w", err)
	}
	if o.MaxEntries == 0 {
		o.MaxEntries = DefaultMaxEntries
	}
	if o.BootIDPath == "" {
		o.BootIDPath = "/proc/sys/kernel/random/boot_id"
	}
	s := &Store{dir: dir, opt: o, unsealed: map[oci.DiffID]bool{}, records: memo{known: map[oci.DiffID]remembered{}}}
	s.boot = sync.OnceValues(func() (string, error) {
		id, err := os.ReadFile(o.BootIDPath)
		return strings.TrimSpace(string(id)), err
	})
	return s, nil
}

// Place says where a layer's tree lies: in a directory, ready to be an overlay lower directory; or in an EROFS image whose
// content is in another file, ready to be mounted. Neither must be changed.
type Place struct {
	Dir        string
	Image, Tar string
}

// Place says where the layer's tree lies.
func (s *Store) Place(id oci.DiffID) (Place, error) {
	m, err := s.Stat(id)
	if err != nil {
		return Place{}, err
	}
	if m.Form == formTar {
		return Place{Image: s.path(id, indexName), Tar: s.path(id, tarName)}, nil
	}
	return Place{Dir: s.path(id, fsName)}, nil
}

// Stat describes the layer. errdef.ErrNotFound without one, and for one that was not sealed before the machine went
// down; errdef.ErrCorrupt when its record cannot be read.
func (s *Store) Stat(id oci.DiffID) (Meta, error) {
	m, err := s.stat(id)
	if err == nil && !m.Sealed {
		s.note(id)
	}
	return m, err
}

func (s *Store) stat(id oci.DiffID) (Meta, error) {
	if _, err := oci.ParseDiffID(string(id)); err != nil {
		return Meta{}, err
	}
	m, err := s.records.read(id, s.path(id, metaName))
	if err != nil {
		return Meta{}, recordError(id, err)
	}
	if m.DiffID != id {
		return Meta{}, fmt.Errorf("layer %s: its record is of %s: %w", id, m.DiffID, errdef.ErrCorrupt)
	}
	valid, err := s.valid(m)
	if err != nil {
		return Meta{}, fmt.Errorf("layer %s: %w", id, err)
	}
	if !valid {
		return Meta{}, fmt.Errorf("layer %s was not flushed before the machine went down: %w", id, errdef.ErrNotFound)
	}
	return m, nil
}

// valid reports whether what the record says of a layer holds: that it was flushed, or the machine has not gone down since.
func (s *Store) valid(m Meta) (bool, error) {
	if m.Sealed {
		return true, nil
	}
	boot, err := s.boot()
	return m.BootID == boot, err
}

// Present reports whether a layer that [Store.Walk] gave is one that [Store.Stat] would give.
func (s *Store) Present(m Meta) bool {
	valid, err := s.valid(m)
	return m.Form != "" && valid && err == nil
}

// AddBlob records a compressed form of the layer. A blob that is known by its digest already is replaced.
func (s *Store) AddBlob(ctx context.Context, id oci.DiffID, b Blob) error {
	if _, err := oci.ParseDigest(string(b.Digest)); err != nil {
		return err
	}
	return s.update(ctx, id, func(m *Meta) bool {
		for i := range m.Blobs {
			if m.Blobs[i].Digest == b.Digest {
				b.Made = cmp.Or(b.Made, m.Blobs[i].Made) // it stays one that can be made here
				changed := m.Blobs[i] != b
				m.Blobs[i] = b
				return changed
			}
		}
		m.Blobs = append(m.Blobs, b)
		return true
	})
}

// update changes the layer's record under its lock, as change says whether it did. The record of a sealed layer goes to the disk before it
// takes the old one's place: a file system may keep the new name and lose the bytes in a power cut, and the layer was promised.
// errdef.ErrNotFound when the layer is collected meanwhile.
func (s *Store) update(ctx context.Context, id oci.DiffID, change func(*Meta) bool) error {
	if _, err := s.stat(id); err != nil {
		return err
	}
	lock, err := atomicfile.LockExclusive(ctx, s.path(id, lockName))
	if err != nil {
		return recordError(id, err)
	}
	defer lock.Unlock()
	m, err := s.stat(id)
	if err != nil {
		return err
	}
	write := atomicfile.Write
	if m.Sealed {
		write = atomicfile.WriteDurable
	}
	if when, err := s.opt.Durable.Get(); err != nil || when == atomicfile.Never {
		write = atomicfile.Write
	}
	if !change(&m) {
		return nil
	}
	return recordError(id, writeMeta(s.path(id, metaName), m, write))
}

// recordError is what became of a layer's record: a directory that is gone was the layer's.
func recordError(id oci.DiffID, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		err = errdef.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("layer %s: %w", id, err)
	}
	return nil
}

// Walk calls fn for every layer, in no particular order, and ends at its first error. What is no layer is passed over.
//
// It also gives what is left of layers that are lost: one that was not sealed before another boot as its record has it,
// one whose record cannot be read with DiffID and Created only (Form is ""). Stat tells: it fails for both.
func (s *Store) Walk(fn func(Meta) error) error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("layer store: %w", err)
	}
	entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool {
		_, err := oci.ParseDiffID("sha256:" + e.Name())
		return err != nil || !e.IsDir()
	})
	all := make([]Meta, len(entries))
	err = parallel.Each(len(entries), func(i int) (err error) {
		all[i], err = s.left(oci.DiffID("sha256:" + entries[i].Name()))
		return err
	})
	if err != nil {
		return err
	}
	for _, m := range all {
		if m.DiffID == "" {
			continue // removed meanwhile
		}
		if err := fn(m); err != nil {
			return err
		}
	}
	return nil
}

// left is what is known of a layer for [Store.Walk]; the zero Meta when it is gone.
func (s *Store) left(id oci.DiffID) (Meta, error) {
	m, err := s.records.read(id, s.path(id, metaName))
	if err == nil && m.DiffID == id {
		return m, nil
	}
	fi, err := os.Lstat(s.path(id))
	if errors.Is(err, fs.ErrNotExist) {
		return Meta{}, nil
	}
	if err != nil {
		return Meta{}, fmt.Errorf("layer %s: %w", id, err)
	}
	return Meta{DiffID: id, Created: fi.ModTime()}, nil
}

// Trash renames the layer into the directory trash, which is on the same file system.
func (s *Store) Trash(id oci.DiffID, trash string) error {
	if _, err := oci.ParseDiffID(string(id)); err != nil {
		return err
	}
	_, err := moveAside(s.path(id), trash)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("layer %s: %w", id, errdef.ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("layer %s: %w", id, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.unsealed, id)
	return nil
}

// moveAside renames path into the directory dir under a name that nothing has there, and gives that.
func moveAside(path, dir string) (aside string, err error) {
	aside, err = os.MkdirTemp(dir, "layer-*")
	if err != nil {
		return "", err
	}
	if err := unix.Rename(path, aside); err != nil { // which os.Rename would not: it replaces the empty directory
		os.Remove(aside)
		return "", err
	}
	return aside, nil
}

func (s *Store) path(id oci.DiffID, elem ...string) string {
	return filepath.Join(append([]string{s.dir, id.Hex()}, elem...)...)
}

func (s *Store) note(id oci.DiffID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsealed[id] = true
}

func (s *Store) newMeta(id oci.DiffID, form string) (Meta, error) {
	boot, err := s.boot()
	return Meta{DiffID: id, Form: form, BootID: boot, Created: time.Now().UTC()}, err
}
