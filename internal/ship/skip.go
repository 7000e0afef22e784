package ship

import (
	"encoding"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"strata/internal/errdef"
)

// placeEvery is how many bytes lie between two places.
const placeEvery = 1 << 20

// places remembers what the hash of a blob was at places up to which it has been read: whoever reads on from there can verify the
// whole. A place takes about a hundred bytes. It also keeps the reader that was left when an upload broke, and what that one has
// fetched ahead.
type places struct {
	mu   sync.Mutex
	all  []place
	left io.ReadCloser // nil: none
	at   int64         // where it is
	over bool          // nobody reads on
	lost error         // why the source does not give the blob: it has been asked often enough
}

type place struct {
	at   int64
	hash []byte // as it marshals itself
}

// note adds the place where v is, unless one is near.
func (p *places) note(v *verified) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.all); n > 0 && v.at < p.all[n-1].at+placeEvery || v.at < placeEvery {
		return
	}
	if m, ok := v.hash.(encoding.BinaryMarshaler); ok {
		if raw, err := m.MarshalBinary(); err == nil {
			p.all = append(p.all, place{v.at, raw})
		}
	}
}

// last is the last place at or before a byte; the zero place is the start.
func (p *places) last(at int64) (found place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, known := range p.all {
		if known.at <= at {
			found = known
		}
	}
	return found
}

// keep takes a reader that is at byte at, in the place of one that it had.
func (p *places) keep(r io.ReadCloser, at int64) error {
	p.mu.Lock()
	old := p.left
	p.left, p.at = r, at
	if p.over {
		p.left, old = nil, r
	}
	p.mu.Unlock()
	if old == nil {
		return nil
	}
	return old.Close()
}

// lose notes why the source does not give the blob.
func (p *places) lose(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost = err
}

func (p *places) loss() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

// close ends what was left.
func (p *places) close() {
	p.mu.Lock()
	p.over = true
	left := p.left
	p.left = nil
	p.mu.Unlock()
	if left != nil {
		left.Close()
	}
}

// from gives a blob of size bytes from byte at on: only what the reader that was left is past is opened anew.
func (p *places) from(at, size int64, open func(from, to int64) (io.ReadCloser, error)) (io.ReadCloser, error) {
	p.mu.Lock()
	left, begin := p.left, p.at
	p.left = nil
	p.mu.Unlock()
	switch {
	case left == nil:
		return open(at, size)
	case at == begin:
		return left, nil
	case at > begin:
		left.Close()
		return open(at, size)
	}
	again, err := open(at, begin)
	if err != nil {
		return nil, errors.Join(err, left.Close())
	}
	return &sequel{io.MultiReader(again, left), again, left}, nil
}

// sequel reads one thing after the other.
type sequel struct {
	io.Reader
	first, second io.Closer
}

func (s *sequel) Close() error { return errors.Join(s.first.Close(), s.second.Close()) }

// skipping is a verified reader that opens its blob when it is first read, so that it can begin where an earlier one ended.
type skipping struct {
	*verified
	known *places
	open  func(from, to int64) (io.ReadCloser, error)

	mu    sync.Mutex // Close may be called while Read waits
	ended error      // what Read gives from now on
}

// Skip goes to byte n, by way of the last place before it.
func (s *skipping) Skip(n int64) (err error) {
	begin := s.known.last(n)
	if begin.at > 0 {
		m, ok := s.hash.(encoding.BinaryUnmarshaler)
		if !ok {
			return fmt.Errorf("blob %s: its hash cannot go on: %w", s.desc.Digest, errdef.ErrUnsupported)
		}
		if err := m.UnmarshalBinary(begin.hash); err != nil {
			return err
		}
		s.at = begin.at
	}
	_, err = io.CopyN(io.Discard, s, n-begin.at)
	return err
}

func (s *skipping) Read(p []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return 0, s.ended
	}
	if s.r == nil {
		if s.r, err = s.known.from(s.at, s.desc.Size, s.open); err != nil {
			return 0, s.end(err)
		}
	}
	if n, err = s.verified.Read(p); err != nil {
		return n, s.end(err)
	}
	s.known.note(s.verified)
	return n, nil
}

// end is what Read gives from now on.
func (s *skipping) end(err error) error {
	if s.ended = err; err != io.EOF {
		s.known.lose(err)
	}
	return err
}

// Close leaves what follows to the next reader.
func (s *skipping) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ended := s.r, s.ended
	s.r, s.ended = nil, os.ErrClosed
	switch {
	case r == nil:
		return nil
	case ended != nil:
		return r.Close()
	}
	return s.known.keep(r, s.at)
}
