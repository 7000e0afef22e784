package engine

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/errdef"
	"strata/internal/oci"
	"strata/internal/reference"
	"strata/internal/remote"
	"strata/internal/ship"
)

// RemoteDocument fetches what a registry has under a name: a manifest or an index. No store is needed.
func RemoteDocument(ctx context.Context, c *remote.Client, name string) (reference.Ref, remote.Document, error) {
	ref, err := reference.Parse(name)
	if err != nil {
		return ref, remote.Document{}, err
	}
	if ref.Digest != "" {
		ref = ref.WithDigest(ref.Digest)
	}
	ref = ref.Latest()
	doc, err := c.Manifest(ctx, ref)
	return ref, doc, err
}

// CombineOptions say what an image that is put together of others in registries is called.
type CombineOptions struct {
	// Tags it gets.
	Tags []string
	// Append adds to what the first tag stands for now.
	Append bool
	// Annotations of the index.
	Annotations map[string]string
}

// Combination is an image that is put together, before any registry has it.
type Combination struct {
	Raw       []byte
	MediaType string
	parts     []part
}

// part is a manifest of a combination and the repository that has it.
type part struct {
	desc ocispec.Descriptor
	from reference.Ref
}

// Combine reads the sources and makes the index of all their images. One source alone is taken as it is.
func Combine(ctx context.Context, c *remote.Client, sources []string, o CombineOptions) (Combination, error) {
	var all Combination
	if o.Append {
		if len(o.Tags) == 0 {
			return all, fmt.Errorf("nothing to append to without a tag: %w", errdef.ErrInvalid)
		}
		sources = append([]string{o.Tags[0]}, sources...)
	}
	for _, source := range sources {
		ref, doc, err := RemoteDocument(ctx, c, source)
		if err != nil {
			return all, err
		}
		parts, err := partsOf(ctx, c, ref, doc)
		if err != nil {
			return all, fmt.Errorf("%s: %w", ref.Familiar(), err)
		}
		for _, p := range parts {
			if !slices.ContainsFunc(all.parts, func(q part) bool { return q.desc.Digest == p.desc.Digest }) {
				all.parts = append(all.parts, p)
			}
		}
		if len(sources) == 1 && len(o.Annotations) == 0 {
			all.Raw, all.MediaType = doc.Raw, doc.Descriptor.MediaType
			return all, nil
		}
	}
	x := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Annotations: o.Annotations}
	for _, p := range all.parts {
		x.Manifests = append(x.Manifests, p.desc)
	}
	all.MediaType = x.MediaType
	var err error
	all.Raw, err = oci.Marshal(x)
	return all, err
}

// partsOf are the manifests of a document: those of an index, or itself with the platform that its config says.
func partsOf(ctx context.Context, c *remote.Client, ref reference.Ref, doc remote.Document) ([]part, error) {
	if oci.IsIndex(doc.Descriptor.MediaType) {
		x, err := oci.ParseIndex(doc.Raw)
		if err != nil {
			return nil, err
		}
		var parts []part
		for _, d := range x.Manifests {
			parts = append(parts, part{d, ref})
		}
		return parts, nil
	}
	m, err := oci.ParseManifest(doc.Raw)
	if err != nil {
		return nil, err
	}
	p := puller{client: c, ref: ref}
	if err := fetchable(m); err != nil {
		return nil, err
	}
	raw, err := p.document(ctx, m.Config)
	if err != nil {
		return nil, err
	}
	cfg, err := oci.ParseImage(raw)
	if err != nil {
		return nil, err
	}
	desc := doc.Descriptor
	desc.Platform = &oci.Platform{OS: cfg.OS, Architecture: cfg.Architecture, Variant: cfg.Variant, OSVersion: cfg.OSVersion}
	return []part{{desc, ref}}, nil
}

// Push gives a combination to a registry under a tag, with the manifests and blobs that the repository lacks.
func (all Combination) Push(ctx context.Context, c *remote.Client, tag string) (digest.Digest, error) {
	ref, err := reference.Parse(tag)
	if err != nil {
		return "", err
	}
	if ref.Digest != "" {
		return "", fmt.Errorf("tag %q: a digest cannot be given to an image: %w", tag, errdef.ErrInvalid)
	}
	ref = ref.Latest()
	if err := owned(ref); err != nil {
		return "", err
	}
	for _, p := range all.parts {
		if p.from.Name() == ref.Name() {
			continue
		}
		from := ship.NewRepository(c, p.from.WithDigest(p.desc.Digest))
		to := ship.NewRepository(c, ref.WithDigest(p.desc.Digest)).Near(p.from)
		if _, err := ship.Copy(ctx, from, to, ship.Options{}); err != nil {
			return "", fmt.Errorf("copy %s to %s: %w", p.from.WithDigest(p.desc.Digest).Familiar(), ref.FamiliarName(), err)
		}
	}
	return c.PutManifest(ctx, ref, all.MediaType, all.Raw)
}

// RemoteConfig fetches the config of the image that a document is, or of the one in an index for this machine.
func RemoteConfig(ctx context.Context, c *remote.Client, ref reference.Ref, doc remote.Document) (*oci.Image, error) {
	p := puller{client: c, ref: ref, platform: oci.Host()}
	doc, err := p.manifest(ctx, doc.Descriptor, 0)
	if err != nil {
		return nil, err
	}
	m, err := oci.ParseManifest(doc.Raw)
	if err != nil {
		return nil, err
	}
	if err := fetchable(m); err != nil {
		return nil, err
	}
	raw, err := p.document(ctx, m.Config)
	if err != nil {
		return nil, err
	}
	return oci.ParseImage(bytes.TrimSpace(raw))
}
