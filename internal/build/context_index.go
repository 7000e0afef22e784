package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"strata/internal/atomicfile"
	"strata/internal/errdef"
	"strata/internal/oci"
	"strata/internal/rootfs"
)

// statIndex remembers the digests of files by what stat(2) says of them, so that an unchanged file is not read again.
//
// A file changed twice within one tick of its clock can look unchanged. So a file whose times lie close before the scan,
// or after it, is hashed each time and never remembered.
type statIndex struct {
	file         string
	capabilities bool // count
	layers       bool // the files are those of layers, which never change and are seen through mounts
	start        time.Time

	mu    sync.Mutex
	known map[fileID][sha256.Size]byte
	fresh map[fileID][sha256.Size]byte // seen in this build: what is kept
	dirty bool
}

// fileID is all by which a file is taken for the one that was hashed.
type fileID struct {
	Dev, Ino           uint64
	Size, Mtime, Ctime int64
}

type indexRecord struct {
	ID  fileID
	Sum [sha256.Size]byte
}

const (
	indexMagic   = "strata context index 3\n"
	maxIndexFile = 512 << 20
	unsettled    = 2 * time.Second
)

func newStatIndex(cacheDir, contextDir string) *statIndex {
	sum := sha256.Sum256([]byte(contextDir))
	return &statIndex{file: filepath.Join(cacheDir, hex.EncodeToString(sum[:16]))}
}

// newFetchedIndex is of files that are there for one build only: nothing is kept.
func newFetchedIndex() *statIndex { return &statIndex{} }

// newLayerIndex is the index of all files of layers.
func newLayerIndex(cacheDir string) *statIndex {
	x := &statIndex{file: filepath.Join(cacheDir, "layers"), capabilities: true, layers: true}
	x.begin(time.Now())
	return x
}

// id is what a file is known by. What stat says of a file of layers does not do: a mount has a device of its own each time,
// and the inodes of two images on different layers have the same numbers, times and sizes easily. So there it is the stack of
// layers and the path, which never show another file.
func (x *statIndex) id(stack oci.ChainID, f *item) fileID {
	id := idOf(&f.stat)
	if x.layers {
		sum := sha256.Sum256([]byte(string(stack) + "\x00" + f.path))
		id.Dev, id.Ino = binary.LittleEndian.Uint64(sum[:]), binary.LittleEndian.Uint64(sum[8:])
	}
	return id
}

func idOf(st *unix.Stat_t) fileID {
	return fileID{st.Dev, st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano()}
}

// begin loads what was known; a missing or damaged file knows nothing.
func (x *statIndex) begin(now time.Time) {
	x.start = now
	x.known = map[fileID][sha256.Size]byte{}
	x.fresh = map[fileID][sha256.Size]byte{}
	raw, err := readBounded(x.file, maxIndexFile)
	if err != nil {
		return
	}
	records := decodeIndex(raw)
	x.known = make(map[fileID][sha256.Size]byte, len(records))
	x.fresh = make(map[fileID][sha256.Size]byte, len(records))
	for _, r := range records {
		x.known[r.ID] = r.Sum
	}
}

// about is how many files the index will know, without reading it: 65,536 at most.
func (x *statIndex) about() int {
	fi, err := os.Stat(x.file)
	if err != nil {
		return 0
	}
	return int(min(fi.Size()/recordSize, 1<<16))
}

const recordSize = 5*8 + sha256.Size

// The file is the magic, records, and the sha256 of both. A damaged file holds nothing.
func decodeIndex(raw []byte) []indexRecord {
	body, ok := bytes.CutPrefix(raw, []byte(indexMagic))
	if !ok || len(body) < sha256.Size || (len(body)-sha256.Size)%recordSize != 0 {
		return nil
	}
	end := len(raw) - sha256.Size
	if sum := sha256.Sum256(raw[:end]); !bytes.Equal(sum[:], raw[end:]) {
		return nil
	}
	body = body[:len(body)-sha256.Size]
	records := make([]indexRecord, 0, len(body)/recordSize)
	for ; len(body) > 0; body = body[recordSize:] {
		word := func(i int) uint64 { return binary.LittleEndian.Uint64(body[8*i:]) }
		r := indexRecord{ID: fileID{word(0), word(1), int64(word(2)), int64(word(3)), int64(word(4))}}
		copy(r.Sum[:], body[5*8:])
		records = append(records, r)
	}
	return records
}

func encodeIndex(known map[fileID][sha256.Size]byte) []byte {
	raw := make([]byte, 0, len(indexMagic)+len(known)*recordSize+sha256.Size)
	raw = append(raw, indexMagic...)
	for id, sum := range known {
		for _, word := range [5]uint64{id.Dev, id.Ino, uint64(id.Size), uint64(id.Mtime), uint64(id.Ctime)} {
			raw = binary.LittleEndian.AppendUint64(raw, word)
		}
		raw = append(raw, sum[:]...)
	}
	sum := sha256.Sum256(raw)
	return append(raw, sum[:]...)
}

