package layer

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// An index is an EROFS image without file content: inodes, directories, links, attributes. The content of files lies in
// the tar, which is the image's one extra device; a file's chunk index says at which of its blocks. Blocks are those of a
// tar, 512 bytes. What is not a run of whole blocks of the tar (some sparse files) is in the image itself, before the
// inodes.
//
//	0     nothing: a boot sector's place
//	1024  super block, 128 bytes
//	1152  device slot of the tar, 128 bytes
//	1536  content that the tar does not have as it is, whole blocks
//	      inodes, in slots of 32 bytes: each followed by its extended attributes, then its chunk indexes or link target
//	      blocks of directories and of long link targets
//
// Source: fs/erofs/erofs_fs.h and Documentation/filesystems/erofs.rst of Linux.
const (
	erofsBlockBits = 9
	erofsBlock     = 1 << erofsBlockBits
	erofsSlot      = 32
	erofsInode     = 64 // the extended form: owners of 32 bits, times of 64
	erofsHead      = 1536

	erofsSuperAt = 1024
	erofsSuper   = 128
	erofsMagic   = 0xe0f5e1e2

	erofsCompatMtime    = 0x2
	erofsIncompatChunks = 0x4
	erofsIncompatDevice = 0x8

	layoutPlain  = 0
	layoutInline = 2
	layoutChunks = 4

	chunkIndexed  = 0x20       // chunk indexes of 8 bytes rather than block addresses of 4
	chunkHole     = 0xffffffff // the block address of a chunk of zeros
	maxChunkBits  = 31
	deviceImage   = 0
	deviceTar     = 1
	maxDeviceSize = int64(math.MaxUint32) << erofsBlockBits
)

// child is a name in a directory.
type child struct {
	name string
	node *node
}

// erofsWriter writes an index. Inodes are numbered first, since directories name them; then all is written in order.
type erofsWriter struct {
	w     *bufio.Writer
	at    int64 // bytes of the image so far
	base  int64 // where number 0 would be
	nodes []*node
	meta  int64 // end of the inodes
	data  int64 // end of the image
	buf   []byte
}

// writeErofs writes the index of the tree at root behind stored bytes of content, which with the head is where w stands,
// and gives the head, which belongs at the beginning. tarSize is the size of the tar.
func writeErofs(w io.Writer, root *node, stored, tarSize int64, uuid []byte) (head []byte, size int64, err error) {
	e := &erofsWriter{w: bufio.NewWriterSize(w, 256<<10), at: erofsHead + stored}
	e.base = e.at - erofsBlock // no inode has the number 0
	if err := e.number(root); err != nil {
		return nil, 0, err
	}
	for _, n := range e.nodes {
		if err := e.inode(n); err != nil {
			return nil, 0, err
		}
	}
	if err := e.pad(wholeBlocks(e.meta)); err != nil {
		return nil, 0, err
	}
	for _, n := range e.nodes {
		if err := e.blocks(n); err != nil {
			return nil, 0, err
		}
	}
	if e.at != e.data {
		return nil, 0, fmt.Errorf("index of %d bytes, not %d: %w", e.at, e.data, errdef.ErrCorrupt)
	}
	return e.head(root, tarSize, uuid), e.at, e.w.Flush()
}

// wholeBlocks rounds n up.
func wholeBlocks(n int64) int64 { return (n + erofsBlock - 1) &^ (erofsBlock - 1) }

// number gives every node its place: inodes from the top of the tree down, each directory's names in order.
func (e *erofsWriter) number(root *node) error {
	root.up = root
	pos := e.place(root, e.at)
	for i := 0; i < len(e.nodes); i++ {
		dir := e.nodes[i]
		if !dir.isDir() {
			continue
		}
		dir.list = append(make([]child, 0, len(dir.kids)+2), child{".", dir}, child{"..", dir.up})
		for name, n := range dir.kids {
			dir.list = append(dir.list, child{name, n})
		}
		slices.SortFunc(dir.list, func(a, b child) int { return cmp.Compare(a.name, b.name) })
		for _, c := range dir.list {
			c.node.nlink++ // "." and ".." too; the root's own ".." stands for the name that it does not have
			if c.node.at == 0 {
				pos = e.place(c.node, pos)
			}
		}
	}
	e.meta, e.data = pos, wholeBlocks(pos)
	for _, n := range e.nodes {
		if size := n.blockSize(); size > 0 {
			n.data = uint32(e.data >> erofsBlockBits)
			e.data += wholeBlocks(size)
		}
	}
	if e.data > maxDeviceSize {
		return fmt.Errorf("index of %d bytes: %w", e.data, errdef.ErrLimit)
	}
	return nil
}

// place puts n at the first slot from pos on where it fits, and gives where it ends.
func (e *erofsWriter) place(n *node, pos int64) int64 {
	pos = (pos + erofsSlot - 1) &^ (erofsSlot - 1)
	if n.inlineLink() { // must not cross a block
		if size := n.metaSize(); pos&(erofsBlock-1)+size > erofsBlock {
			pos = wholeBlocks(pos)
		}
	}
	n.at = pos
	e.nodes = append(e.nodes, n)
	return pos + n.metaSize()
}

