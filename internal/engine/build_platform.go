package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"strata/internal/build"
	"strata/internal/errdef"
	"strata/internal/image"
	"strata/internal/oci"
	"strata/internal/progress"
)

// Annotation is one of a manifest, of the index, or of a manifest's descriptor in the index.
type Annotation struct {
	// On is what has it.
	On AnnotationPlace
	// Platform whose image it is for; nil is every one.
	Platform   *oci.Platform
	Key, Value string
}

// AnnotationPlace says what has an annotation, in docker's words.
type AnnotationPlace string

// The places.
const (
	OnManifest           AnnotationPlace = "manifest"
	OnIndex              AnnotationPlace = "index"
	OnManifestDescriptor AnnotationPlace = "manifest-descriptor"
)

// checkAnnotations refuses what would be lost.
func (o BuildOptions) checkAnnotations() error {
	for _, a := range o.Annotations {
		if a.On != OnManifest && len(o.Platforms) < 2 {
			return fmt.Errorf("annotation %s:%s: the image has no index unless it is for several platforms: %w", a.On, a.Key, errdef.ErrInvalid)
		}
		named := func(p oci.Platform) bool { return a.Platform != nil && oci.Format(p) == oci.Format(*a.Platform) }
		if a.Platform != nil && !slices.ContainsFunc(o.Platforms, named) {
			return fmt.Errorf("annotation %s for %s: the build is not for that platform: %w", a.Key, oci.Format(*a.Platform), errdef.ErrInvalid)
		}
	}
	return nil
}

// annotations that were asked for at a place and for a platform; nil when there are none.
func (o BuildOptions) annotations(on AnnotationPlace, p oci.Platform) map[string]string {
	var found map[string]string
	for _, a := range o.Annotations {
		if a.On != on || a.Platform != nil && oci.Format(*a.Platform) != oci.Format(p) {
			continue
		}
		if found == nil {
			found = map[string]string{}
		}
		found[a.Key] = a.Value
	}
	return found
}

// made is what a build for one platform gave.
type made struct {
	cfg         *oci.Image
	annotations map[string]string
}

// buildAll builds for each platform in turn: stages that are for the building machine are found in the cache the second time.
func (e *Engine) buildAll(ctx context.Context, o BuildOptions, in *build.Context, res *BuildResult) ([]made, error) {
	if len(o.Platforms) == 0 {
		cfg, annotations, err := e.buildOne(ctx, o, in, oci.Platform{}, res)
		return []made{{cfg, annotations}}, err
	}
	var all []made
	for _, p := range o.Platforms {
		cfg, annotations, err := e.buildOne(ctx, o, in, p, res)
		if err != nil {
			if len(o.Platforms) > 1 {
				err = fmt.Errorf("%s: %w", oci.Format(p), err)
			}
			return all, err
		}
		all = append(all, made{cfg, annotations})
	}
	return all, nil
}

// assemble publishes the images: one has a record; of several one has, and the index has them all.
func (e *Engine) assemble(ctx context.Context, o BuildOptions, all []made) (built, error) {
	main := max(0, slices.IndexFunc(all, func(m made) bool { return isFor(oci.Host(), image.Image{Config: m.cfg}) }))
	var b built
	var members []image.Image
	for i, m := range all {
		p := oci.Platform{OS: m.cfg.OS, Architecture: m.cfg.Architecture, Variant: m.cfg.Variant}
		asked := o.annotations(OnManifest, p)
		for k, v := range asked {
			if m.annotations == nil {
				m.annotations = map[string]string{}
			}
			m.annotations[k] = v
		}
		put := e.images.PutMember
		if i == main {
			put = e.images.Put
		}
		img, err := put(ctx, m.cfg, image.PutOptions{Annotations: m.annotations})
		if err == nil && img.Foreign && len(asked) > 0 {
			// The base itself, whose manifest the store keeps as it came: what leaves the store has the annotations.
			img, err = e.images.PutMember(ctx, m.cfg, image.PutOptions{Annotations: m.annotations})
		}
		if err != nil {
			return b, err
		}
		if i == main {
			b.main = img
		}
		members = append(members, img)
	}
	if len(members) == 1 {
		return b, nil
	}
	x, err := e.images.PutIndex(ctx, members, image.IndexOptions{
		Annotations: o.annotations(OnIndex, oci.Platform{}),
		Descriptors: func(p oci.Platform) map[string]string { return o.annotations(OnManifestDescriptor, p) },
	})
	b.index = &x
	return b, err
}

// platformSink tells the steps of several platforms apart: "[linux/arm64 build 2/4] RUN make".
func platformSink(to progress.Sink, p oci.Platform) progress.Sink {
	name := oci.Format(p)
	return progress.Func(func(ev progress.Event) {
		ev.Vertex = name + " " + ev.Vertex
		if rest, ok := strings.CutPrefix(ev.Name, "["); ok {
			ev.Name = "[" + name + " " + rest
		}
		to.Emit(ev)
	})
}