// save writes the index when this build learnt something. Files that no step selected this time keep their places.
func (x *statIndex) save() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.dirty || x.file == "" {
		return nil
	}
	for id, sum := range x.known {
		if len(x.fresh) >= 4_000_000 {
			break
		}
		x.fresh[id] = sum
	}
	raw := encodeIndex(x.fresh)
	if err := os.MkdirAll(filepath.Dir(x.file), 0o700); err != nil {
		return err
	}
	x.dirty = false
	return atomicfile.Write(x.file, raw, 0o600)
}

// settled tells whether the times of a file lie far enough before the scan.
func (x *statIndex) settled(id fileID) bool {
	if x.layers {
		return true
	}
	limit := x.start.Add(-unsettled).UnixNano()
	return id.Mtime < limit && id.Ctime < limit
}

func (x *statIndex) lookup(id fileID) ([sha256.Size]byte, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	sum, ok := x.fresh[id]
	if !ok {
		if sum, ok = x.known[id]; ok && x.settled(id) {
			x.fresh[id] = sum
		}
	}
	return sum, ok
}

func (x *statIndex) learn(id fileID, sum [sha256.Size]byte) {
	if !x.settled(id) {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.fresh[id] = sum
	x.dirty = true
}

// digests gives the digest of each of files by path: of a regular file's content and of the attributes that a copy would
// have, of a directory's attributes. Those that are known are not opened. stack is where files of layers come from.
func (x *statIndex) digests(ctx context.Context, root *rootfs.Root, stack oci.ChainID, files []*item) (map[string]string, error) {
	sums := make([][sha256.Size]byte, len(files))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(max(2, runtime.GOMAXPROCS(0)))
	for i, f := range files {
		if sum, ok := x.lookup(x.id(stack, f)); ok {
			sums[i] = sum
			continue
		}
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			sum, err := x.hash(root, f)
			if err != nil {
				return err
			}
			sums[i] = sum
			x.learn(x.id(stack, f), sum)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	byPath := make(map[string]string, len(files))
	for i, f := range files {
		if !f.isDir() || sums[i] != [sha256.Size]byte{} { // most directories have none
			byPath[f.path] = "sha256:" + hex.EncodeToString(sums[i][:])
		}
	}
	return byPath, nil
}

// hash hashes the file that f was when it was listed, with its attributes where there are some.
func (x *statIndex) hash(root *rootfs.Root, f *item) (sum [sha256.Size]byte, err error) {
	file, err := openUnchanged(root, f)
	if err != nil {
		return sum, err
	}
	defer file.Close()
	attrs, err := carriedXattrs(file, x.capabilities)
	if err != nil {
		return sum, fmt.Errorf("file %q: %w", f.path, err)
	}
	own := xattrSum(attrs)
	if f.isDir() {
		return own, nil
	}
	if sum, err = hashContent(file, f); err != nil || len(attrs) == 0 {
		return sum, err
	}
	return sha256.Sum256(append(sum[:], own[:]...)), nil
}

func hashContent(file *os.File, f *item) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	if _, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{file}, make([]byte, min(128<<10, f.stat.Size+1))); err != nil {
		return sum, fmt.Errorf("file %q: %w", f.path, err)
	}
	var after unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &after); err != nil {
		return sum, fmt.Errorf("file %q: %w", f.path, err)
	}
	if idOf(&after) != idOf(&f.stat) {
		return sum, changed(f.path)
	}
	h.Sum(sum[:0])
	return sum, nil
}

// openUnchanged opens a file of a source tree and checks that it is the one that was listed.
func openUnchanged(root *rootfs.Root, f *item) (*os.File, error) {
	file, err := f.reopen(root)
	if err != nil {
		return nil, fmt.Errorf("file %q: %w", f.path, err)
	}
	var now unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &now); err != nil {
		file.Close()
		return nil, fmt.Errorf("file %q: %w", f.path, err)
	}
	if idOf(&now) != idOf(&f.stat) {
		file.Close()
		return nil, changed(f.path)
	}
	return file, nil
}

func (i *item) reopen(root *rootfs.Root) (*os.File, error) {
	if i.open != nil { // a descriptor with a place of its own in the file
		return os.Open("/proc/self/fd/" + strconv.Itoa(int(i.open.Fd())))
	}
	return root.Open(i.path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
}

func changed(name string) error {
	return errdef.WithHint(fmt.Errorf("file %q changed while the build read it: %w", name, errdef.ErrConflict), "build again when nothing writes to it")
}

func readBounded(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(raw)) > limit {
		return nil, fmt.Errorf("%s: %w", name, errdef.ErrLimit)
	}
	return raw, err
}
