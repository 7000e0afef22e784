package ship

import (
	"context"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/oci"
	"strata/internal/reference"
	"strata/internal/remote"
)

// Repository is an image in a registry, as a source and as a target.
type Repository struct {
	client *remote.Client
	ref    reference.Ref
	from   reference.Ref // a repository that may have the blobs; its Domain is "" if none is known

	attach sync.Mutex // one list of referrers is changed at a time
}

// NewRepository is the image that ref names: by its digest, else its tag. A ref without either can be written to, under
// the digest of what is written.
func NewRepository(c *remote.Client, ref reference.Ref) *Repository {
	return &Repository{client: c, ref: ref}
}

// Near tells that the repository of from has the blobs: where it is in the same registry they need not be sent.
func (r *Repository) Near(from reference.Ref) *Repository {
	if from.Domain == r.ref.Domain && from.Path != r.ref.Path {
		r.from = from
	}
	return r
}

// Document gives a manifest or index of the repository.
func (r *Repository) Document(ctx context.Context, desc ocispec.Descriptor) (oci.Document, error) {
	if desc.Digest == "" {
		return r.client.Any(ctx, r.ref)
	}
	return r.client.Any(ctx, r.ref.WithDigest(desc.Digest))
}

// Blob opens a blob of the repository.
func (r *Repository) Blob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	return r.client.Blob(ctx, r.ref, desc)
}

// BlobRange opens a part of a blob.
func (r *Repository) BlobRange(ctx context.Context, desc ocispec.Descriptor, from, to int64) (io.ReadCloser, error) {
	return r.client.BlobRange(ctx, r.ref, desc, from, to)
}

// Referrers lists what the registry says is about d.
func (r *Repository) Referrers(ctx context.Context, d digest.Digest) ([]ocispec.Descriptor, error) {
	return r.client.Referrers(ctx, r.ref, d)
}

// HasDocument asks the registry.
func (r *Repository) HasDocument(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	return r.client.HasManifest(ctx, r.ref.WithDigest(desc.Digest))
}

// HasBlob asks the registry, and where it is the source's too, has it take the blob over.
func (r *Repository) HasBlob(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	there, err := r.client.HasBlob(ctx, r.ref, desc.Digest)
	if there || err != nil || r.from.Domain == "" {
		return there, err
	}
	return r.client.MountBlob(ctx, r.ref, r.from.Path, desc.Digest)
}

// PutBlob uploads a blob.
func (r *Repository) PutBlob(ctx context.Context, desc ocispec.Descriptor, open func() (io.ReadCloser, error)) error {
	return r.client.PutBlob(ctx, r.ref, desc, open)
}

// PutStream uploads a blob whose digest shows at its end.
func (r *Repository) PutStream(ctx context.Context, write func(w io.Writer) error) (digest.Digest, int64, error) {
	return r.client.StreamBlob(ctx, r.ref, write)
}

// PutDocument uploads a document: the root under the tag, others under their digest. What is about another document is
// listed as such.
func (r *Repository) PutDocument(ctx context.Context, doc oci.Document, role oci.Role) error {
	ref := r.ref.Repository()
	if role == oci.Root {
		ref.Tag = r.ref.Tag
	}
	if _, err := r.client.PutManifest(ctx, ref, doc.Descriptor.MediaType, doc.Raw); err != nil {
		return err
	}
	links, err := oci.ParseLinks(doc.Raw)
	if err != nil || links.Subject.Digest == "" {
		return err
	}
	desc := doc.Descriptor
	desc.ArtifactType, desc.Annotations = links.ArtifactType, links.Annotations
	r.attach.Lock()
	defer r.attach.Unlock()
	return r.client.Attach(ctx, r.ref, links.Subject.Digest, desc)
}
