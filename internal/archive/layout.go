package archive

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/errdef"
	"strata/internal/oci"
)

const (
	// imageNameAnnotation is containerd's and BuildKit's: the full name of an image in index.json.
	imageNameAnnotation = "io.containerd.image.name"
	// referenceTypeAnnotation marks what is about an image and not one: an attestation.
	referenceTypeAnnotation = "vnd.docker.reference.type"

	dockerListType   = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerConfigType = "application/vnd.docker.container.image.v1+json"

	// maxNesting bounds indexes within indexes, maxManifests what one load looks at.
	maxNesting   = 4
	maxManifests = 1000
)

// planLayout plans the images of an OCI layout: each manifest that its index names, and of each index in it the one for
// this machine.
func planLayout(src source) ([]plannedImage, error) {
	top, err := readIndex(src, indexName, "")
	if err != nil {
		return nil, err
	}
	var images []plannedImage
	at := map[digest.Digest]int{}
	for _, desc := range choose(top.Manifests) {
		name := annotatedName(desc)
		if desc, err = forHost(src, desc, 0); err != nil {
			return nil, err
		}
		i, seen := at[desc.Digest]
		if !seen {
			img, err := planManifest(src, desc)
			if err != nil {
				return nil, fmt.Errorf("manifest %s: %w", desc.Digest, err)
			}
			i, at[desc.Digest] = len(images), len(images)
			images = append(images, img)
		}
		if name != "" {
			if err := images[i].setNames([]string{name}); err != nil {
				return nil, err
			}
		}
	}
	if len(images) == 0 {
		return nil, fmt.Errorf("%s: it names no image: %w", indexName, errdef.ErrInvalid)
	}
	return images, nil
}

// planManifest plans one image by its manifest.
func planManifest(src source, desc ocispec.Descriptor) (plannedImage, error) {
	var img plannedImage
	raw, err := document(src, blobName(desc.Digest), oci.MaxManifest, desc.Digest)
	if err != nil {
		return img, err
	}
	m, err := oci.ParseManifest(raw)
	if err != nil {
		return img, err
	}
	switch m.Config.MediaType {
	case ocispec.MediaTypeImageConfig, dockerConfigType, "":
	default:
		return img, fmt.Errorf("not an image but an artifact of type %.100q: %w", m.Config.MediaType, errdef.ErrUnsupported)
	}
	if err := img.readConfig(src, blobName(m.Config.Digest), m.Config.Digest); err != nil {
		return img, err
	}
	return img, img.layersOf(src, raw)
}

func readIndex(src source, name string, want digest.Digest) (*ocispec.Index, error) {
	raw, err := document(src, name, oci.MaxManifest, want)
	if err != nil {
		return nil, err
	}
	var x ocispec.Index
	if err := json.Unmarshal(raw, &x); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", name, errdef.ErrInvalid, err)
	}
	if len(x.Manifests) > maxManifests {
		return nil, fmt.Errorf("%s: %d manifests (at most %d): %w", name, len(x.Manifests), maxManifests, errdef.ErrLimit)
	}
	for _, d := range x.Manifests {
		if _, err := oci.ParseDigest(string(d.Digest)); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return &x, nil
}

// annotatedName is the name that index.json gives a manifest, or "". The OCI annotation may be a tag only, from which no
// name follows.
func annotatedName(d ocispec.Descriptor) string {
	if name := d.Annotations[imageNameAnnotation]; name != "" {
		return name
	}
	if name := d.Annotations[ocispec.AnnotationRefName]; strings.ContainsAny(name, ":/") {
		return name
	}
	return ""
}

// choose drops what is no image, and images for other machines where there is one of the same name for this.
func choose(all []ocispec.Descriptor) []ocispec.Descriptor {
	images := slices.DeleteFunc(slices.Clone(all), func(d ocispec.Descriptor) bool {
		return d.Annotations[referenceTypeAnnotation] != "" || d.Platform != nil && d.Platform.OS == "unknown"
	})
	native := map[string]bool{}
	for _, d := range images {
		native[annotatedName(d)] = native[annotatedName(d)] || d.Platform != nil && isHost(*d.Platform)
	}
	return slices.DeleteFunc(images, func(d ocispec.Descriptor) bool {
		return native[annotatedName(d)] && d.Platform != nil && !isHost(*d.Platform)
	})
}

func isHost(p oci.Platform) bool {
	host := oci.Host()
	return p.OS == host.OS && p.Architecture == host.Architecture &&
		(p.Variant == "" || host.Variant == "" || p.Variant == host.Variant)
}

func isIndex(d ocispec.Descriptor) bool {
	return d.MediaType == ocispec.MediaTypeImageIndex || d.MediaType == dockerListType
}

// forHost gives the manifest that d stands for on this machine: d itself, or one in the index that d is.
func forHost(src source, d ocispec.Descriptor, depth int) (ocispec.Descriptor, error) {
	if !isIndex(d) {
		return d, nil
	}
	if depth == maxNesting {
		return d, fmt.Errorf("index %s: more than %d indexes within each other: %w", d.Digest, maxNesting, errdef.ErrLimit)
	}
	x, err := readIndex(src, blobName(d.Digest), d.Digest)
	if err != nil {
		return d, err
	}
	images := choose(x.Manifests)
	native := slices.IndexFunc(images, func(d ocispec.Descriptor) bool { return d.Platform != nil && isHost(*d.Platform) })
	switch {
	case native >= 0:
		return forHost(src, images[native], depth+1)
	case len(images) == 1:
		return forHost(src, images[0], depth+1)
	}
	return d, fmt.Errorf("index %s: no image for %s; it has %s: %w", d.Digest, oci.Format(oci.Host()), platforms(images), errdef.ErrUnsupported)
}

func platforms(images []ocispec.Descriptor) string {
	var list []string
	for _, d := range images {
		if d.Platform != nil {
			list = append(list, oci.Format(*d.Platform))
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

// manifestsByConfig finds the OCI manifests that a docker archive has beside its own documents. They are an addition:
// what is wrong with them only makes them useless.
func manifestsByConfig(src source) map[digest.Digest][]byte {
	found := map[digest.Digest][]byte{}
	left := maxManifests
	var walk func(name string, want digest.Digest, depth int)
	walk = func(name string, want digest.Digest, depth int) {
		x, err := readIndex(src, name, want)
		if err != nil {
			return
		}
		for _, d := range x.Manifests {
			if left--; left < 0 {
				return
			}
			if isIndex(d) {
				if depth < maxNesting {
					walk(blobName(d.Digest), d.Digest, depth+1)
				}
				continue
			}
			raw, err := document(src, blobName(d.Digest), oci.MaxManifest, d.Digest)
			if err != nil {
				continue
			}
			if m, err := oci.ParseManifest(raw); err == nil {
				found[m.Config.Digest] = raw
			}
		}
	}
	if has(src, layoutName) {
		walk(indexName, "", 0)
	}
	return found
}
