package remote

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"strata/internal/errdef"
)

// feed runs a function that writes a blob and hands out what it writes as a reader, from a place on, hashing all of it.
type feed struct {
	out  *io.PipeReader
	in   *io.PipeWriter
	from int64
	hash hash.Hash
	size int64

	done  chan struct{}
	err   error // of the function; valid after done
	cut   bool  // the reader's side ended before the function did
	whole bool
}

var errCut = errors.New("the other side stopped reading")

func startFeed(write func(w io.Writer) error, from int64) *feed {
	f := &feed{from: from, hash: sha256.New(), done: make(chan struct{})}
	f.out, f.in = io.Pipe()
	go func() {
		defer close(f.done)
		f.err = write(f)
		if f.err != nil && !f.cut {
			f.in.CloseWithError(&localError{f.err})
			return
		}
		f.whole = !f.cut
		f.in.Close()
	}()
	return f
}

// Write is what the function writes to.
func (f *feed) Write(p []byte) (int, error) {
	skip := int(min(max(f.from-f.size, 0), int64(len(p))))
	n, err := skip, error(nil)
	if skip < len(p) {
		n, err = f.in.Write(p[skip:])
		n += skip
	}
	f.hash.Write(p[:n])
	f.size += int64(n)
	f.cut = f.cut || err != nil
	return n, err
}

// end waits until the function has returned. When the registry has accepted the upload the function may finish, within
// a time; else it is cut short. The error is the function's own.
func (f *feed) end(ctx context.Context, accepted bool) error {
	if accepted {
		late := time.NewTimer(lagTime)
		defer late.Stop()
		select {
		case <-f.done:
		case <-late.C:
		case <-ctx.Done():
		}
	}
	f.out.CloseWithError(errCut)
	<-f.done
	if f.err != nil && !f.cut {
		return f.err
	}
	return nil
}

// localReader gives a blob's bytes to an upload. It tells failures of ours from those of the connection.
type localReader struct {
	io.ReadCloser
	blob     string
	at, size int64
}

// skip passes over the first n bytes.
func (r *localReader) skip(n int64) error {
	s, ok := r.ReadCloser.(Skipper)
	if !ok || n == 0 {
		_, err := io.CopyN(io.Discard, r, n)
		return err
	}
	if err := s.Skip(n); err != nil {
		return &localError{err}
	}
	r.at = n
	return nil
}

func (r *localReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.at += int64(n)
	switch {
	case err != nil && err != io.EOF:
		return n, &localError{err}
	case r.at > r.size, err == io.EOF && r.at < r.size:
		return n, &localError{fmt.Errorf("blob %s: it has %d bytes here, not %d: %w", r.blob, r.at, r.size, errdef.ErrCorrupt)}
	}
	return n, err
}
