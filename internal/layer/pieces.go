package layer

import (
	"hash/crc32"
	"io"
	"sync"
)

// A stream is compressed piece by piece, several pieces at a time. What comes out depends on what goes in alone, not on how many processors there
// are: the cuts are at fixed places, and so are the pieces on which it is tried out whether the quick way will do.

// pieceForm is how a format is written in pieces.
type pieceForm struct {
	// size of a piece, and how much of what comes before it its coder may refer to, in bytes.
	size, history int
	// quick and usual are levels. Where they differ, quick is taken as long as it made the last piece that was tried at most a part in margin
	// larger: so what compresses badly, or as well with little effort, does not take the time of what does not.
	quick, usual, margin int
	// mostThreads bounds the processors that one stream is compressed on.
	mostThreads int
	coder       func(level int) (pieceCoder, error)
	head        []byte
	tail        func(crc uint32, size int64) []byte
}

// pieceCoder compresses pieces one after the other.
type pieceCoder interface {
	// code appends the compressed piece to dst.
	code(dst, history, data []byte) ([]byte, error)
	close()
}

// coderFunc is a pieceCoder that has nothing to close.
type coderFunc func(dst, history, data []byte) ([]byte, error)

func (f coderFunc) code(dst, history, data []byte) ([]byte, error) { return f(dst, history, data) }

func (coderFunc) close() {}

// One piece in trialEvery is tried at both levels, the second at first: what is no longer than a piece is not tried at all. The pieces go by it
// that come as much later as there are threads at most, when it is known; only the first trial is waited for.
const (
	trialEvery = 32
	trialFirst = 1
)

// trial is what one piece has told about the levels.
type trial struct {
	done  chan struct{}
	quick bool // valid after done
}

type piece struct {
	buf     []byte // what comes before the piece, and the piece
	history int    // bytes of the former
	try, by *trial // what it is to tell, and what it goes by; nil is none
	out     []byte
	err     error
	done    chan struct{}
}

// pieceWriter compresses what is written to it.
type pieceWriter struct {
	form pieceForm
	w    io.Writer
	next *piece
	cuts int
	size int64
	crc  uint32

	trials []*trial
	second []byte // of the piece that is just tried, at the other level: there is one at a time
	work   chan *piece
	order  chan *piece // as they were cut; emit waits for one more
	free   chan *piece
	ended  sync.WaitGroup
	mu     sync.Mutex
	err    error // the first one of writing or compressing
}

// newPieceWriter compresses to w on so many threads, or as many as the form allows.
func newPieceWriter(w io.Writer, form pieceForm, threads int) (*pieceWriter, error) {
	threads = min(threads, form.mostThreads)
	p := &pieceWriter{
		form: form, w: w, work: make(chan *piece, threads), order: make(chan *piece, threads-1), free: make(chan *piece, threads+2),
	}
	if _, err := w.Write(form.head); err != nil {
		return nil, err
	}
	p.next = p.spare()
	for range threads {
		p.ended.Go(p.compress)
	}
	p.ended.Go(p.emit)
	return p, nil
}

func (p *pieceWriter) Write(data []byte) (int, error) {
	n := len(data)
	for len(data) > 0 {
		if err := p.failed(); err != nil {
			return 0, err
		}
		room := p.next.history + p.form.size - len(p.next.buf)
		take := data[:min(room, len(data))]
		p.next.buf = append(p.next.buf, take...)
		if data = data[len(take):]; len(take) == room {
			p.cut()
		}
	}
	return n, nil
}

// readStep bounds what is read at a time, so that what was read is still in the processor's cache when it is hashed.
const readStep = 256 << 10

// ReadFrom compresses what r gives, which it reads to where it is compressed from.
func (p *pieceWriter) ReadFrom(r io.Reader) (int64, error) {
	total := int64(0)
	for {
		if err := p.failed(); err != nil {
			return total, err
		}
		at := len(p.next.buf)
		full := p.next.history + p.form.size
		n, err := r.Read(p.next.buf[at:min(at+readStep, full)])
		p.next.buf = p.next.buf[:at+n]
		if total += int64(n); at+n == full {
			p.cut()
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// cut hands the piece that has come out to be compressed.
func (p *pieceWriter) cut() {
	c := p.next
	data := c.buf[c.history:]
	p.size += int64(len(data))
	if p.form.tail != nil {
		p.crc = crc32.Update(p.crc, crc32.IEEETable, data)
	}
	p.rate(c)
	p.cuts++
	p.next = p.spare()
	p.next.buf = append(p.next.buf, c.buf[max(0, len(c.buf)-p.form.history):]...)
	p.next.history = len(p.next.buf)
	p.order <- c
	p.work <- c
}

// rate says what the piece is to tell of the levels, or by what it goes.
func (p *pieceWriter) rate(c *piece) {
	if p.form.quick == p.form.usual {
		return
	}
	switch {
	case p.cuts < trialFirst:
	case p.cuts%trialEvery == trialFirst:
		c.try = &trial{done: make(chan struct{})}
		p.trials = append(p.trials, c.try)
	default:
		c.by = p.trials[max(0, p.cuts-p.form.mostThreads-trialFirst)/trialEvery]
	}
}

func (p *pieceWriter) spare() *piece {
	select {
	case c := <-p.free:
		*c = piece{buf: c.buf[:0], out: c.out[:0], done: make(chan struct{})}
		return c
	default:
		// Room for what cannot be compressed: memory that is not written to is not taken.
		size := p.form.size
		return &piece{buf: make([]byte, 0, p.form.history+size), out: make([]byte, 0, size+size/32), done: make(chan struct{})}
	}
}

// compress is one thread.
func (p *pieceWriter) compress() {
	coders := map[int]pieceCoder{}
	at := func(level int, dst []byte, c *piece) (_ []byte, err error) {
		coder := coders[level]
		if coder == nil {
			if coder, err = p.form.coder(level); err != nil {
				return dst, err
			}
			coders[level] = coder
		}
		return coder.code(dst, c.buf[:c.history], c.buf[c.history:])
	}
	defer func() {
		for _, coder := range coders {
			coder.close()
		}
	}()
	for c := range p.work {
		level := p.form.usual
		if c.by != nil {
			if <-c.by.done; c.by.quick {
				level = p.form.quick
			}
		}
		c.out, c.err = at(level, c.out, c)
		if c.try != nil {
			if c.err == nil {
				p.second, c.err = at(p.form.quick, p.second[:0], c)
			}
			if c.try.quick = len(p.second) <= len(c.out)+len(c.out)/p.form.margin; c.try.quick {
				c.out, p.second = p.second, c.out
			}
			close(c.try.done)
		}
		close(c.done)
	}
}

// emit writes the pieces in their order.
func (p *pieceWriter) emit() {
	for c := range p.order {
		<-c.done
		err := c.err
		if err == nil && p.failed() == nil {
			_, err = p.w.Write(c.out)
		}
		if err != nil {
			p.fail(err)
		}
		select {
		case p.free <- c:
		default:
		}
	}
}

func (p *pieceWriter) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
}

func (p *pieceWriter) failed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Close writes what is left and the stream's end. It is to be called also after an error, once.
func (p *pieceWriter) Close() error {
	if len(p.next.buf) > p.next.history || p.cuts == 0 {
		p.cut()
	}
	close(p.work)
	close(p.order)
	p.ended.Wait()
	if p.err == nil && p.form.tail != nil {
		_, p.err = p.w.Write(p.form.tail(p.crc, p.size))
	}
	return p.err
}
