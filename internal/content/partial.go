package content

import (
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

	"github.com/opencontainers/go-digest"

	"strata/internal/atomicfile"
	"strata/internal/disk"
	"strata/internal/errdef"
	"strata/internal/oci"
)

// Partials is a directory of blobs that have arrived in part. One blob is one file, locked by whoever fetches it; it outlives
// him, and the next goes on from it. Its bytes are not flushed, so a file of another boot counts for nothing.
//
// The file has the blob's bytes at their places and, behind them, a head line and one bit for each block that is there. A
// block is written before its bit: what a killed process left is right as far as the bits go.
type Partials struct {
	dir  string
	boot func() (string, error)
}

const (
	// partialBlock is how many bytes one bit stands for.
	partialBlock = 64 << 10
	// maxPartial bounds the size of a blob, and with it its bits in memory: 2 MiB.
	maxPartial = 1 << 40
	headSize   = 256
	pageSize   = 4096
)

// OpenPartials is the directory dir, which is made when it is first needed. bootIDPath is where the kernel's boot id is read;
// "" is /proc/sys/kernel/random/boot_id.
func OpenPartials(dir, bootIDPath string) *Partials {
	if bootIDPath == "" {
		bootIDPath = "/proc/sys/kernel/random/boot_id"
	}
	return &Partials{dir, sync.OnceValues(func() (string, error) {
		id, err := os.ReadFile(bootIDPath)
		return strings.TrimSpace(string(id)), err
	})}
}

// Partial is one blob on its way, held by this process alone. It may be used by several goroutines. Close or Remove it.
type Partial struct {
	lock *atomicfile.Lock
	file *os.File
	path string
	size int64
	head string
	at   int64 // of the bits in the file

	mu      sync.Mutex
	bits    []byte
	resumed int64
}

// Take waits until no other process and no other goroutine has the blob d of size bytes, and takes it. wait is called if it
// is taken by somebody, before that; nil is nobody to tell.
func (p *Partials) Take(ctx context.Context, d digest.Digest, size int64, wait func()) (*Partial, error) {
	if _, err := oci.ParseDigest(string(d)); err != nil {
		return nil, err
	}
	if size < 0 || size > maxPartial {
		return nil, fmt.Errorf("blob %s of %d bytes (at most %d): %w", d, size, int64(maxPartial), errdef.ErrLimit)
	}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return nil, fmt.Errorf("blob %s: %w", d, err)
	}
	path := filepath.Join(p.dir, d.Encoded())
	lock, err := atomicfile.TryExclusive(path)
	if errors.Is(err, errdef.ErrConflict) {
		if wait != nil {
			wait()
		}
		lock, err = atomicfile.LockExclusive(ctx, path)
	}
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", d, err)
	}
	part, err := p.load(lock, path, size)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("blob %s: %w", d, err), lock.Unlock())
	}
	return part, nil
}

// load reads what an earlier process left, or begins anew.
func (p *Partials) load(lock *atomicfile.Lock, path string, size int64) (*Partial, error) {
	boot, err := p.boot()
	if err != nil {
		return nil, err
	}
	part := &Partial{lock: lock, file: lock.File(), path: path, size: size, head: fmt.Sprintf("strata partial 1 %d %s\n", size, boot)}
	head := (size + pageSize - 1) / pageSize * pageSize
	part.at = head + headSize
	part.bits = make([]byte, (size+8*partialBlock-1)/(8*partialBlock))
	got := make([]byte, len(part.head))
	if _, err := part.file.ReadAt(got, head); err != nil || string(got) != part.head {
		return part, part.Reset()
	}
	if len(part.bits) > 0 {
		if _, err := part.file.ReadAt(part.bits, part.at); err != nil {
			return part, part.Reset()
		}
	}
	for start, end := part.Gap(0); ; start, end = part.Gap(end) {
		part.resumed += start
		if start == size {
			return part, nil
		}
		part.resumed -= end
	}
}

// Reset forgets what has arrived.
func (p *Partial) Reset() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.bits)
	p.resumed = 0
	if err := p.file.Truncate(0); err != nil {
		return err
	}
	if err := p.file.Truncate(p.at + int64(len(p.bits))); err != nil {
		return err
	}
	_, err := p.file.WriteAt([]byte(p.head), p.at-headSize)
	return err
}

