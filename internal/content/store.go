package content

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"strata/internal/atomicfile"
	"strata/internal/disk"
	"strata/internal/errdef"
	"strata/internal/oci"
)

// Store is a directory of blobs. It may be used by many goroutines and many processes at once.
type Store struct {
	dir    string // <root>/sha256
	policy atomicfile.Policy

	syncing sync.Mutex // held by who flushes
	mu      sync.Mutex
	dirty   map[digest.Digest]bool // written or found here since the last Sync
}

// Open opens the store at dir, making it if need be.
func Open(dir string) (*Store, error) {
	path := filepath.Join(dir, "sha256")
	if err := os.MkdirAll(path, 0o711); err != nil {
		return nil, fmt.Errorf("blob store: %w", err)
	}
	return &Store{dir: path, dirty: map[digest.Digest]bool{}}, nil
}

// Durable says when blobs are on the disk: by Sync, or each when it is stored, or never.
func (s *Store) Durable(policy atomicfile.Policy) { s.policy = policy }

// Put stores a small document and gives its digest.
func (s *Store) Put(data []byte) (digest.Digest, error) {
	d := digest.FromBytes(data)
	if old, err := os.ReadFile(s.path(d)); err == nil && bytes.Equal(old, data) {
		s.mark(d)
		return d, nil
	}
	f, err := s.temp()
	if err != nil {
		return "", fmt.Errorf("blob %s: %w", d, err)
	}
	defer f.discard()
	if _, err := f.Write(data); err != nil {
		return "", fmt.Errorf("blob %s: %w", d, err)
	}
	return d, s.publish(f, d)
}

// Ingest stores what r gives, to its end, and gives its digest and size. want, when not empty, is the digest that it must
// have (errdef.ErrCorrupt); limit, when not negative, the most bytes that are read (errdef.ErrLimit). A failed Ingest
// keeps nothing.
func (s *Store) Ingest(ctx context.Context, r io.Reader, want digest.Digest, limit int64) (digest.Digest, int64, error) {
	if want != "" {
		if _, err := oci.ParseDigest(string(want)); err != nil {
			return "", 0, err
		}
	}
	f, err := s.temp()
	if err != nil {
		return "", 0, fmt.Errorf("blob: %w", err)
	}
	defer f.discard()
	d, n, err := receive(ctx, f, r, limit)
	if err != nil {
		return "", 0, fmt.Errorf("blob %s: %w", want, err)
	}
	if want != "" && d != want {
		return "", 0, fmt.Errorf("blob %s: received %d bytes with digest %s: %w", want, n, d, errdef.ErrCorrupt)
	}
	return d, n, s.publish(f, d)
}

// receive copies r to w in bounded memory, hashing.
func receive(ctx context.Context, w io.Writer, r io.Reader, limit int64) (digest.Digest, int64, error) {
	hash := sha256.New()
	buf := make([]byte, 256<<10)
	var n int64
	for {
		if err := ctx.Err(); err != nil {
			return "", 0, err
		}
		k, err := r.Read(buf)
		n += int64(k)
		if limit >= 0 && n > limit {
			return "", 0, fmt.Errorf("more than %d bytes: %w", limit, errdef.ErrLimit)
		}
		hash.Write(buf[:k])
		if _, err := w.Write(buf[:k]); err != nil {
			return "", 0, err
		}
		if err == io.EOF {
			return digest.NewDigest(digest.SHA256, hash), n, nil
		}
		if err != nil {
			return "", 0, err
		}
	}
}

// Stat gives the blob's size, errdef.ErrNotFound without one. It does not read the blob.
func (s *Store) Stat(d digest.Digest) (int64, error) {
	if _, err := oci.ParseDigest(string(d)); err != nil {
		return 0, err
	}
	fi, err := os.Lstat(s.path(d))
	if err != nil {
		return 0, s.missing(d, err)
	}
	if !fi.Mode().IsRegular() {
		return 0, fmt.Errorf("blob %s is no file: %w", d, errdef.ErrCorrupt)
	}
	return fi.Size(), nil
}

// Info is what is known of a blob without reading it.
type Info struct {
	Digest digest.Digest
	// Size is its length, Disk what it takes on the disk, in bytes.
	Size, Disk int64
	// Used is when it was stored or touched last.
	Used time.Time
}

// Walk calls fn for every blob, in no particular order, and ends at its first error. What is no blob is passed over.
func (s *Store) Walk(fn func(Info) error) error {
	dir, err := os.Open(s.dir)
	if err != nil {
		return fmt.Errorf("blob store: %w", err)
	}
	defer dir.Close()
	for {
		entries, err := dir.ReadDir(256)
		for _, e := range entries {
			d, perr := oci.ParseDigest("sha256:" + e.Name())
			if perr != nil || !e.Type().IsRegular() {
				continue
			}
			fi, ierr := e.Info()
			if errors.Is(ierr, fs.ErrNotExist) {
				continue // removed meanwhile
			}
			if ierr != nil {
				return ierr
			}
			if err := fn(Info{d, fi.Size(), disk.Of(fi), fi.ModTime()}); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("blob store: %w", err)
		}
	}
}

// Trash renames the blob into the directory trash, which is on the same file system. Who has it open reads on.
func (s *Store) Trash(d digest.Digest, trash string) error {
	if _, err := oci.ParseDigest(string(d)); err != nil {
		return err
	}
	if err := os.Rename(s.path(d), filepath.Join(trash, "blob-"+d.Encoded())); err != nil {
		return s.missing(d, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.dirty, d)
	return nil
}

// few is how many files are flushed one by one; above, one flush of the whole file system is cheaper.
const few = 16

// Sync returns when every blob that was put through this Store is on the disk.
func (s *Store) Sync() error {
	if when, err := s.policy.Get(); err != nil || when == atomicfile.Never {
		return err
	}
	s.syncing.Lock() // what another goroutine is just flushing is not on the disk yet
	defer s.syncing.Unlock()
	s.mu.Lock()
	dirty := s.dirty
	s.dirty = map[digest.Digest]bool{}
	s.mu.Unlock()
	err := s.flush(dirty)
	if err != nil {
		for d := range dirty {
			s.mark(d)
		}
		return fmt.Errorf("blob store: flush: %w", err)
	}
	return nil
}

func (s *Store) flush(dirty map[digest.Digest]bool) error {
	if len(dirty) == 0 {
		return nil
	}
	if len(dirty) <= few {
		for d := range dirty {
			f, err := os.Open(s.path(d))
			if errors.Is(err, fs.ErrNotExist) {
				continue // collected meanwhile
			}
			if err != nil {
				return err
			}
			err = f.Sync()
			f.Close()
			if err != nil {
				return err
			}
		}
		return atomicfile.SyncDir(s.dir)
	}
	dir, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	return unix.Syncfs(int(dir.Fd()))
}

func (s *Store) mark(d digest.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirty[d] = true
}

// published notes a blob that has its name, and flushes it where each is to be flushed at once.
func (s *Store) published(d digest.Digest) error {
	s.mark(d)
	if when, err := s.policy.Get(); err != nil || when != atomicfile.Always {
		return err
	}
	return s.Sync()
}

func (s *Store) path(d digest.Digest) string { return filepath.Join(s.dir, d.Encoded()) }

func (s *Store) missing(d digest.Digest, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("blob %s: %w", d, errdef.ErrNotFound)
	}
	return fmt.Errorf("blob %s: %w", d, err)
}
