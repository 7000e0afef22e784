//go:build linux && amd64

package main_test

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// lyingDisk is a disk that loses what it was not told to flush: a FUSE file system with one file, the image of a disk. Writes
// go to the file; until a flush the bytes that were there before are remembered. When the power goes each write since the
// last flush is kept, lost, or torn at a sector, at random, so that later ones may be there without earlier ones.
type lyingDisk struct {
	template string
	rng      *rand.Rand
	server   *fuse.Server
	file     *diskFile
}

const sector = 512

func (d *lyingDisk) start(l *lab) {
	img := l.path("now.img")
	l.tool("cp", "--sparse=always", d.template, img)
	f, err := os.OpenFile(img, os.O_RDWR, 0)
	l.check(err)
	d.file = &diskFile{f: f}
	dir := l.path("fuse")
	l.check(os.MkdirAll(dir, 0o755))
	root := &diskDir{file: d.file}
	d.server, err = fs.Mount(dir, root, &fs.Options{MountOptions: fuse.MountOptions{DirectMount: true, Name: "lyingdisk", MaxWrite: 1 << 20}})
	l.check(err)
	l.t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	l.attach(filepath.Join(dir, "disk"))
}

// cut stops the disk: what was written since the last flush is as it fell.
func (d *lyingDisk) cut(l *lab) {
	d.file.die(d.rng)
	l.shutdown() // the file system above learns of it at once
}

func (d *lyingDisk) restart(l *lab) {
	l.detach()
	// The loop device lets go of the file a moment after it was unmounted.
	var err error
	for end := time.Now().Add(waiting); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = d.server.Unmount(); err == nil {
			break
		}
	}
	l.check(err)
	l.check(d.file.f.Close())
	l.attach(l.path("now.img"))
}

// diskDir is the directory with the one file.
type diskDir struct {
	fs.Inode
	file *diskFile
}

var _ fs.NodeOnAdder = (*diskDir)(nil)

func (d *diskDir) OnAdd(ctx context.Context) {
	d.AddChild("disk", d.NewPersistentInode(ctx, d.file, fs.StableAttr{Mode: syscall.S_IFREG}), false)
}

// diskFile is the disk.
type diskFile struct {
	fs.Inode
	f *os.File

	mu      sync.Mutex
	dead    bool
	pending []undo // since the last flush
}

// undo is what stood where a write went.
type undo struct {
	off int64
	old []byte
}

var (
	_ fs.NodeOpener    = (*diskFile)(nil)
	_ fs.NodeGetattrer = (*diskFile)(nil)
	_ fs.NodeSetattrer = (*diskFile)(nil)
	_ fs.NodeReader    = (*diskFile)(nil)
	_ fs.NodeWriter    = (*diskFile)(nil)
	_ fs.NodeFsyncer   = (*diskFile)(nil)
	_ fs.NodeFlusher   = (*diskFile)(nil)
)

func (d *diskFile) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, 0
}

func (d *diskFile) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	fi, err := d.f.Stat()
	if err != nil {
		return syscall.EIO
	}
	out.Mode, out.Size, out.Nlink = syscall.S_IFREG|0o600, uint64(fi.Size()), 1
	return 0
}

func (d *diskFile) Setattr(ctx context.Context, f fs.FileHandle, _ *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	return d.Getattr(ctx, f, out)
}

func (d *diskFile) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	n, err := d.f.ReadAt(dest, off)
	if n == 0 && err != nil {
		return nil, syscall.EIO
	}
	return fuse.ReadResultData(dest[:n]), 0
}

func (d *diskFile) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return 0, syscall.EIO
	}
	old := make([]byte, len(data))
	if _, err := d.f.ReadAt(old, off); err != nil {
		return 0, syscall.EIO
	}
	d.pending = append(d.pending, undo{off, old})
	n, err := d.f.WriteAt(data, off)
	if err != nil {
		return 0, syscall.EIO
	}
	return uint32(n), 0
}

func (d *diskFile) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return syscall.EIO
	}
	d.pending = nil
	return 0
}

func (d *diskFile) Flush(context.Context, fs.FileHandle) syscall.Errno { return 0 }

// die takes back writes that were not flushed, the last first: whole ones, and of others the part behind a sector.
func (d *diskFile) die(rng *rand.Rand) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead = true
	lost := rng.Float64()
	for i := len(d.pending) - 1; i >= 0; i-- {
		u := d.pending[i]
		from := 0
		switch {
		case rng.Float64() < 0.05 && len(u.old) > sector: // torn
			from = sector * (1 + rng.IntN(len(u.old)/sector))
		case rng.Float64() >= lost:
			continue
		}
		if from < len(u.old) {
			if _, err := d.f.WriteAt(u.old[from:], u.off+int64(from)); err != nil {
				panic(err)
			}
		}
	}
	d.pending = nil
}

// TestFaultDisk loses and tears what a disk was not told to flush.
func TestFaultDisk(t *testing.T) {
	if !apart(t) {
		return
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("needs /dev/fuse")
	}
	l := newLab(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	d := &lyingDisk{template: l.templateImage(), rng: rand.New(rand.NewPCG(seed, 2))}
	l.powerCuts(t, &cleanStart{d}, faults(8, 200), "lost and torn writes")
}
