package archive

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/errdef"
	"strata/internal/layer"
	"strata/internal/oci"
	"strata/internal/reference"
)

// plannedImage is one image of an archive, its documents read and checked.
type plannedImage struct {
	names       []string // full, with tags
	config      *oci.Image
	rawConfig   []byte
	rawManifest []byte // nil when the archive has none
	layers      []plannedLayer
}

// plannedLayer says where the bytes of a layer are.
type plannedLayer struct {
	diffID oci.DiffID
	member string
	// blob describes the member where a manifest does; else its Digest is "".
	blob layer.Blob
}

// dockerManifest is one entry of a docker archive's manifest.json.
type dockerManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// maxPlan bounds the documents of a plan, in bytes: thousands of images in an archive can have one large config.
const maxPlan = 64 << 20

// roomFor takes the documents of one more image from what is left of [maxPlan].
func (img *plannedImage) roomFor(left *int) error {
	if *left -= len(img.rawConfig) + len(img.rawManifest); *left < 0 {
		return fmt.Errorf("archive: its configs and manifests have more than %d bytes: %w", maxPlan, errdef.ErrLimit)
	}
	return nil
}

const (
	dockerManifestName = "manifest.json"
	indexName          = "index.json"
	layoutName         = "oci-layout"
)

// plan reads the documents of an archive of either form, of docker's where it is both.
// Asked for a platform, it takes that one or none.
func plan(src source, want oci.Platform) ([]plannedImage, error) {
	if want.OS != "" {
		return planStrict(src, want)
	}
	switch {
	case has(src, dockerManifestName):
		return planDocker(src)
	case has(src, indexName):
		return planLayout(src, oci.Host())
	}
	err := fmt.Errorf("archive: neither a docker archive (no %s) nor an OCI layout (no %s): %w", dockerManifestName, indexName, errdef.ErrInvalid)
	return nil, errdef.WithHint(err, "`strata import` makes an image of the tar of a root file system")
}

// planStrict plans the images for one platform. The documents of docker's form have one platform of each image; a layout
// beside them may have more.
func planStrict(src source, want oci.Platform) ([]plannedImage, error) {
	find := planDocker
	if has(src, indexName) {
		find = func(src source) ([]plannedImage, error) { return planLayout(src, want) }
	}
	images, err := find(src)
	for _, img := range images {
		if !oci.Runs(want, img.config) {
			there := oci.Platform{OS: img.config.OS, Architecture: img.config.Architecture, Variant: img.config.Variant}
			return nil, fmt.Errorf("archive: an image in it is for %s, not for %s: %w", oci.Format(there), oci.Format(want), errdef.ErrUnsupported)
		}
	}
	return images, err
}

func planDocker(src source) ([]plannedImage, error) {
	raw, err := document(src, dockerManifestName, oci.MaxManifest, "")
	if err != nil {
		return nil, err
	}
	var entries []dockerManifest
	if err := json.Unmarshal(raw, &entries); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", dockerManifestName, errdef.ErrInvalid, err)
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("%s: it names no image: %w", dockerManifestName, errdef.ErrInvalid)
	}
	manifests := manifestsByConfig(src)
	var images []plannedImage
	left := maxPlan
	for i, e := range entries {
		img, err := planEntry(src, e, manifests)
		if err == nil {
			err = img.roomFor(&left)
		}
		if err != nil {
			return nil, fmt.Errorf("image %d of %s: %w", i+1, dockerManifestName, err)
		}
		images = append(images, img)
	}
	return images, nil
}

// planEntry plans one image of a docker archive: by its OCI manifest where the archive has that too, whole, so that the
// image's digest survives.
func planEntry(src source, e dockerManifest, manifests map[digest.Digest][]byte) (plannedImage, error) {
	var img plannedImage
	err := img.setNames(e.RepoTags)
	if err != nil {
		return img, err
	}
	name, err := cleanName(e.Config)
	if err != nil {
		return img, err
	}
	if err := img.readConfig(src, name, digestInName(name)); err != nil {
		return img, err
	}
	if raw := manifests[digest.FromBytes(img.rawConfig)]; raw != nil && img.layersOf(src, raw) == nil {
		return img, nil
	}
	img.rawManifest, img.layers = nil, nil
	ids := img.config.RootFS.DiffIDs
	if len(e.Layers) != len(ids) {
		return img, fmt.Errorf("%d layers, but its config lists %d: %w", len(e.Layers), len(ids), errdef.ErrInvalid)
	}
	for i, l := range e.Layers {
		member, err := cleanName(l)
		if err != nil {
			return img, err
		}
		if !has(src, member) {
			return img, fmt.Errorf("layer %s is missing from the archive: %w", member, errdef.ErrCorrupt)
		}
		img.layers = append(img.layers, plannedLayer{diffID: ids[i], member: member})
	}
	return img, nil
}

// digestInName is the digest that a config's name promises ("<hex>.json", "blobs/sha256/<hex>"), or "".
func digestInName(name string) digest.Digest {
	d, err := oci.ParseDigest("sha256:" + strings.TrimSuffix(path.Base(name), ".json"))
	if err != nil {
		return ""
	}
	return d
}

func (img *plannedImage) readConfig(src source, name string, want digest.Digest) (err error) {
	if img.rawConfig, err = document(src, name, oci.MaxConfig, want); err != nil {
		return err
	}
	img.config, err = oci.ParseImage(img.rawConfig)
	return err
}

// setNames normalises the names that an archive gives an image.
func (img *plannedImage) setNames(names []string) error {
	for _, n := range names {
		ref, err := reference.Parse(n)
		if err != nil {
			return err
		}
		ref.Digest = ""
		if full := ref.Latest().String(); !slices.Contains(img.names, full) {
			img.names = append(img.names, full)
		}
	}
	return nil
}

// layersOf takes the layers, and the manifest itself, from raw: the config's diffIDs and the manifest's blobs, pairwise.
func (img *plannedImage) layersOf(src source, raw []byte) error {
	m, err := oci.ParseManifest(raw)
	if err != nil {
		return err
	}
	ids := img.config.RootFS.DiffIDs
	if len(m.Layers) != len(ids) {
		return fmt.Errorf("manifest: %d layers, but its config lists %d: %w", len(m.Layers), len(ids), errdef.ErrInvalid)
	}
	var layers []plannedLayer
	for i, d := range m.Layers {
		size, err := blobSize(src, d)
		if err != nil {
			return err
		}
		if size != d.Size {
			return fmt.Errorf("layer %s has %d bytes instead of %d: %w", d.Digest, size, d.Size, errdef.ErrCorrupt)
		}
		layers = append(layers, plannedLayer{
			diffID: ids[i], member: blobName(d.Digest),
			blob: layer.Blob{Digest: d.Digest, MediaType: d.MediaType, Size: d.Size},
		})
	}
	img.rawManifest, img.layers = raw, layers
	return nil
}

// blobSize is how many bytes a layer's blob has in the archive.
func blobSize(src source, d ocispec.Descriptor) (int64, error) {
	r, size, err := src.open(blobName(d.Digest))
	if errors.Is(err, errdef.ErrNotFound) {
		return 0, fmt.Errorf("layer %s is missing from the archive: %w", d.Digest, errdef.ErrCorrupt)
	}
	if err != nil {
		return 0, err
	}
	return size, r.Close()
}
