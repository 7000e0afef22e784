package remote

import (
	"context"
	"io"
	"math"
	"slices"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/reference"
)

const (
	largestPart  = 8 << 20
	smallestPart = 1 << 20
	// shares is how many parts what is left is cut into at least, until parts are smallest: so the last ones end together.
	shares = 32
	// turn is how long such a part takes.
	turn = 500 * time.Millisecond
)

// Spool is where the bytes of one blob stay that have arrived, in any order, and which of them have. It outlives a process
// that is killed.
type Spool interface {
	io.ReaderAt
	io.WriterAt
	// Done notes that all bytes in [from, to) have been written.
	Done(from, to int64) error
	// Gap is the first run of bytes at or after from that have not arrived; start is the blob's size when there is none.
	Gap(from int64) (start, end int64)
}

// Spooled opens a blob whose bytes come through spool: those that are missing in it are fetched in ranges, more than one at
// a time while the reader has to wait for them, each again where its connection broke or is much slower than others. arrived
// is told the number of bytes as they come, from several goroutines; nil is nobody to tell. The reader gives exactly
// desc.Size bytes in their order or an error; whether they have desc.Digest is for its user to verify. Closing it ends
// all connections; what has arrived stays in spool.
func (c *Client) Spooled(ctx context.Context, ref reference.Ref, desc ocispec.Descriptor, spool Spool, arrived func(n int)) (io.ReadCloser, error) {
	d, err := c.download(ctx, ref, desc, true)
	if err != nil {
		return nil, err
	}
	d.spool = spool
	if arrived != nil {
		d.arrived = arrived
	}
	d.start()
	return d, nil
}

// download readies the way of a blob whose spool is still to be said. With several connections each is its own.
func (c *Client) download(ctx context.Context, ref reference.Ref, desc ocispec.Descriptor, several bool) (*download, error) {
	if err := fetchable(ref, desc); err != nil {
		return nil, err
	}
	limits, err := c.limits()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	d := &download{ctx: ctx, cancel: cancel, size: desc.Size, limit: limits.Connections, pause: c.pause, watch: c.watch,
		least: smallestPart, arrived: func(int) {}, closed: func() {}, wake: math.MaxInt64}
	d.open = func(ctx context.Context, from, to int64) (*blobReader, error) {
		if several {
			ctx = apart(ctx)
		}
		return pull(ctx, c, ref, canPull, func(e *endpoint) (*blobReader, error) { return e.blob(ctx, ref, desc, from, to) })
	}
	d.slot = func(ctx context.Context) (func(), error) { return c.downloads.take(ctx) }
	d.news, d.space = sync.NewCond(&d.mu), sync.NewCond(&d.mu)
	return d, nil
}

// download is a blob on its way through a spool.
type download struct {
	ctx     context.Context //nolint:containedctx // of the one transfer that this is
	cancel  context.CancelFunc
	open    func(ctx context.Context, from, to int64) (*blobReader, error)
	slot    func(ctx context.Context) (release func(), err error)
	spool   Spool
	size    int64
	least   int64        // bytes of a part, but for the last
	ahead   func() int64 // how far before the reader bytes may be; nil is anywhere
	limit   int          // connections at a time
	pause   time.Duration
	watch   watching
	arrived func(n int)
	closed  func()
	wg      sync.WaitGroup

	mu      sync.Mutex
	news    *sync.Cond // bytes have arrived, or err is set
	parts   []*part    // sorted, without gaps from 0 to planned
	planned int64
	workers int
	heard   bool // the server has answered
	whole   bool // it sends whole blobs only
	calm    bool // it was busy: no further connections
	rate    rate // of connections so far
	err     error

	at      int64 // the reader's place
	starved time.Duration
	space   *sync.Cond // the reader has come to wake
	wake    int64
}

// part is a range of the blob that one connection fetches. What is before pos has arrived.
type part struct {
	start, pos, end int64
	busy            bool
	held            bool      // its connection waits for the reader
	tries           int       // since it last made progress
	from            int64     // pos at the last try that made progress
	after           time.Time // not to be tried before
	replaced        int
	drop            context.CancelCauseFunc // ends its connection
	seen            mark                    // where it was, for its speed
}

