package container

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"strata/internal/beside"
	"strata/internal/disk"
	"strata/internal/errdef"
	"strata/internal/event"
	"strata/internal/network"
	"strata/internal/oci"
	"strata/internal/record"
	"strata/internal/rootfs"
	"strata/internal/runtime"
)

// Mounter shows a stack of layers as a file system; *rootfs.Stacks is one.
type Mounter interface {
	// Private runs fn where mounts can be made.
	Private(fn func() error) error
	// Mount mounts the stack, with a writable directory over it or what is in one.
	Mount(ids []oci.DiffID, m rootfs.Mount) error
	// Unmount takes it away.
	Unmount(m rootfs.Mount) error
	// Changes gives what was written in a writable directory.
	Changes(ids []oci.DiffID, m rootfs.Mount, temp string) (rootfs.Changes, error)
}

// Place says where a store lives: all that a shim needs to open the same store again.
type Place struct {
	Root    string // the store's root directory
	Run     string // the run directory, on a tmpfs
	Runtime string // path of the OCI runtime
}

// Options opens a [Store].
type Options struct {
	Place   Place
	Rootfs  Mounter
	Runtime *runtime.Runtime
	// Program is the program to start as shim; "" is /proc/self/exe.
	Program string
	// Init is the helper for --init; "" is strata-init beside the program, or in ../libexec/strata.
	Init string
	// Userns says that we run inside strata's own user namespace, SingleID that it maps one id only.
	Userns, SingleID bool
	// Devices are those of the machine that containers may be given by name.
	Devices func() (*runtime.Devices, error)
	// Networks are those that containers can be in.
	Networks *network.Store
	// Events is told what happens to the containers; nil forgets it.
	Events *event.Log
}

// Store is the containers of one root directory.
type Store struct {
	opt     Options
	records *record.Dir[Record]
	names   *names
	blocks  *names // of ids, each by its first
}

// Open opens the containers under o.Place.
func Open(o Options) (*Store, error) {
	dir := filepath.Join(o.Place.Root, "containers")
	records, err := record.OpenDir[Record](dir, "container")
	if err != nil {
		return nil, err
	}
	s := &Store{opt: o, records: records}
	s.names = &names{dir: filepath.Join(dir, "names"), owns: s.named}
	s.blocks = &names{dir: filepath.Join(dir, "ids"), owns: s.hasBlock}
	if err := os.MkdirAll(s.names.dir, 0o700); err != nil {
		return nil, fmt.Errorf("containers: %w", err)
	}
	return s, nil
}

// Records is the directory of the records, for the garbage collector's marks and the store's check.
func (s *Store) Records() *record.Dir[Record] { return s.records }

// Dir is the container's durable directory: upper/, work/, the log, the files mounted over /etc.
func (s *Store) Dir(id string) string { return filepath.Join(s.records.Path(), id) }

// Upper is the container's writable layer, an overlay upper directory; a container that was never started has none.
func (s *Store) Upper(id string) string { return filepath.Join(s.Dir(id), "upper") }

// RunDir is the container's directory on the tmpfs: bundle/, rootfs/, ctl.sock, lock.
func (s *Store) RunDir(id string) string { return filepath.Join(s.opt.Place.Run, ShortID(id)) }

// runtime is the OCI runtime of a container.
func (s *Store) runtime(rec Record) *runtime.Runtime {
	if rec.Host.Runtime.Path == "" {
		return s.opt.Runtime
	}
	own := *s.opt.Runtime
	own.Path = rec.Host.Runtime.Path
	return &own
}

// Lookup finds the container that ref names: by name, by id, by an unambiguous beginning of an id.
func (s *Store) Lookup(ctx context.Context, ref string) (Record, error) {
	id, err := s.resolve(strings.TrimPrefix(ref, "/"))
	if err != nil {
		return Record{}, err
	}
	rec, err := s.get(id)
	if err == nil {
		rec, err = s.reconcile(ctx, rec)
	}
	if errors.Is(err, errdef.ErrNotFound) {
		return Record{}, noSuch(ref)
	}
	return rec, err
}

