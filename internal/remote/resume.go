package remote

import (
	"context"
	"errors"
	"io"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/errdef"
	"strata/internal/reference"
)

// Whole opens a blob as [Client.Blob] does, and goes on where the connection broke.
func (c *Client) Whole(ctx context.Context, ref reference.Ref, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	body, err := c.Blob(ctx, ref, desc, offset)
	if err != nil {
		return nil, err
	}
	reopen := func(at int64) (io.ReadCloser, error) { return c.Blob(ctx, ref, desc, at) }
	return &resumer{ctx: ctx, body: body, reopen: reopen, at: offset, pause: c.pause}, nil
}

// resumer reads on from a new connection when one breaks.
type resumer struct {
	ctx    context.Context //nolint:containedctx // of the one transfer that this is
	body   io.ReadCloser
	reopen func(at int64) (io.ReadCloser, error)
	at     int64
	tries  int // since the last byte
	pause  time.Duration
}

func (r *resumer) Read(p []byte) (int, error) {
	for {
		n, err := r.body.Read(p)
		r.at += int64(n)
		if n > 0 {
			r.tries = 0
		}
		if err == nil || err == io.EOF || !errors.Is(err, errdef.ErrUnavailable) || r.ctx.Err() != nil {
			return n, err
		}
		if n > 0 {
			return n, nil // what broke says so again
		}
		if err := r.again(err); err != nil {
			return 0, err
		}
	}
}

// again opens the rest of the blob, or gives the error that broke it.
func (r *resumer) again(broke error) error {
	for r.tries < resumes {
		r.tries++
		select {
		case <-r.ctx.Done():
			return broke
		case <-time.After(min(r.pause<<(r.tries-1), longestBreak)):
		}
		body, err := r.reopen(r.at)
		if err != nil {
			continue
		}
		r.body.Close()
		r.body = body
		return nil
	}
	return broke
}

func (r *resumer) Close() error { return r.body.Close() }