// Resumed is how many bytes had arrived when the blob was taken.
func (p *Partial) Resumed() int64 { return p.resumed }

// ReadAt reads bytes that have arrived.
func (p *Partial) ReadAt(b []byte, off int64) (int, error) { return p.file.ReadAt(b, off) }

// WriteAt puts bytes at their place. They count when [Partial.Done] says so.
func (p *Partial) WriteAt(b []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(b)) > p.size {
		return 0, fmt.Errorf("bytes %d to %d of a blob of %d: %w", off, off+int64(len(b)), p.size, errdef.ErrInvalid)
	}
	return p.file.WriteAt(b, off)
}

// Done notes that all bytes in [from, to) have been written. Blocks that are only partly in there do not count, but the
// last one of the blob ends where the blob does.
func (p *Partial) Done(from, to int64) error {
	first, last := (from+partialBlock-1)/partialBlock, to/partialBlock
	if to == p.size {
		last = (to + partialBlock - 1) / partialBlock
	}
	if first >= last {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for b := first; b < last; b++ {
		p.bits[b/8] |= 1 << (b % 8)
	}
	_, err := p.file.WriteAt(p.bits[first/8:(last+7)/8], p.at+first/8)
	return err
}

// Gap is the first run of bytes at or after from that have not arrived: [start, end). start is the blob's size when there
// is none.
func (p *Partial) Gap(from int64) (start, end int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := from / partialBlock
	for ; b*partialBlock < p.size && p.has(b); b++ {
	}
	start = min(max(b*partialBlock, from), p.size)
	for ; b*partialBlock < p.size && !p.has(b); b++ {
	}
	return start, min(b*partialBlock, p.size)
}

func (p *Partial) has(block int64) bool { return p.bits[block/8]&(1<<(block%8)) != 0 }

// Close gives the blob up and leaves what has arrived to whoever takes it next.
func (p *Partial) Close() error { return p.lock.Unlock() }

// Remove deletes what has arrived and gives the blob up.
func (p *Partial) Remove() error {
	err := os.Remove(p.path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, p.lock.Unlock())
}

// Sweep removes what nobody has taken and is older than age, and of the rest the oldest until at most keep bytes of disk
// remain. It gives the bytes that were freed.
func (p *Partials) Sweep(age time.Duration, keep int64) (freed int64, err error) {
	return p.idle(age, keep, os.Remove)
}

// Idle is how many bytes [Partials.Sweep] would free.
func (p *Partials) Idle(age time.Duration, keep int64) (int64, error) {
	return p.idle(age, keep, func(string) error { return nil })
}

// idle does something to each file that a sweep takes, under its lock, and adds up their bytes.
func (p *Partials) idle(age time.Duration, keep int64, do func(path string) error) (total int64, err error) {
	files, err := p.files()
	if err != nil {
		return 0, err
	}
	var kept int64
	for _, f := range files {
		if kept += f.disk; kept <= keep && time.Since(f.at) < age {
			continue
		}
		lock, err := atomicfile.TryExclusive(f.path)
		if errors.Is(err, errdef.ErrConflict) {
			continue
		}
		if err != nil {
			return total, err
		}
		if err := errors.Join(do(f.path), lock.Unlock()); err != nil {
			return total, err
		}
		kept, total = kept-f.disk, total+f.disk
	}
	return total, nil
}

type partialFile struct {
	path string
	disk int64
	at   time.Time
}

// files lists what there is, the youngest first.
func (p *Partials) files() ([]partialFile, error) {
	entries, err := os.ReadDir(p.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var files []partialFile
	for _, e := range entries {
		fi, err := e.Info()
		if err == nil && fi.Mode().IsRegular() {
			files = append(files, partialFile{filepath.Join(p.dir, e.Name()), disk.Of(fi), fi.ModTime()})
		}
	}
	slices.SortFunc(files, func(a, b partialFile) int { return b.at.Compare(a.at) })
	return files, nil
}
