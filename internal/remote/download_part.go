package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"strata/internal/errdef"
)

const (
	tendEvery = 200 * time.Millisecond
	// A connection that is slowFactor times slower than the others were is replaced, at most maxReplaced times in one part.
	slowFactor  = 8
	maxReplaced = 3
	// leastRate is the speed below which a connection is taken for silent, in bytes a second.
	leastRate = 1 << 10

	// progressSize is how much must arrive for a connection not to count as failed.
	progressSize = 64 << 10
	resumes      = 6               // tries in a row without progress
	refusals     = 2               // of these, answered by a server that is busy
	longestBreak = 8 * time.Second // between two of them
)

// watching is how long the speed of a connection is watched before it is judged: beside others, and by itself.
type watching struct{ slow, least time.Duration }

func usualWatching() watching { return watching{slow: 5 * time.Second, least: 30 * time.Second} }

var (
	errSlow = errors.New("it is much slower than others")
	errLate = errors.New("what comes before is not there")
	errDrip = fmt.Errorf("it sends less than a kilobyte a second: %w", errdef.ErrUnavailable)
)

// mark is where a part was at a time.
type mark struct {
	at  time.Time
	pos int64
}

// rate is how fast connections were.
type rate struct {
	bytes int64
	time  time.Duration
}

// add counts what a connection has brought until now.
func (r *rate) add(p *part, now time.Time) {
	if p.busy && !p.held {
		r.bytes += p.pos - p.seen.pos
		r.time += now.Sub(p.seen.at)
	}
}

// perSecond is 0 when too little is known.
func (r *rate) perSecond() float64 {
	if r.time < tendEvery {
		return 0
	}
	return float64(r.bytes) / r.time.Seconds()
}

// addWorker starts a connection. It is called with the lock held.
func (d *download) addWorker() {
	d.workers++
	d.wg.Go(func() {
		for d.step() {
		}
	})
}

// step fetches a part, or waits for one that can be tried again; false when there is nothing to do any more.
func (d *download) step() bool {
	d.mu.Lock()
	p, wait := d.next(time.Now())
	full := p == nil && wait == 0 && d.hasWork()
	switch {
	case d.ctx.Err() != nil || d.err != nil, p == nil && wait == 0 && !full:
		d.workers--
		d.mu.Unlock()
		return false
	case full:
		d.space.Wait()
		d.mu.Unlock()
		return true
	case p == nil:
		d.mu.Unlock()
		select {
		case <-d.ctx.Done():
		case <-time.After(wait):
		}
		return true
	}
	ctx, drop := context.WithCancelCause(d.ctx)
	defer drop(nil)
	p.busy, p.drop, p.seen = true, drop, mark{time.Now(), p.pos}
	d.mu.Unlock()
	err := d.fetch(ctx, p)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rate.add(p, time.Now())
	p.busy, p.drop = false, nil
	if err != nil && d.ctx.Err() == nil {
		d.broke(ctx, p, err)
	}
	return true
}

// fetch lets a part arrive.
func (d *download) fetch(ctx context.Context, p *part) error {
	release, err := d.slot(ctx)
	if err != nil {
		return err
	}
	defer func() { release() }()
	r, err := d.open(ctx, p.pos, p.end)
	if err != nil {
		return err
	}
	defer r.Close()
	d.opened(p, r.end)
	buf := make([]byte, copyBuffer)
	for p.pos < p.end {
		if release, err = d.follow(ctx, p, release); err != nil {
			return err
		}
		n, err := r.Read(buf[:min(int64(len(buf)), p.end-p.pos)]) // it may go on behind the part
		if n > 0 {
			if _, err := d.spool.WriteAt(buf[:n], p.pos); err != nil {
				return &localError{err}
			}
			if err := d.spool.Done(p.start, p.pos+int64(n)); err != nil {
				return &localError{err}
			}
			d.arrived(n)
			d.mu.Lock()
			p.pos += int64(n)
			d.news.Broadcast()
			d.mu.Unlock()
		}
		if err != nil && (err != io.EOF || p.pos < p.end) {
			return err
		}
	}
	return nil
}

