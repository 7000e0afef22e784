package oci

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/errdef"
)

// Docker's media types of what the OCI has its own for: distribution's manifest-v2-2.md.
const (
	DockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	DockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	DockerConfig   = "application/vnd.docker.container.image.v1+json"
	DockerLayer    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

// maxManifests bounds the manifests of one index.
const maxManifests = 1000

// referenceTypeAnnotation marks what is about an image and not one: an attestation.
const referenceTypeAnnotation = "vnd.docker.reference.type"

// IsIndex reports whether a media type is that of an index, docker's "manifest list" included.
func IsIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == DockerIndex
}

// CheckConfigType says whether a manifest's config is that of an image; anything else is an artifact:
// errdef.ErrUnsupported.
func CheckConfigType(mediaType string) error {
	switch mediaType {
	case ocispec.MediaTypeImageConfig, DockerConfig, "":
		return nil
	}
	return fmt.Errorf("not an image but an artifact of type %.100q: %w", mediaType, errdef.ErrUnsupported)
}

// ParseIndex decodes and checks an index or manifest list.
func ParseIndex(raw []byte) (*ocispec.Index, error) {
	if len(raw) > MaxManifest {
		return nil, fmt.Errorf("index of %d bytes (at most %d): %w", len(raw), MaxManifest, errdef.ErrLimit)
	}
	var x struct {
		ocispec.Index
		Config json.RawMessage `json:"config"`
		Layers json.RawMessage `json:"layers"`
	}
	if err := json.Unmarshal(raw, &x); err != nil {
		return nil, fmt.Errorf("index: %w: %w", errdef.ErrInvalid, err)
	}
	if said(x.Config) || said(x.Layers) {
		return nil, errBoth
	}
	if len(x.Manifests) > maxManifests {
		return nil, fmt.Errorf("index: %d manifests (at most %d): %w", len(x.Manifests), maxManifests, errdef.ErrLimit)
	}
	for _, d := range x.Manifests {
		if _, err := ParseDigest(string(d.Digest)); err != nil {
			return nil, fmt.Errorf("index: %w", err)
		}
		if d.Size < 0 {
			return nil, fmt.Errorf("index: %s has size %d: %w", d.Digest, d.Size, errdef.ErrInvalid)
		}
	}
	return &x.Index, nil
}

// Images are the descriptors of an index that are images: attestations, other artifacts and the like left out.
func Images(all []ocispec.Descriptor) []ocispec.Descriptor {
	return slices.DeleteFunc(slices.Clone(all), func(d ocispec.Descriptor) bool {
		return d.ArtifactType != "" || d.Annotations[referenceTypeAnnotation] != "" || d.Platform != nil && d.Platform.OS == "unknown"
	})
}

// Choose gives the image for a platform, or the best of those that run on it; one that does not say what it is for is
// taken when it is the only one. errdef.ErrUnsupported, with the platforms that there are, when none does.
func Choose(all []ocispec.Descriptor, want Platform) (ocispec.Descriptor, error) {
	images := Images(all)
	match := platforms.Only(want)
	var best *ocispec.Descriptor
	for i := range images {
		p := images[i].Platform
		if p != nil && match.Match(*p) && (best == nil || match.Less(*p, *best.Platform)) {
			best = &images[i]
		}
	}
	if best == nil && len(images) == 1 && images[0].Platform == nil {
		best = &images[0]
	}
	if best == nil {
		return ocispec.Descriptor{}, fmt.Errorf("no image for %s; there is %s: %w", Format(want), listPlatforms(images), errdef.ErrUnsupported)
	}
	return *best, nil
}

// listPlatforms names at most ten.
func listPlatforms(images []ocispec.Descriptor) string {
	var list []string
	for _, d := range images {
		if d.Platform != nil {
			list = append(list, fmt.Sprintf("%.60s", Format(*d.Platform)))
		}
	}
	if list == nil {
		return "none that says for what machine it is"
	}
	if len(list) > 10 {
		list = append(list[:10], "…")
	}
	return strings.Join(list, ", ")
}