func (s *Store) resolve(ref string) (string, error) {
	if validID(ref) {
		return ref, nil
	}
	if ValidName(ref) == nil {
		id, err := s.names.holder(ref)
		if err == nil {
			if owned, err := s.named(id, ref); err != nil || owned {
				return id, err
			}
		} else if !errors.Is(err, errdef.ErrNotFound) {
			return "", err
		}
	}
	if !oci.IsHex(ref) {
		return "", noSuch(ref)
	}
	return s.resolvePrefix(ref)
}

func (s *Store) resolvePrefix(prefix string) (string, error) {
	keys, err := s.records.Keys()
	if err != nil {
		return "", err
	}
	keys = slices.DeleteFunc(keys, func(k string) bool { return !strings.HasPrefix(k, prefix) })
	switch len(keys) {
	case 0:
		return "", noSuch(prefix)
	case 1:
		return keys[0], nil
	}
	return "", fmt.Errorf("container %q: multiple IDs found with that prefix: %w", prefix, errdef.ErrInvalid)
}

// List returns every container, newest first, after it has finished what killed supervisors left.
func (s *Store) List(ctx context.Context) ([]Record, error) {
	all, err := s.all()
	if err != nil {
		return nil, err
	}
	if err := s.sweepRunDirs(ctx, all); err != nil {
		return nil, err
	}
	list := make([]Record, 0, len(all))
	for _, rec := range all {
		rec, err := s.reconcile(ctx, rec)
		if errors.Is(err, errdef.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, rec)
	}
	slices.SortFunc(list, func(a, b Record) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return list, nil
}

// Written is the size in bytes of what the container wrote into its own layer.
func (s *Store) Written(rec Record) (int64, error) {
	return treeSize(filepath.Join(s.Dir(rec.ID), "upper"))
}

// DiskUsage is what the container takes on the disk in bytes, what it wrote and its log included.
func (s *Store) DiskUsage(rec Record) (int64, error) { return disk.Usage(s.Dir(rec.ID)) }

// LogUsage is what the container's log takes of that.
func (s *Store) LogUsage(rec Record) (int64, error) {
	log := s.LogPath(rec)
	if log == "" {
		return 0, nil
	}
	files, err := filepath.Glob(log + "*")
	var total int64
	for _, file := range files {
		n, lerr := disk.Lstat(file)
		total, err = total+n, errors.Join(err, lerr)
	}
	return total, err
}

// treeSize adds up the regular files below dir; what vanishes meanwhile counts nothing.
func treeSize(dir string) (int64, error) {
	var total int64
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			total += info.Size()
		}
		return nil
	})
	return total, err
}

func noSuch(ref string) error {
	return &noSuchError{ref}
}

// noSuchError has docker's exact words, which scripts look for.
type noSuchError struct{ ref string }

func (e *noSuchError) Error() string { return "No such container: " + e.ref }
func (e *noSuchError) Unwrap() error { return errdef.ErrNotFound }

func newID() string {
	var b [32]byte
	for {
		rand.Read(b[:])
		id := hex.EncodeToString(b[:])
		// A short id of digits only could be taken for a number by tools that read it.
		if strings.ContainsAny(id[:12], "abcdef") {
			return id
		}
	}
}

func validID(id string) bool { return len(id) == 64 && oci.IsHex(id) }

// initProgram finds the helper for --init.
func (s *Store) initProgram() (string, error) {
	if s.opt.Init != "" {
		return s.opt.Init, nil
	}
	if path := beside.Find("strata-init"); path != "" {
		return path, nil
	}
	return "", errdef.WithHint(fmt.Errorf("program strata-init is not beside strata: %w", errdef.ErrUnavailable), "make bin/strata-init")
}
