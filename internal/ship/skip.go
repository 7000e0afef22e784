package ship

import (
	"encoding"
	"fmt"
	"io"

	"strata/internal/errdef"
)

// placeEvery is how many bytes lie between two places.
const placeEvery = 1 << 20

// places remembers what the hash of a blob was at places up to which it has been read: whoever reads on from there can verify the
// whole. A place takes about a hundred bytes.
type places struct{ all []place }

type place struct {
	at   int64
	hash []byte // as it marshals itself
}

// note adds the place where v is, unless one is near.
func (p *places) note(v *verified) {
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
	for _, known := range p.all {
		if known.at <= at {
			found = known
		}
	}
	return found
}

// skipping is a verified reader that opens its blob when it is first read, so that it can begin where an earlier one ended.
type skipping struct {
	*verified
	known *places
	open  func(at int64) (io.ReadCloser, error)
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
	if s.r == nil {
		if s.r, err = s.open(s.at); err != nil {
			return 0, err
		}
	}
	n, err = s.verified.Read(p)
	if err == nil {
		s.known.note(s.verified)
	}
	return n, err
}

func (s *skipping) Close() error {
	if s.r == nil {
		return nil
	}
	return s.verified.Close()
}
