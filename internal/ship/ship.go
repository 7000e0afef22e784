package ship

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/oci"
	"strata/internal/progress"
)

// Source is a place to read one image from.
type Source interface {
	// Document gives a manifest or index, of any kind. The zero descriptor is the root.
	Document(ctx context.Context, desc ocispec.Descriptor) (oci.Document, error)
	// Blob opens a blob from its start.
	Blob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
	// Referrers lists the documents about the one with digest d. None is no error.
	Referrers(ctx context.Context, d digest.Digest) ([]ocispec.Descriptor, error)
}

// Ranger is a source that can open the bytes [from, to) of a blob.
type Ranger interface {
	BlobRange(ctx context.Context, desc ocispec.Descriptor, from, to int64) (io.ReadCloser, error)
}

// Target is a place to write one image to. Its methods are safe for concurrent use.
type Target interface {
	// HasDocument and HasBlob report whether the target has it, with all that it leads to. No is always a right answer.
	HasDocument(ctx context.Context, desc ocispec.Descriptor) (bool, error)
	HasBlob(ctx context.Context, desc ocispec.Descriptor) (bool, error)
	// PutBlob writes a blob. open may be called again; what it gives is verified when it is read to its end, and may be a
	// [remote.Skipper].
	PutBlob(ctx context.Context, desc ocispec.Descriptor, open func() (io.ReadCloser, error)) error
	// PutDocument writes a document whose parts are there.
	PutDocument(ctx context.Context, doc oci.Document, role oci.Role) error
}

// Compressor is a target that takes a blob whose digest is known at its end only.
type Compressor interface {
	PutStream(ctx context.Context, write func(w io.Writer) error) (digest.Digest, int64, error)
}

// Options of a copy. The zero value copies all platforms and no referrers.
type Options struct {
	// Platform copies the image for it alone, out of an index; nil copies all.
	Platform *oci.Platform
	// Digest that the root must have; "" is any.
	Digest digest.Digest
	// Strict refuses a lone image that is for another platform than that.
	Strict bool
	// Referrers copies them too, and theirs.
	Referrers bool
	// Compression of layers that are not compressed: layer.Gzip or layer.Zstd, where the target is a [Compressor]. It
	// changes the image's digest. "" leaves them as they are.
	Compression string
	// Serial writes one thing after the other, always in the same order.
	Serial bool
	// Sink takes progress; nil discards it.
	Sink progress.Sink
}

// Result says what was copied.
type Result struct {
	// Root is what the target's name stands for now.
	Root ocispec.Descriptor
	// Documents, Blobs and Referrers count what was looked at; Sent counts blobs that the target did not have, and Bytes
	// theirs.
	Documents, Blobs, Referrers, Sent int
	Bytes                             int64
}