func (d *download) start() {
	d.wg.Go(func() {
		<-d.ctx.Done()
		d.mu.Lock()
		defer d.mu.Unlock()
		d.news.Broadcast()
		d.space.Broadcast()
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hasWork() {
		d.addWorker()
		d.wg.Go(d.tend)
	}
}

// Read gives the bytes in their order and waits for those that are not there.
func (d *download) Read(p []byte) (int, error) {
	d.mu.Lock()
	n, err := d.wait(len(p))
	d.mu.Unlock()
	if n == 0 || err != nil {
		return 0, err
	}
	n, err = d.spool.ReadAt(p[:n], d.at)
	d.mu.Lock()
	d.at += int64(n)
	if d.at >= d.wake {
		d.wake = math.MaxInt64
		d.space.Broadcast()
	}
	d.mu.Unlock()
	if err == io.EOF && n > 0 {
		err = nil
	}
	return n, err
}

// wait gives how many bytes, at most most, are there at the reader's place. It is called with the lock held.
func (d *download) wait(most int) (int, error) {
	var since time.Time
	for {
		n := d.there()
		switch {
		case n > 0:
			if !since.IsZero() {
				d.starved += time.Since(since)
			}
			return int(min(n, int64(most))), nil
		case d.at == d.size:
			return 0, io.EOF
		case d.err != nil:
			return 0, d.err
		case d.ctx.Err() != nil:
			return 0, context.Cause(d.ctx)
		}
		if since.IsZero() {
			since = time.Now()
		}
		d.news.Wait()
	}
}

// there is how many bytes have arrived from the reader's place on without a gap in their part.
func (d *download) there() int64 {
	i, found := slices.BinarySearchFunc(d.parts, d.at, func(p *part, at int64) int {
		switch {
		case p.end <= at:
			return -1
		case p.start > at:
			return 1
		}
		return 0
	})
	if !found {
		return 0
	}
	return d.parts[i].pos - d.at
}

// answered waits until a server has answered, or the error that none gives the blob.
func (d *download) answered() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for !d.heard && d.err == nil && d.ctx.Err() == nil && d.at < d.size {
		d.news.Wait()
	}
	if d.err == nil && d.ctx.Err() != nil {
		return context.Cause(d.ctx)
	}
	return d.err
}

// Close ends the transfer. It may be called again, and while Read waits.
func (d *download) Close() error {
	d.cancel()
	d.wg.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed()
	d.closed = func() {}
	return nil
}

// fail ends the transfer with an error that no further try can mend. It is called with the lock held.
func (d *download) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.cancel()
	d.news.Broadcast()
}

// next gives the part that a connection should fetch now, the first in the blob first; nil and the time to wait when those
// that are left must wait, nil and 0 when nothing is left to do, or nothing until the reader has come to wake. It is called with the lock held.
func (d *download) next(now time.Time) (*part, time.Duration) {
	var wait time.Duration
	for _, p := range d.parts {
		if p.busy || p.pos == p.end {
			continue
		}
		if left := p.after.Sub(now); left > 0 {
			if wait == 0 || left < wait {
				wait = left
			}
			continue
		}
		if !d.near(p.pos + copyBuffer) {
			d.wakeAt(p.pos + smallestPart)
			continue
		}
		return p, 0
	}
	if p := d.plan(); p != nil {
		return p, 0
	}
	return nil, wait
}

// hasWork reports whether there is a part that nobody fetches.
func (d *download) hasWork() bool {
	return d.planned < d.size || slices.ContainsFunc(d.parts, func(p *part) bool { return !p.busy && p.pos < p.end })
}

// plan cuts the next part from what is not planned yet; nil when all is. Runs that have arrived become parts that are done.
func (d *download) plan() *part {
	for d.planned < d.size {
		start, end := d.spool.Gap(d.planned)
		if start > d.planned {
			d.parts = append(d.parts, &part{start: d.planned, pos: start, end: start})
			d.planned = start
			d.news.Broadcast()
		}
		if start == end {
			continue
		}
		if !d.whole {
			end = min(end, start+d.portion(start))
			if !d.near(start + smallestPart) {
				d.wakeAt(start + smallestPart)
				return nil
			}
		}
		p := &part{start: start, pos: start, from: start, end: end}
		d.parts = append(d.parts, p)
		d.planned = end
		return p
	}
	return nil
}

// portion is how many bytes the part that begins at start should have. One that others may have to wait for in memory has what its
// connection brings in a turn.
func (d *download) portion(start int64) int64 {
	most := min(largestPart, (d.size-start)/shares)
	if d.ahead != nil {
		most = int64(d.usual(nil, time.Now()) * turn.Seconds())
	}
	return max(d.least, most&^(smallestPart-1))
}

// near reports whether the bytes before to may be there already.
func (d *download) near(to int64) bool { return d.ahead == nil || to <= d.at+d.ahead() }

// wakeAt has those who wait for space told when the bytes before to may be there. It is called with the lock held.
func (d *download) wakeAt(to int64) { d.wake = min(d.wake, max(to-d.ahead(), d.at+1)) }
