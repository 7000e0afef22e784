package layer

import (
	"fmt"
	"io"
	"math/bits"
	"os"

	"strata/internal/errdef"
)

// contentStore takes the content that the tar does not have as it is into the image, behind the head.
type contentStore struct {
	f    *os.File
	size int64
}

const (
	smallChunk = 3       // 4 KiB: what file systems make holes of
	maxChunks  = 1 << 16 // of one file, as long as the bits do
	heldChunk  = 8       // bytes that are held of each
	pieceSize  = 4096    // what is all zeros is a hole on our disk, too
)

// put stores p and gives its first block.
func (s *contentStore) put(p []byte) (uint32, error) {
	at := erofsHead + s.size
	if at+int64(len(p)) > maxDeviceSize {
		return 0, fmt.Errorf("sparse files of more than %d bytes: %w", maxDeviceSize, errdef.ErrLimit)
	}
	for off := 0; off < len(p); off += pieceSize {
		piece := p[off:min(off+pieceSize, len(p))]
		if allZero(piece) {
			continue
		}
		if _, err := s.f.WriteAt(piece, at+int64(off)); err != nil {
			return 0, err
		}
	}
	s.size += wholeBlocks(int64(len(p)))
	return uint32(at >> erofsBlockBits), nil
}

// sparse finds where each piece of a sparse file is: nowhere, where nothing was taken from the tar; in the tar, where the
// piece lies there whole and at the beginning of a block; else in the image.
func (x *indexer) sparse(n *node, body io.Reader) error {
	if n.size > maxSparse {
		return fmt.Errorf("sparse file of %d bytes (at most %d): %w", n.size, int64(maxSparse), errdef.ErrLimit)
	}
	if n.size == 0 {
		return nil
	}
	n.chunks = &chunks{bits: max(smallChunk, uint(bits.Len64(uint64(n.size-1)/maxChunks>>erofsBlockBits)))}
	size := int64(erofsBlock) << n.chunks.bits
	if int64(len(x.buf)) < size {
		x.buf = make([]byte, size)
	}
	count := int((n.size-1)/size) + 1
	if err := x.hold(count * heldChunk); err != nil {
		return err
	}
	n.chunks.list = make([]chunkIndex, 0, count)
	for off := int64(0); off < n.size; off += size {
		c, err := x.chunk(body, x.buf[:min(size, n.size-off)])
		if err != nil {
			return err
		}
		n.chunks.list = append(n.chunks.list, c)
	}
	return nil
}

func (x *indexer) chunk(body io.Reader, p []byte) (chunkIndex, error) {
	before := x.src.n
	if _, err := io.ReadFull(body, p); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return chunkIndex{}, err
	}
	taken := x.src.n - before
	switch {
	case taken == 0:
		return chunkIndex{deviceImage, chunkHole}, nil
	case taken == int64(len(p)) && before%erofsBlock == 0:
		block, err := blockOf(before)
		return chunkIndex{deviceTar, block}, err
	case allZero(p):
		return chunkIndex{deviceImage, chunkHole}, nil
	}
	block, err := x.store.put(p)
	return chunkIndex{deviceImage, block}, err
}
