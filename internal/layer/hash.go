package layer

import (
	"context"
	"crypto/sha256"
	"hash"
	"io"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"strata/internal/oci"
)

// Bytes travel in chunks of this size, in rings of this length: two cores stay busy in 2 MiB.
const (
	chunkSize = 256 << 10
	ringSize  = 8
)

func diffID(h hash.Hash) oci.DiffID { return oci.DiffID(digest.NewDigest(digest.SHA256, h)) }

// chunk is read by two: the hash and the consumer. Who is last gives it back.
type chunk struct {
	data []byte
	err  error // what the source said after data
	refs atomic.Int32
}

// tee reads a source in a goroutine of its own, hashes it in another, and is itself an io.Reader of the same bytes.
type tee struct {
	free, data, sums chan *chunk
	stop             chan struct{}
	wg               sync.WaitGroup
	hash             hash.Hash
	each             func([]byte) error // is given every byte before Read gives it; nil: nobody is

	cur  *chunk
	rest []byte
	size int64
	err  error
}

func newTee(ctx context.Context, src io.Reader) *tee {
	t := &tee{
		free: make(chan *chunk, ringSize),
		data: make(chan *chunk, ringSize),
		sums: make(chan *chunk, ringSize),
		stop: make(chan struct{}),
		hash: sha256.New(),
	}
	for range ringSize {
		t.free <- &chunk{}
	}
	t.wg.Go(func() { t.pump(ctx, src) })
	t.wg.Go(func() {
		for c := range t.sums {
			t.hash.Write(c.data)
			t.release(c)
		}
	})
	return t
}

// pump fills chunks from src until it ends or nobody wants more.
func (t *tee) pump(ctx context.Context, src io.Reader) {
	defer close(t.data)
	defer close(t.sums)
	for {
		var c *chunk
		select {
		case c = <-t.free:
		case <-t.stop:
			return
		}
		if c.data == nil { // few layers are long enough to need all
			c.data = make([]byte, chunkSize)
		}
		n := 0
		c.data, c.err = c.data[:chunkSize], ctx.Err()
		for c.err == nil && n < chunkSize/2 {
			var k int
			k, c.err = src.Read(c.data[n:])
			n += k
		}
		c.data = c.data[:n]
		c.refs.Store(2)
		t.sums <- c // both have room for the whole ring
		t.data <- c
		if c.err != nil {
			return
		}
	}
}

func (t *tee) release(c *chunk) {
	if c.refs.Add(-1) == 0 {
		t.free <- c
	}
}

func (t *tee) Read(p []byte) (int, error) {
	if err := t.fill(); err != nil {
		return 0, err
	}
	n := copy(p, t.rest)
	t.rest = t.rest[n:]
	t.size += int64(n)
	return n, nil
}

// skip passes over n bytes, or to the end, and shows them to see, which may be nil.
func (t *tee) skip(n int64, see func([]byte)) (int64, error) {
	left := n
	for left > 0 {
		err := t.fill()
		if err == io.EOF {
			break
		}
		if err != nil {
			return n - left, err
		}
		k := min(left, int64(len(t.rest)))
		if see != nil {
			see(t.rest[:k])
		}
		t.rest = t.rest[k:]
		t.size += k
		left -= k
	}
	return n - left, nil
}

// fill takes the next chunk when the current one is used up.
func (t *tee) fill() error {
	for len(t.rest) == 0 {
		if t.cur != nil {
			if t.err = t.cur.err; t.err == nil {
				t.release(t.cur)
			}
			t.cur = nil
		}
		if t.err != nil {
			return t.err
		}
		c, ok := <-t.data
		if !ok {
			return io.ErrClosedPipe
		}
		t.cur, t.rest = c, c.data
		if t.each != nil {
			if err := t.each(c.data); err != nil {
				t.err, t.cur, t.rest = err, nil, nil
				return err
			}
		}
	}
	return nil
}

// close ends the goroutines and waits for them: after it nothing reads the source any more.
func (t *tee) close() {
	close(t.stop)
	t.wg.Wait()
}

// sum is the diffID of all that was read; only after Read has given io.EOF.
func (t *tee) sum() oci.DiffID {
	t.wg.Wait()
	return diffID(t.hash)
}

// hasher hashes what is written; what does not fit one chunk is hashed in a goroutine of its own.
type hasher struct {
	hash       hash.Hash
	cur        []byte
	full, free chan []byte
	done       chan struct{}
	size       int64
}

func newHasher() *hasher { return &hasher{hash: sha256.New()} }

// room is where the next bytes may be put; advance says how many were.
func (h *hasher) room() []byte {
	if len(h.cur) == cap(h.cur) {
		h.next()
	}
	return h.cur[len(h.cur):cap(h.cur)]
}

func (h *hasher) advance(n int) {
	h.cur = h.cur[:len(h.cur)+n]
	h.size += int64(n)
}

func (h *hasher) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		k := copy(h.room(), p)
		h.advance(k)
		p = p[k:]
	}
	return n, nil
}

func (h *hasher) next() {
	switch {
	case h.cur == nil:
		h.cur = make([]byte, 0, 16<<10) // most commits fit
		return
	case h.full == nil:
		h.full, h.free, h.done = make(chan []byte, ringSize+1), make(chan []byte, ringSize+1), make(chan struct{})
		for range ringSize {
			h.free <- make([]byte, 0, chunkSize)
		}
		go h.run()
	}
	h.full <- h.cur
	h.cur = (<-h.free)[:0]
}

func (h *hasher) run() {
	defer close(h.done)
	for b := range h.full {
		h.hash.Write(b)
		h.free <- b
	}
}

// sum ends the hasher. It must be called even when the result is not wanted.
func (h *hasher) sum() oci.DiffID {
	if h.full == nil {
		h.hash.Write(h.cur)
		return diffID(h.hash)
	}
	h.full <- h.cur
	close(h.full)
	<-h.done
	return diffID(h.hash)
}
