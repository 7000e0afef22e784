package image

import (
	"context"
	"errors"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/errdef"
	"strata/internal/oci"
)

// WithLayers is the manifest of the image with these forms of its layers, and its media type: the image's own where that
// says the same, so that its digest stays, else an OCI manifest.
func (i Image) WithLayers(layers []ocispec.Descriptor) (raw []byte, mediaType string, err error) {
	same := slices.EqualFunc(i.Manifest.Layers, layers, func(a, b ocispec.Descriptor) bool {
		return a.MediaType == b.MediaType && a.Digest == b.Digest && a.Size == b.Size
	})
	if same {
		return i.RawManifest, i.Record.Manifest.MediaType, nil
	}
	described := []ocispec.Descriptor{}
	for _, l := range layers {
		if l.MediaType == oci.DockerLayer { // the same bytes by their name in an OCI manifest
			l.MediaType = ocispec.MediaTypeImageLayerGzip
		}
		described = append(described, l)
	}
	raw, err = oci.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config: ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageConfig, Digest: i.ID, Size: int64(len(i.RawConfig)),
		},
		Layers:      described,
		Annotations: i.Manifest.Annotations,
	})
	return raw, ocispec.MediaTypeImageManifest, err
}

// AddRepoDigest notes that a registry has the image under a name with digest ("docker.io/user/x@sha256:…").
func (s *Store) AddRepoDigest(ctx context.Context, id digest.Digest, name string) error {
	return s.Images.Locked(ctx, id.Encoded(), func() error {
		rec, err := s.Images.Get(id.Encoded())
		if errors.Is(err, errdef.ErrNotFound) {
			return nil // removed meanwhile: there is nothing to note it of
		}
		if err != nil {
			return err
		}
		if slices.Contains(rec.RepoDigests, name) {
			return nil
		}
		rec.RepoDigests = union(rec.RepoDigests, []string{name})
		return s.Images.Put(id.Encoded(), rec)
	})
}

// union is the sorted names of both, each once.
func union(a, b []string) []string {
	all := append(slices.Clone(a), b...)
	slices.Sort(all)
	return slices.Compact(all)
}
