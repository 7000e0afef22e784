package layer

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"strata/internal/errdef"
	"strata/internal/oci"
)

// BlobTaker takes layers and notes of their compressed forms: *Store is one.
type BlobTaker interface {
	Ingest(ctx context.Context, tar io.Reader, want oci.DiffID) (Meta, error)
	AddBlob(ctx context.Context, id oci.DiffID, b Blob) error
}

// BlobKeeper is a [BlobTaker] that keeps compressed blobs, too.
type BlobKeeper interface {
	BlobTaker
	// Keep begins to keep the blob b of the layer id, if it is one to be kept.
	Keep(id oci.DiffID, b Blob) BlobSink
}

// BlobSink takes the bytes of one blob as they go by. What it cannot keep, for want of space perhaps, it lets go: that is no
// failure of the layer. Close it.
type BlobSink interface {
	io.WriteCloser
	// Restart forgets what was written: the same bytes come again.
	Restart()
	// Done says that the bytes are verified to be b. Without it nothing is kept.
	Done(ctx context.Context, b Blob)
}

// IngestBlob makes the layer want of its blob, compressed or not, in one pass: hash, decompress, hash, store. b.Digest is
// the digest that the blob must have; "" for bytes that have no name of their own, such as a member of a docker archive.
// Bytes that are not that blob, or decompress to another layer, are errdef.ErrCorrupt and leave nothing. A compressed
// blob is noted as a form of the layer, and kept where s is a [BlobKeeper] that wants it.
func IngestBlob(ctx context.Context, s BlobTaker, r io.Reader, b Blob, want oci.DiffID) (Meta, error) {
	// An uncompressed blob's digest is the diffID, which Ingest checks.
	compressed := b.Digest != "" && b.Digest != digest.Digest(want)
	if !compressed {
		return ingestStream(ctx, s, r, want)
	}
	if k, ok := s.(BlobKeeper); ok {
		sink := k.Keep(want, b)
		defer sink.Close()
		meta, err := ingestCompressed(ctx, s, io.TeeReader(r, sink), b, want)
		if err == nil {
			sink.Done(ctx, b)
		}
		return meta, err
	}
	return ingestCompressed(ctx, s, r, b, want)
}

// ingestCompressed is IngestBlob of what is not the tar itself.
func ingestCompressed(ctx context.Context, s BlobTaker, r io.Reader, b Blob, want oci.DiffID) (Meta, error) {
	in := newTee(ctx, r) // beside the inflating, which takes most of the time
	defer in.close()
	meta, err := ingestStream(ctx, s, in, want)
	if ctx.Err() != nil {
		return meta, err
	}
	// After a failure too: that the blob is not the one that was meant says more than what is wrong inside it.
	if _, e := in.skip(1<<62, nil); e != nil {
		return Meta{}, errors.Join(err, e)
	}
	if got := digest.Digest(in.sum()); got != b.Digest {
		return Meta{}, fmt.Errorf("blob %s: its bytes have digest %s: %w", b.Digest, got, errdef.ErrCorrupt)
	}
	if err != nil {
		return Meta{}, err
	}
	return meta, s.AddBlob(ctx, want, b)
}

func ingestStream(ctx context.Context, s BlobTaker, r io.Reader, want oci.DiffID) (Meta, error) {
	tar, _, err := Decompress(r)
	if err != nil {
		return Meta{}, err
	}
	meta, err := s.Ingest(ctx, tar, want)
	return meta, errors.Join(err, tar.Close())
}