func (e *erofsWriter) nid(n *node) uint64 { return uint64(n.at-e.base) / erofsSlot }

func (e *erofsWriter) write(p []byte) error {
	e.at += int64(len(p))
	_, err := e.w.Write(p)
	return err
}

func (e *erofsWriter) pad(to int64) error {
	if to < e.at || to-e.at > erofsBlock {
		return fmt.Errorf("index at %d, not %d: %w", e.at, to, errdef.ErrCorrupt)
	}
	return e.write(zeroBlocks[:to-e.at])
}

// inode writes an inode and what follows it.
func (e *erofsWriter) inode(n *node) error {
	if err := e.pad(n.at); err != nil {
		return err
	}
	le := binary.LittleEndian
	b := le.AppendUint16(e.buf[:0], 1|n.layout()<<1) // bit 0: extended
	b = le.AppendUint16(b, n.xattrCount())
	b = le.AppendUint16(b, uint16(n.mode))
	b = le.AppendUint16(b, 0)
	b = le.AppendUint64(b, uint64(n.length()))
	b = le.AppendUint32(b, n.union())
	b = le.AppendUint32(b, uint32(e.nid(n)))
	b = le.AppendUint32(b, uint32(n.uid))
	b = le.AppendUint32(b, uint32(n.gid))
	b = le.AppendUint64(b, uint64(n.mtime.Sec))
	b = le.AppendUint32(b, uint32(n.mtime.Nsec))
	b = le.AppendUint32(b, n.nlink)
	b = append(b, make([]byte, 16)...)
	b = n.appendXattrs(b)
	switch n.layout() {
	case layoutInline:
		b = append(b, n.link...)
	case layoutChunks:
		b = append(b, zeroBlocks[:-len(b)&7]...)
		for _, c := range n.chunkList() {
			b = le.AppendUint16(b, 0)
			b = le.AppendUint16(b, c.device)
			b = le.AppendUint32(b, c.block)
		}
	}
	e.buf = b
	return e.write(b)
}

// blocks writes what a node has in blocks of its own.
func (e *erofsWriter) blocks(n *node) error {
	if n.blockSize() == 0 {
		return nil
	}
	if !n.isDir() {
		if err := e.write([]byte(n.link)); err != nil {
			return err
		}
		return e.pad(wholeBlocks(e.at))
	}
	for list := n.list; len(list) > 0; {
		k, _ := dirBlock(list)
		if err := e.dirents(list[:k]); err != nil {
			return err
		}
		list = list[k:]
	}
	return nil
}

const direntSize = 12

// dirBlock says how many of the names fit one block, and how many bytes they take.
func dirBlock(list []child) (n, size int) {
	for _, c := range list {
		if size+direntSize+len(c.name) > erofsBlock {
			break
		}
		size += direntSize + len(c.name)
		n++
	}
	return n, size
}

// dirSize is the size of a directory: whole blocks, and of the last what is used.
func dirSize(list []child) (size int64) {
	for len(list) > 0 {
		n, used := dirBlock(list)
		if list = list[n:]; len(list) > 0 {
			used = erofsBlock
		}
		size += int64(used)
	}
	return size
}

// dirents writes one block of a directory: entries, then their names.
func (e *erofsWriter) dirents(list []child) error {
	le := binary.LittleEndian
	b, names := e.buf[:0], len(list)*direntSize
	for _, c := range list {
		b = le.AppendUint64(b, e.nid(c.node))
		b = le.AppendUint16(b, uint16(names))
		b = append(b, direntType(c.node.mode), 0)
		names += len(c.name)
	}
	for _, c := range list {
		b = append(b, c.name...)
	}
	e.buf = b
	if err := e.write(b); err != nil {
		return err
	}
	return e.pad(wholeBlocks(e.at))
}

func direntType(mode uint32) byte {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return 1
	case unix.S_IFDIR:
		return 2
	case unix.S_IFCHR:
		return 3
	case unix.S_IFBLK:
		return 4
	case unix.S_IFIFO:
		return 5
	}
	return 7 // symbolic link
}

// head is the super block and the device table.
func (e *erofsWriter) head(root *node, tarSize int64, uuid []byte) []byte {
	le := binary.LittleEndian
	h := make([]byte, erofsHead)
	sb := h[erofsSuperAt:]
	le.PutUint32(sb, erofsMagic)
	le.PutUint32(sb[8:], erofsCompatMtime)
	sb[12] = erofsBlockBits
	le.PutUint16(sb[14:], uint16(e.nid(root)))
	le.PutUint64(sb[16:], uint64(len(e.nodes)))
	le.PutUint32(sb[36:], uint32(e.data>>erofsBlockBits))
	le.PutUint32(sb[40:], uint32(e.base>>erofsBlockBits)) // where inode numbers count from
	copy(sb[48:64], uuid)
	le.PutUint32(sb[80:], erofsIncompatChunks|erofsIncompatDevice)
	le.PutUint16(sb[86:], 1) // extra devices
	le.PutUint16(sb[88:], (erofsSuperAt+erofsSuper)/erofsSuper)
	le.PutUint32(sb[erofsSuper+64:], uint32(wholeBlocks(tarSize)>>erofsBlockBits)) // of the device slot
	return h
}
