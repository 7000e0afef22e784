package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/errdef"
	"strata/internal/oci"
	"strata/internal/record"
	"strata/internal/reference"
	"strata/internal/remote"
)

// ManifestList is an index that `manifest create` put together and that no registry has yet. The images are in registries.
type ManifestList struct {
	// Name in full, with tag.
	Name  string         `json:"name"`
	Items []ManifestItem `json:"items"`
}

// ManifestItem is one image of a list.
type ManifestItem struct {
	// Asked is the full name under which the image was asked for; Repository has it.
	Asked      string             `json:"asked"`
	Repository string             `json:"repository"`
	Descriptor ocispec.Descriptor `json:"descriptor"`
}

// lists are the manifest lists of the store.
func (e *Engine) lists() (*record.Dir[ManifestList], error) {
	return record.OpenDir[ManifestList](filepath.Join(e.opts.Root, "manifests"), "manifest list")
}

// listKey is the record key of a list's full name.
func listKey(full string) string { return digest.FromString(full).Encoded() }

// CreateManifest makes a list of images that registries have, or with amend adds them to one that there is. It gives the
// list's full name.
func (e *Engine) CreateManifest(ctx context.Context, c *remote.Client, name string, images []string, amend bool) (string, error) {
	full, err := fullName(name)
	if err != nil {
		return "", err
	}
	dir, err := e.lists()
	if err != nil {
		return full, err
	}
	var items []ManifestItem
	for _, image := range images {
		ref, doc, err := RemoteDocument(ctx, c, image)
		if err != nil {
			return full, err
		}
		parts, err := partsOf(ctx, c, ref, doc)
		if err != nil {
			return full, fmt.Errorf("%s: %w", ref.Familiar(), err)
		}
		for _, p := range parts {
			items = append(items, ManifestItem{ref.String(), ref.Name(), p.desc})
		}
	}
	return full, dir.Update(ctx, listKey(full), func(l *ManifestList, exists bool) error {
		if exists && !amend {
			return errdef.WithHint(fmt.Errorf("refusing to amend an existing manifest list with no --amend flag: %w", errdef.ErrExists),
				"strata manifest create --amend "+name+" …, or strata manifest rm "+name)
		}
		l.Name = full
		for _, item := range items {
			l.Items = slices.DeleteFunc(l.Items, func(old ManifestItem) bool { return old.Descriptor.Digest == item.Descriptor.Digest })
			l.Items = append(l.Items, item)
		}
		return nil
	})
}

// Manifest gives a list that was created here; errdef.ErrNotFound without one.
func (e *Engine) Manifest(name string) (ManifestList, error) {
	full, err := fullName(name)
	if err != nil {
		return ManifestList{}, err
	}
	dir, err := e.lists()
	if err != nil {
		return ManifestList{}, err
	}
	l, err := dir.Get(listKey(full))
	if errors.Is(err, errdef.ErrNotFound) {
		err = fmt.Errorf("No such manifest: %s: %w", reference.Familiarize(full), errdef.ErrNotFound) //nolint:staticcheck // docker's words
	}
	return l, err
}

// Item finds an image of the list by the name that it was asked for, or by name and digest.
func (l ManifestList) Item(image string) (int, error) {
	ref, err := reference.Parse(image)
	if err != nil {
		return 0, err
	}
	i := slices.IndexFunc(l.Items, func(item ManifestItem) bool {
		return item.Asked == ref.Latest().String() || ref.Digest != "" && item.Repository == ref.Name() && item.Descriptor.Digest == ref.Digest
	})
	if i < 0 {
		return 0, fmt.Errorf("manifest for image %s does not exist in %s: %w", ref.Familiar(), reference.Familiarize(l.Name), errdef.ErrNotFound)
	}
	return i, nil
}

// AnnotateManifest says for what platform an image of a list is; fields that are empty stay as they are.
func (e *Engine) AnnotateManifest(ctx context.Context, name, image string, p oci.Platform) error {
	if _, err := e.Manifest(name); err != nil {
		return err
	}
	full, err := fullName(name)
	if err != nil {
		return err
	}
	dir, err := e.lists()
	if err != nil {
		return err
	}
	return dir.Update(ctx, listKey(full), func(l *ManifestList, _ bool) error {
		i, err := l.Item(image)
		if err != nil {
			return err
		}
		is := &l.Items[i].Descriptor
		if is.Platform == nil {
			is.Platform = &oci.Platform{}
		}
		for _, set := range []struct {
			to   *string
			text string
		}{{&is.Platform.OS, p.OS}, {&is.Platform.Architecture, p.Architecture}, {&is.Platform.Variant, p.Variant}, {&is.Platform.OSVersion, p.OSVersion}} {
			if set.text != "" {
				*set.to = set.text
			}
		}
		if len(p.OSFeatures) > 0 {
			is.Platform.OSFeatures = p.OSFeatures
		}
		return nil
	})
}

// Combination is the index that the list stands for: docker's where all images are of docker's types, else the OCI's.
func (l ManifestList) Combination() (Combination, error) {
	x := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: oci.DockerIndex}
	var all Combination
	for _, item := range l.Items {
		ref, err := reference.Parse(item.Repository)
		if err != nil {
			return all, err
		}
		if item.Descriptor.MediaType != oci.DockerManifest {
			x.MediaType = ocispec.MediaTypeImageIndex
		}
		x.Manifests = append(x.Manifests, item.Descriptor)
		all.parts = append(all.parts, part{item.Descriptor, ref})
	}
	all.MediaType = x.MediaType
	var err error
	all.Raw, err = oci.Marshal(x)
	return all, err
}

// PushManifest gives a list to its registry, with the images that the repository lacks, and forgets it if asked.
func (e *Engine) PushManifest(ctx context.Context, c *remote.Client, name string, purge bool) (digest.Digest, error) {
	l, err := e.Manifest(name)
	if err != nil {
		return "", err
	}
	all, err := l.Combination()
	if err != nil {
		return "", err
	}
	d, err := all.Push(ctx, c, l.Name)
	if err != nil || !purge {
		return d, err
	}
	return d, e.RemoveManifest(l.Name)
}

// RemoveManifest forgets a list; what registries have stays.
func (e *Engine) RemoveManifest(name string) error {
	l, err := e.Manifest(name)
	if err != nil {
		return err
	}
	dir, err := e.lists()
	if err != nil {
		return err
	}
	return dir.Delete(listKey(l.Name))
}
