package archive

import (
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
	// maxNesting bounds indexes within indexes, maxManifests what one load looks at beside its plan.
	maxNesting   = 4
	maxManifests = 1000
)

// planLayout plans the images of an OCI layout: each manifest that its index names, and of each index in it the one for
// the platform.
func planLayout(src source, p oci.Platform) ([]plannedImage, error) {
	top, err := readIndex(src, indexName, "")
	if err != nil {
		return nil, err
	}
	var images []plannedImage
	at := map[digest.Digest]int{}
	left := maxPlan
	for _, desc := range choose(top.Manifests, p) {
		name := annotatedName(desc)
		if desc, err = forPlatform(src, desc, p, 0); err != nil {
			return nil, err
		}
		i, seen := at[desc.Digest]
		if !seen {
			img, err := planManifest(src, desc)
			if err == nil {
				err = img.roomFor(&left)
			}
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
	if err := oci.CheckConfigType(m.Config.MediaType); err != nil {
		return img, err
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
	x, err := oci.ParseIndex(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return x, nil
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

// choose drops what is no image, and images for other platforms where there is one of the same name for this.
func choose(all []ocispec.Descriptor, p oci.Platform) []ocispec.Descriptor {
	images := oci.Images(all)
	native := map[string]bool{}
	for _, d := range images {
		native[annotatedName(d)] = native[annotatedName(d)] || d.Platform != nil && isFor(*d.Platform, p)
	}
	return slices.DeleteFunc(images, func(d ocispec.Descriptor) bool {
		return native[annotatedName(d)] && d.Platform != nil && !isFor(*d.Platform, p)
	})
}

func isFor(p, want oci.Platform) bool {
	return p.OS == want.OS && p.Architecture == want.Architecture &&
		(p.Variant == "" || want.Variant == "" || p.Variant == want.Variant)
}

// forPlatform gives the manifest that d stands for on a platform: d itself, or one in the index that d is.
func forPlatform(src source, d ocispec.Descriptor, p oci.Platform, depth int) (ocispec.Descriptor, error) {
	if !oci.IsIndex(d.MediaType) {
		return d, nil
	}
	if depth == maxNesting {
		return d, fmt.Errorf("index %s: more than %d indexes within each other: %w", d.Digest, maxNesting, errdef.ErrLimit)
	}
	x, err := readIndex(src, blobName(d.Digest), d.Digest)
	if err != nil {
		return d, err
	}
	// A lone image is what the archive was made for, whatever it says of itself.
	if images := oci.Images(x.Manifests); len(images) == 1 {
		return forPlatform(src, images[0], p, depth+1)
	}
	chosen, err := oci.Choose(x.Manifests, p)
	if err != nil {
		return d, fmt.Errorf("index %s: %w", d.Digest, err)
	}
	return forPlatform(src, chosen, p, depth+1)
}

// manifestsByConfig finds the OCI manifests that a docker archive has beside its own documents. They are an addition:
// what is wrong with them only makes them useless.
func manifestsByConfig(src source) map[digest.Digest][]byte {
	found := map[digest.Digest][]byte{}
	left, room := maxManifests, maxPlan
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
			if oci.IsIndex(d.MediaType) {
				if depth < maxNesting {
					walk(blobName(d.Digest), d.Digest, depth+1)
				}
				continue
			}
			raw, err := document(src, blobName(d.Digest), oci.MaxManifest, d.Digest)
			if err != nil {
				continue
			}
			if room -= len(raw); room < 0 {
				return
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
