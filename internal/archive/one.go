package archive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/errdef"
	"strata/internal/oci"
	"strata/internal/progress"
)

// Want names one image of an OCI layout: by the digest of its manifest or index, else by its tag.
type Want struct {
	Tag    string
	Digest digest.Digest
}

// Taken is an image whose layers are in the store, and that is no record there.
type Taken struct {
	Manifest, ID digest.Digest
	Config       *oci.Image
}

// TakeLayers puts the layers of one image of the OCI layout in the directory dir into the store, for a build that starts from
// it: nothing is published.
func TakeLayers(ctx context.Context, dir string, want Want, d Deps, sink progress.Sink) (Taken, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Taken{}, err
	}
	src := dirSource{root}
	taken, err := take(ctx, src, want, d, sink)
	return taken, errors.Join(err, src.close())
}

func take(ctx context.Context, src source, want Want, d Deps, sink progress.Sink) (Taken, error) {
	var taken Taken
	top, err := readIndex(src, indexName, "")
	if err != nil {
		return taken, err
	}
	desc, err := want.in(top)
	if err != nil {
		return taken, err
	}
	if desc, err = forPlatform(src, desc, oci.Host(), 0); err != nil {
		return taken, err
	}
	img, err := planManifest(src, desc)
	if err != nil {
		return taken, fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	taken = Taken{Manifest: desc.Digest, ID: digest.FromBytes(img.rawConfig), Config: img.config}
	l := &loader{src: src, d: d, sink: sink}
	if err := l.layers(ctx, []plannedImage{img}); err != nil {
		return taken, err
	}
	return taken, d.Layers.Sync(ctx)
}

// in finds the wanted image in the layout's index.
func (w Want) in(x *ocispec.Index) (ocispec.Descriptor, error) {
	var tags []string
	for _, d := range x.Manifests {
		tag := d.Annotations[ocispec.AnnotationRefName]
		if i := strings.LastIndexByte(tag, ':'); i >= 0 {
			tag = tag[i+1:]
		}
		if w.Digest != "" && d.Digest == w.Digest || w.Digest == "" && tag != "" && tag == w.Tag {
			return d, nil
		}
		if tag != "" {
			tags = append(tags, tag)
		}
	}
	if images := oci.Images(x.Manifests); w.Digest == "" && w.Tag == "latest" && len(images) == 1 {
		return images[0], nil // the only one, whatever it is called
	}
	name := w.Tag
	if w.Digest != "" {
		name = w.Digest.String()
	}
	err := fmt.Errorf("%s: image %q: %w", indexName, name, errdef.ErrNotFound)
	if len(tags) > 0 {
		err = errdef.WithHint(err, "it has: "+strings.Join(tags, ", "))
	}
	return ocispec.Descriptor{}, err
}
