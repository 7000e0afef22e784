package layer

import (
	"encoding/binary"
	"maps"
	"math/bits"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// node is a file of an index, of whatever kind; mode has its type.
type node struct {
	attrs
	kids     map[string]*node // of a directory
	up       *node            // the directory that a directory is in
	link     string           // target of a symbolic link
	size     int64            // of a regular file
	block    uint32           // where the content begins in the tar
	depth    int32            // bytes of a directory's path
	rdev     uint32
	implicit bool    // a directory without an entry of its own
	opaque   bool    // a directory that hides the lower ones
	chunks   *chunks // of a file whose content is not one run of the tar's blocks

	// What the writer finds out.
	list  []child
	at    int64 // of the inode in the image; 0: nowhere yet
	nlink uint32
	data  uint32 // first block of its own
}

// chunks are the content of a sparse file, in pieces of 2^bits blocks.
type chunks struct {
	bits uint
	list []chunkIndex
}

type chunkIndex struct {
	device uint16
	block  uint32
}

func (n *node) isDir() bool { return n.mode&unix.S_IFMT == unix.S_IFDIR }

func (n *node) isWhiteout() bool { return n.mode&unix.S_IFMT == unix.S_IFCHR && n.rdev == 0 }

func (n *node) length() int64 {
	switch n.mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return dirSize(n.list)
	case unix.S_IFLNK:
		return int64(len(n.link))
	}
	return n.size
}

func (n *node) layout() uint16 {
	switch {
	case n.inlineLink():
		return layoutInline
	case n.mode&unix.S_IFMT == unix.S_IFREG && n.size > 0:
		return layoutChunks
	}
	return layoutPlain
}

// inlineLink: a link target that fits into the inode's block stands behind the inode.
func (n *node) inlineLink() bool {
	return n.mode&unix.S_IFMT == unix.S_IFLNK && erofsInode+n.xattrSize()+len(n.link) <= erofsBlock
}

// metaSize is what the inode and all that follows it take.
func (n *node) metaSize() int64 {
	size := erofsInode + n.xattrSize()
	switch n.layout() {
	case layoutInline:
		size += len(n.link)
	case layoutChunks:
		size = (size+7)&^7 + 8*len(n.chunkList())
	}
	return int64(size)
}

// blockSize is how many bytes a node has in blocks of its own.
func (n *node) blockSize() int64 {
	if n.isDir() || n.mode&unix.S_IFMT == unix.S_IFLNK && !n.inlineLink() {
		return n.length()
	}
	return 0
}

// union is the field that means something else for each kind of file.
func (n *node) union() uint32 {
	switch n.mode & unix.S_IFMT {
	case unix.S_IFCHR, unix.S_IFBLK:
		return n.rdev
	case unix.S_IFREG:
		if n.size > 0 {
			return chunkIndexed | uint32(n.chunkBits())
		}
		return 0
	}
	return n.data
}

func (n *node) chunkBits() uint {
	if n.chunks != nil {
		return n.chunks.bits
	}
	return uint(bits.Len64(uint64(n.size-1) >> erofsBlockBits)) // the whole file in one
}

func (n *node) chunkList() []chunkIndex {
	if n.chunks != nil {
		return n.chunks.list
	}
	return []chunkIndex{{deviceTar, n.block}}
}

const (
	xattrHead  = 12 // before the first attribute of an inode
	xattrEntry = 4  // before each
)

// xattrPrefix are the name spaces that EROFS knows, by number. An ACL's name is all prefix.
func xattrPrefix(name string) (index byte, rest string, ok bool) {
	switch name {
	case aclAccess:
		return 2, "", true
	case aclDefault:
		return 3, "", true
	}
	space, rest, ok := strings.Cut(name, ".")
	if !ok || rest == "" {
		return 0, "", false
	}
	switch space {
	case "user":
		return 1, rest, true
	case "trusted":
		return 4, rest, true
	case "security":
		return 6, rest, true
	}
	return 0, "", false
}

func (n *node) xattrSize() int {
	if len(n.xattrs) == 0 {
		return 0
	}
	size := xattrHead
	for name, value := range n.xattrs {
		_, rest, _ := xattrPrefix(name)
		size += (xattrEntry + len(rest) + len(value) + 3) &^ 3
	}
	return size
}

// xattrCount is the size of the attributes as an inode has it.
func (n *node) xattrCount() uint16 {
	size := n.xattrSize()
	if size == 0 {
		return 0
	}
	return uint16((size-xattrHead)/4 + 1)
}

func (n *node) appendXattrs(b []byte) []byte {
	if len(n.xattrs) == 0 {
		return b
	}
	b = append(b, make([]byte, xattrHead)...)
	for _, name := range slices.Sorted(maps.Keys(n.xattrs)) {
		index, rest, _ := xattrPrefix(name)
		value := n.xattrs[name]
		b = append(b, byte(len(rest)), index)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
		b = append(b, rest...)
		b = append(b, value...)
		b = append(b, zeroBlocks[:-(xattrEntry+len(rest)+len(value))&3]...)
	}
	return b
}
