package remote

import (
	"context"
	"errors"
	"fmt"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/errdef"
	"strata/internal/reference"
)

const (
	// inOne is the size up to which a blob comes by one request.
	inOne = 4 << 20
	// readAhead is how many bytes are held that have arrived before their turn, of all blobs together. It has room for two
	// smallest parts of each connection: one may be late while the other ones go on.
	readAhead = 2 * smallestPart * DefaultConnections
)

// Blob opens a blob of ref's repository, and goes on where a connection breaks. A large one comes in ranges as for
// [Client.Spooled], but nothing of it is kept: what arrives before its turn is held in memory, so much of it that the blobs that
// are open hold readAhead together. The reader gives exactly desc.Size bytes in their order or an error; whether they have
// desc.Digest is for its user to verify.
func (c *Client) Blob(ctx context.Context, ref reference.Ref, desc ocispec.Descriptor) (io.ReadCloser, error) {
	return c.BlobRange(ctx, ref, desc, 0, desc.Size)
}

// BlobRange is [Client.Blob] of the bytes [from, to) alone.
func (c *Client) BlobRange(ctx context.Context, ref reference.Ref, desc ocispec.Descriptor, from, to int64) (io.ReadCloser, error) {
	if from < 0 || from > to || to > desc.Size {
		return nil, fmt.Errorf("blob %.80q of %d bytes, from %d to %d: %w", desc.Digest, desc.Size, from, to, errdef.ErrInvalid)
	}
	d, err := c.download(ctx, ref, desc, to-from > inOne)
	if err != nil {
		return nil, err
	}
	d.spool = &window{base: from, size: to, pool: &c.panes, panes: map[int64]*pane{}}
	d.at, d.planned, d.size = from, from, to
	if to-from <= inOne {
		d.least = inOne
	}
	c.ahead.Add(1)
	d.ahead = func() int64 { return max(2*smallestPart, readAhead/int64(c.ahead.Load())) }
	d.closed = func() { c.ahead.Add(-1) }
	d.start()
	if err := d.answered(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}
