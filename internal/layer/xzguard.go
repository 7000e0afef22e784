package layer

import (
	"encoding/binary"
	"fmt"
	"io"

	"strata/internal/errdef"
)

// xzGuard passes an xz file through and fails when a block wants a larger dictionary than we give. The decoder takes
// whatever a block header says, up to 4 GiB; so block headers are found here, by walking the LZMA2 chunks, which say how
// long they are. What is not understood is passed on: then the decoder does not understand it either, because the only
// blocks that it takes are those with the LZMA2 filter alone.
//
// Format: https://tukaani.org/xz/xz-file-format.txt, sections 2 to 5.
type xzGuard struct {
	r    io.Reader
	step func(*xzGuard) error // what to do when need bytes are in hand
	need int                  // bytes
	hand []byte
	skip int64 // bytes to pass over first

	check int   // bytes of a block's check
	size  int64 // of the block's compressed data so far
	lost  bool
}

func (g *xzGuard) Read(p []byte) (int, error) {
	n, err := g.r.Read(p)
	if serr := g.scan(p[:n]); serr != nil {
		return 0, serr
	}
	return n, err
}

func (g *xzGuard) scan(p []byte) error {
	if g.step == nil {
		g.want(12, (*xzGuard).stream)
	}
	for len(p) > 0 && !g.lost {
		if g.skip > 0 {
			n := min(g.skip, int64(len(p)))
			g.skip, p = g.skip-n, p[n:]
			continue
		}
		n := min(g.need-len(g.hand), len(p))
		g.hand, p = append(g.hand, p[:n]...), p[n:]
		if len(g.hand) == g.need {
			if err := g.step(g); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g *xzGuard) want(n int, step func(*xzGuard) error) {
	g.need, g.step, g.hand = n, step, g.hand[:0]
}

// stream: a stream header, or four bytes of padding between streams.
func (g *xzGuard) stream() error {
	if string(g.hand[:6]) != "\xfd7zXZ\x00" {
		g.lost = true
		return nil
	}
	g.check = []int{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}[g.hand[7]&15]
	g.want(1, (*xzGuard).block)
	return nil
}

// block: the first byte of a block header is its size; of the index it is 0.
func (g *xzGuard) block() error {
	if g.hand[0] == 0 {
		// The decoder reads the index, the footer and perhaps another stream. Where that begins is not worth the walk:
		// a second stream is looked for by its magic.
		g.hand = g.hand[:0]
		g.want(4, (*xzGuard).between)
		g.skip = 3
		return nil
	}
	size := int(g.hand[0]) * 4
	g.want(1+size+3, (*xzGuard).header)
	g.hand = append(g.hand, byte(size/4))
	return nil
}

// between: indexes, footers and padding are all multiples of four bytes, and so the next stream begins at one.
func (g *xzGuard) between() error {
	if string(g.hand[:4]) == "\xfd7zX" {
		hand := append([]byte(nil), g.hand...)
		g.want(12, (*xzGuard).stream)
		g.hand = append(g.hand, hand...)
		return nil
	}
	g.want(4, (*xzGuard).between)
	return nil
}

func (g *xzGuard) header() error {
	rest := g.hand[2:]
	flags := g.hand[1]
	for range 2 {
		if flags&0x40 != 0 || flags&0x80 != 0 {
			_, n := binary.Uvarint(rest)
			if n <= 0 {
				g.lost = true
				return nil
			}
			rest = rest[n:]
			if flags&0x40 != 0 {
				flags &^= 0x40
			} else {
				flags &^= 0x80
			}
		}
	}
	if flags&3 != 0 || len(rest) < 3 || rest[0] != 0x21 || rest[1] != 1 {
		g.lost = true
		return nil
	}
	bits := int64(rest[2])
	if dict := (2 | bits&1) << (bits/2 + 11); bits > 40 || dict > maxWindow {
		return fmt.Errorf("dictionary of more than %d bytes: %w", maxWindow, errdef.ErrLimit)
	}
	g.size = 0
	g.want(1, (*xzGuard).chunk)
	return nil
}

// chunk: the control byte of an LZMA2 chunk.
func (g *xzGuard) chunk() error {
	g.size++
	switch c := g.hand[0]; {
	case c == 0: // the end of the block: padding to four bytes, check
		g.skip = (4-g.size%4)%4 + int64(g.check)
		g.want(1, (*xzGuard).block)
	case c <= 2: // not compressed
		g.want(2, (*xzGuard).plain)
	case c < 0x80:
		g.lost = true
	case c < 0xc0:
		g.want(4, (*xzGuard).packed)
	default: // with a properties byte
		g.size++
		g.skip = 0
		g.want(4, (*xzGuard).packedProps)
	}
	return nil
}

func (g *xzGuard) plain() error {
	g.pass(2, int64(binary.BigEndian.Uint16(g.hand))+1)
	return nil
}

func (g *xzGuard) packed() error {
	g.pass(4, int64(binary.BigEndian.Uint16(g.hand[2:]))+1)
	return nil
}

func (g *xzGuard) packedProps() error {
	n := int64(binary.BigEndian.Uint16(g.hand[2:])) + 1
	g.pass(4, n)
	g.skip++
	return nil
}

func (g *xzGuard) pass(header, data int64) {
	g.size += header + data
	g.skip = data
	g.want(1, (*xzGuard).chunk)
}