// follow waits until the reader is near a part's next bytes, without the slot. It gives way to a part that comes before where
// every connection has another one.
func (d *download) follow(ctx context.Context, p *part, release func()) (func(), error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.near(p.pos + copyBuffer) {
		return release, nil
	}
	d.rate.add(p, time.Now())
	p.held = true
	defer func() { p.held, p.seen = false, mark{time.Now(), p.pos} }()
	release()
	for !d.near(p.pos + copyBuffer) {
		switch {
		case ctx.Err() != nil:
			return func() {}, context.Cause(ctx)
		case d.left(p):
			return func() {}, errLate
		}
		d.wakeAt(p.pos + smallestPart)
		d.space.Wait()
	}
	d.mu.Unlock()
	release, err := d.slot(ctx)
	d.mu.Lock()
	if err != nil {
		return func() {}, err
	}
	return release, nil
}

// left reports whether a part before p is not there, and all are busy with others. It is called with the lock held.
func (d *download) left(p *part) bool {
	busy, left := 0, false
	for _, q := range d.parts {
		if q.busy {
			busy++
		}
		left = left || !q.busy && q.start < p.start && q.pos < q.end
	}
	return left && busy == d.workers
}

// opened starts the clock of a part whose answer has come. A server that knows no ranges sends everything: what is not
// planned yet comes on this connection too.
func (d *download) opened(p *part, end int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p.seen, d.heard = mark{time.Now(), p.pos}, true
	d.news.Broadcast()
	if end > p.end && p.end == d.planned {
		d.whole, end = true, min(end, d.size)
		p.end, d.planned = end, end
	}
}

// broke decides what is done about a part whose connection ended before it was there. It is called with the lock held.
func (d *download) broke(ctx context.Context, p *part, err error) {
	if errors.Is(context.Cause(ctx), errSlow) || errors.Is(err, errLate) {
		return // the next connection goes on
	}
	var own *localError
	if errors.As(err, &own) || !errors.Is(err, errdef.ErrUnavailable) {
		d.fail(err)
		return
	}
	if p.pos-p.from >= progressSize {
		p.tries, p.from = 0, p.pos
	}
	most := resumes
	var r *refusal
	if errors.As(err, &r) { // the transport has tried it more than once already
		d.calm, most = true, refusals
	}
	if p.tries++; p.tries > most || r != nil && r.after > longestWait {
		d.fail(err)
		return
	}
	p.after = time.Now().Add(min(d.pause<<(p.tries-1), longestBreak))
}

// tend adds connections while the reader waits, and replaces slow ones.
func (d *download) tend() {
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	last, read := time.Now(), int64(0)
	for {
		select {
		case <-d.ctx.Done():
			return
		case <-tick.C:
		}
		d.mu.Lock()
		now := time.Now()
		hungry := d.starved > now.Sub(last)/2 || d.at == read && d.there() == 0
		last, read, d.starved = now, d.at, 0
		if hungry && d.heard {
			for range d.workers { // twice as many
				d.grow()
			}
		}
		if d.workers == 0 && d.hasWork() {
			d.addWorker()
		}
		d.parts = slices.DeleteFunc(d.parts, func(p *part) bool { return p.pos == p.end && p.end <= d.at })
		for _, p := range d.parts {
			d.judge(p, now)
		}
		done := d.workers == 0 && !d.hasWork()
		d.mu.Unlock()
		if done {
			return
		}
	}
}

func (d *download) grow() {
	if d.workers < d.limit && !d.whole && !d.calm {
		if p, _ := d.next(time.Now()); p != nil {
			d.addWorker()
		}
	}
}

// judge drops the connection of a part that is too slow.
func (d *download) judge(p *part, now time.Time) {
	took := now.Sub(p.seen.at)
	if !p.busy || p.held || took < d.watch.slow {
		return
	}
	speed := float64(p.pos-p.seen.pos) / took.Seconds()
	switch {
	case !d.whole && p.replaced < maxReplaced && speed*slowFactor < d.usual(p, now):
		p.replaced++
		p.drop(errSlow)
	case speed >= leastRate: // a new span begins
		d.rate.add(p, now)
		p.seen = mark{now, p.pos}
	case took >= d.watch.least:
		p.drop(errDrip)
	}
}

// usual is the mean speed of the other connections, in bytes a second; 0 when none is known.
func (d *download) usual(but *part, now time.Time) float64 {
	sum := d.rate
	for _, p := range d.parts {
		if p != but {
			sum.add(p, now)
		}
	}
	return sum.perSecond()
}
