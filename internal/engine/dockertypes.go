package engine

import (
	"fmt"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/errdef"
	"strata/internal/oci"
)

// dockerLayers is what docker's media types of layers begin with.
const dockerLayers = "application/vnd.docker.image.rootfs.diff.tar"

// dockerManifest writes an OCI manifest with docker's media types (distribution's manifest-v2-2.md), which have no
// annotations: those that say what the base was are left out.
func dockerManifest(raw []byte) ([]byte, error) {
	m, err := oci.ParseManifest(raw)
	if err != nil {
		return nil, err
	}
	m.MediaType, m.Config.MediaType, m.Annotations = oci.DockerManifest, oci.DockerConfig, nil
	for i := range m.Layers {
		l := &m.Layers[i]
		if suffix, ok := strings.CutPrefix(l.MediaType, ocispec.MediaTypeImageLayer); ok {
			l.MediaType = dockerLayers + strings.Replace(suffix, "+", ".", 1)
		}
	}
	return oci.Marshal(m)
}

// dockerIndex writes an index as docker's manifest list.
func dockerIndex(raw []byte) ([]byte, error) {
	x, err := oci.ParseIndex(raw)
	if err != nil {
		return nil, err
	}
	if len(x.Annotations) > 0 {
		return nil, fmt.Errorf("annotations of an index with oci-mediatypes=false: %w", errdef.ErrUnsupported)
	}
	x.MediaType = oci.DockerIndex
	return oci.Marshal(x)
}
