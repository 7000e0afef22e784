package archive

import (
	"context"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/layer"
	"strata/internal/oci"
)

// layer writes a layer once and gives its descriptor.
func (s *saver) layer(ctx context.Context, id oci.DiffID) (ocispec.Descriptor, error) {
	if desc, ok := s.written[id]; ok {
		return desc, nil
	}
	tar, err := s.layers.Tar(ctx, id)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer tar.Close()
	var desc ocispec.Descriptor
	if suffix := layer.MediaSuffix(s.compression); suffix == "" {
		desc, err = s.plain(ctx, id, tar)
	} else {
		desc, err = s.compressed(ctx, id, tar)
	}
	if err == nil {
		s.written[id] = desc
	}
	return desc, err
}

// plain streams the tar as it is: size and digest are known.
func (s *saver) plain(ctx context.Context, id oci.DiffID, tar io.Reader) (ocispec.Descriptor, error) {
	meta, err := s.layers.Stat(id)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.Digest(id), Size: meta.Size}
	return desc, s.out.copy(blobName(desc.Digest), meta.Size, layer.Verified(ctx, tar, id))
}

// compressed goes through a temporary file, for the digest names the member and the size stands before it.
func (s *saver) compressed(ctx context.Context, id oci.DiffID, tar io.Reader) (ocispec.Descriptor, error) {
	dir, err := s.o.TempDir()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	tmp, err := os.CreateTemp(dir, "save-*")
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	hash := digest.SHA256.Hash()
	z, err := layer.Compress(io.MultiWriter(tmp, hash), s.compression, s.o.Level, 1)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if _, err := io.Copy(z, layer.Verified(ctx, tar, id)); err != nil {
		z.Close()
		return ocispec.Descriptor{}, err
	}
	if err := z.Close(); err != nil {
		return ocispec.Descriptor{}, err
	}
	size, err := tmp.Seek(0, io.SeekCurrent)
	if err == nil {
		_, err = tmp.Seek(0, io.SeekStart)
	}
	desc := ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageLayer + layer.MediaSuffix(s.compression),
		Digest:    digest.NewDigest(digest.SHA256, hash),
		Size:      size,
	}
	if err != nil {
		return desc, err
	}
	return desc, s.out.copy(blobName(desc.Digest), size, tmp)
}
