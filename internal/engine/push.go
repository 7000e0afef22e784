package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"strata/internal/errdef"
	"strata/internal/image"
	"strata/internal/layer"
	"strata/internal/oci"
	"strata/internal/progress"
	"strata/internal/reference"
	"strata/internal/remote"
)

// PushOptions are those of push.
type PushOptions struct {
	// All pushes every tag of the repository.
	All bool
	// Platform pushes the image for it alone of a name that is for several; the zero Platform pushes all.
	Platform oci.Platform
	PushForm
}

// PushForm says in which form an image goes to a registry. The zero PushForm is gzip and OCI media types, and takes layers
// that are known in another compression as they are.
type PushForm struct {
	// Compression of layers that have no compressed form yet: layer.None, layer.Gzip or layer.Zstd; "" is gzip. Level 0 is
	// the usual one. Force compresses layers anew that are known in another compression only.
	Compression string
	Level       int
	Force       bool
	// DockerTypes writes docker's media types instead of the OCI's.
	DockerTypes bool
	// ByDigest pushes the manifest under its digest, and no tag.
	ByDigest bool
}

func (f PushForm) compression() string {
	if f.Compression == "" {
		return layer.Gzip
	}
	return f.Compression
}

// Pushed is one name that a registry has now.
type Pushed struct {
	// Name in full, with its tag.
	Name string
	// Digest, Size and MediaType of the manifest, or of the index.
	Digest    digest.Digest
	Size      int64
	MediaType string
}

// Push uploads images to their registry: the layers that it lacks, then the config, then the manifest under the tag.
// Layers are compressed on the way.
func (e *Engine) Push(ctx context.Context, name string, o PushOptions) ([]Pushed, error) {
	ref, err := reference.Parse(name)
	if err != nil {
		return nil, err
	}
	if ref.Digest != "" {
		return nil, fmt.Errorf("name %q: what is pushed is named by a tag, not by a digest: %w", name, errdef.ErrInvalid)
	}
	if err := owned(ref); err != nil {
		return nil, err
	}
	refs, err := e.pushable(ctx, ref, o)
	if err != nil {
		return nil, err
	}
	var all []Pushed
	for _, ref := range refs {
		done, err := e.push(ctx, ref, o)
		if err != nil {
			return all, fmt.Errorf("push %s: %w", ref.Familiar(), err)
		}
		all = append(all, done)
	}
	return all, nil
}

// owned refuses a name that nobody may push to: on docker.io a repository stands under a user's or an organisation's name.
func owned(ref reference.Ref) error {
	short := ref.FamiliarName()
	if ref.Domain != "docker.io" || strings.Contains(short, "/") {
		return nil
	}
	tagged := ref.Latest().Familiar()
	err := fmt.Errorf("push %s: requested access to the resource is denied: docker.io/library is for official images: %w", short, errdef.ErrDenied)
	return errdef.WithHint(err, fmt.Sprintf("give it your user name first: strata tag %s USER/%s && strata push USER/%s", tagged, tagged, tagged))
}

// pushable are the tags to push: the one that is named, or all of the repository's.
func (e *Engine) pushable(ctx context.Context, ref reference.Ref, o PushOptions) ([]reference.Ref, error) {
	if !o.All {
		return []reference.Ref{ref.Latest()}, nil
	}
	if ref.Tag != "" {
		return nil, fmt.Errorf("name %q: all tags are asked for, and one is named: %w", ref.Familiar(), errdef.ErrInvalid)
	}
	items, err := e.tagsOf(ctx, ref)
	if err != nil {
		return nil, err
	}
	var refs []reference.Ref
	for _, item := range items {
		tagged, err := reference.Parse(item.Names[0])
		if err != nil {
			return nil, err
		}
		refs = append(refs, tagged)
	}
	if len(refs) == 0 {
		return nil, errdef.WithHint(fmt.Errorf("repository %q has no tag here: %w", ref.FamiliarName(), errdef.ErrNotFound), "see what is here with 'strata images'")
	}
	return refs, nil
}

func (e *Engine) push(ctx context.Context, ref reference.Ref, o PushOptions) (Pushed, error) {
	b, err := e.fromStore(ctx, ref.String(), o.Platform)
	if err != nil {
		return Pushed{}, e.otherTags(ctx, ref, err)
	}
	return e.pushBuilt(ctx, ref, b, o.PushForm)
}

// otherTags adds to "not found" which tags of the repository are here.
func (e *Engine) otherTags(ctx context.Context, ref reference.Ref, cause error) error {
	if !errors.Is(cause, errdef.ErrNotFound) {
		return cause
	}
	items, err := e.tagsOf(ctx, ref)
	if err != nil || len(items) == 0 {
		return cause
	}
	var tags []string
	for _, item := range items {
		if r, err := reference.Parse(item.Names[0]); err == nil {
			tags = append(tags, r.Tag)
		}
	}
	return errdef.WithHint(cause, fmt.Sprintf("its tags here: %s; for example: strata push %s:%s", someTags(tags), ref.FamiliarName(), newest(tags)))
}

// pushBuilt pushes one image, or the images of an index and then the index, under ref.
func (e *Engine) pushBuilt(ctx context.Context, ref reference.Ref, b built, form PushForm) (Pushed, error) {
	top := ref
	if form.ByDigest {
		top = ref.Repository()
	}
	var desc ocispec.Descriptor
	var err error
	if b.index == nil {
		desc, err = e.pushImage(ctx, top, b.main, form)
	} else {
		desc, err = e.pushIndex(ctx, top, *b.index, form)
	}
	if err != nil {
		return Pushed{}, err
	}
	e.emitImage("push", ref.Familiar(), ref.FamiliarName(), labels(b.main))
	if err := e.images.AddRepoDigest(ctx, b.main.ID, ref.WithDigest(desc.Digest).String()); err != nil {
		return Pushed{}, err
	}
	return Pushed{Name: ref.String(), Digest: desc.Digest, Size: desc.Size, MediaType: desc.MediaType}, e.capBlobs(ctx)
}

// pushIndex pushes every member by its digest, then the index of what the registry has of them.
func (e *Engine) pushIndex(ctx context.Context, ref reference.Ref, x image.Index, form PushForm) (ocispec.Descriptor, error) {
	var descs []ocispec.Descriptor
	standing, err := e.asking(ctx, ref, func(ctx context.Context) error {
		for _, m := range x.Members {
			desc, err := e.pushImage(ctx, ref.Repository(), m, form)
			if err != nil {
				return fmt.Errorf("%s: %w", oci.Format(m.Platform()), err)
			}
			descs = append(descs, desc)
		}
		return nil
	})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	raw, err := x.WithManifests(descs)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	mediaType := ocispec.MediaTypeImageIndex
	if form.DockerTypes {
		if raw, err = dockerIndex(raw); err != nil {
			return ocispec.Descriptor{}, err
		}
		mediaType = oci.DockerIndex
	}
	return e.putManifest(ctx, ref, mediaType, raw, standing)
}

// asking does work and meanwhile asks what ref's tag stands for.
func (e *Engine) asking(ctx context.Context, ref reference.Ref, work func(context.Context) error) (standing digest.Digest, err error) {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return work(ctx) })
	if ref.Tag != "" {
		group.Go(func() error {
			standing = e.registries().Standing(ctx, ref)
			return nil
		})
	}
	err = group.Wait()
	return standing, err
}

// pushImage pushes one image under ref: a tag, or the manifest's digest where ref has none.
func (e *Engine) pushImage(ctx context.Context, ref reference.Ref, img image.Image, form PushForm) (ocispec.Descriptor, error) {
	p := pusher{e: e, client: e.registries(), ref: ref, img: img, form: form}
	var layers []ocispec.Descriptor
	standing, err := e.asking(ctx, ref, func(ctx context.Context) error {
		group, ctx := errgroup.WithContext(ctx)
		group.Go(func() error { return p.config(ctx) })
		group.Go(func() (err error) {
			layers, err = p.layers(ctx)
			return err
		})
		return group.Wait()
	})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	raw, mediaType, err := img.WithLayers(layers)
	if err == nil && form.DockerTypes {
		raw, err = dockerManifest(raw)
		mediaType = oci.DockerManifest
	}
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return e.putManifest(ctx, ref, mediaType, raw, standing)
}

// putManifest uploads a document, unless it is what the tag stands for already.
func (e *Engine) putManifest(ctx context.Context, ref reference.Ref, mediaType string, raw []byte, standing digest.Digest) (ocispec.Descriptor, error) {
	shown, d := ref, digest.FromBytes(raw)
	if ref.Tag == "" {
		shown = ref.WithDigest(d)
	}
	task := progress.Begin(e.opts.Sink, "manifest "+shown.String(), "manifest "+shown.Familiar())
	var err error
	if d != standing {
		d, err = e.registries().PutManifest(ctx, ref, mediaType, raw)
	}
	task.End(ctx, d == standing, err)
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(raw))}, err
}

// pusher uploads one image.
type pusher struct {
	e      *Engine
	client *remote.Client
	ref    reference.Ref
	img    image.Image
	form   PushForm
	turns  chan struct{} // full when as many layers are sent as may be
}

// wide is how many layers a registry is asked for at a time whether it has them.
const wide = remote.DefaultConnections

// layers sees that the registry has every layer and gives their descriptors, base first.
func (p *pusher) layers(ctx context.Context) ([]ocispec.Descriptor, error) {
	atOnce, err := p.e.layersAtOnce()
	if err != nil {
		return nil, err
	}
	p.turns = make(chan struct{}, min(atOnce, layer.AtOnce(p.form.compression(), p.form.Level)))
	ids := p.img.DiffIDs()
	descs := make([]ocispec.Descriptor, len(ids))
	first := map[oci.DiffID]int{}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(wide)
	for i, id := range ids {
		if _, seen := first[id]; seen {
			continue
		}
		first[id] = i
		group.Go(func() error {
			task := progress.Begin(p.e.opts.Sink, string(id), "layer "+id.Hex()[:12])
			desc, there, err := p.layer(ctx, i, id, task)
			task.End(ctx, there, err)
			descs[i] = desc
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for i, id := range ids {
		descs[i] = descs[first[id]]
	}
	return descs, nil
}

// layer finds a form of the layer that the registry has, or uploads one.
func (p *pusher) layer(ctx context.Context, i int, id oci.DiffID, task *progress.Task) (desc ocispec.Descriptor, there bool, err error) {
	meta, err := p.e.layers.Stat(id)
	if err != nil {
		return desc, false, err
	}
	forms := p.forms(i, meta)
	for _, b := range forms {
		if ok, err := p.client.HasBlob(ctx, p.ref, b.Digest); ok || err != nil {
			return describe(b), ok, err
		}
	}
	for _, b := range forms {
		if ok, err := p.mount(ctx, b); ok || err != nil {
			return describe(b), ok, err
		}
	}
	select {
	case p.turns <- struct{}{}:
		defer func() { <-p.turns }()
	case <-ctx.Done():
		return desc, false, context.Cause(ctx)
	}
	for _, b := range forms {
		if ok, err := p.stored(ctx, b, task); ok || err != nil {
			return describe(b), false, err
		}
	}
	for _, b := range forms {
		if ok, err := p.carry(ctx, b, task); ok || err != nil {
			return describe(b), false, err
		}
	}
	b, err := p.upload(ctx, id, task, meta.Size)
	return describe(b), false, err
}

// forms are the compressed forms of a layer that are known, that of the image's own manifest first.
func (p *pusher) forms(i int, meta layer.Meta) []layer.Blob {
	var forms []layer.Blob
	suffix := layer.MediaSuffix(p.form.compression())
	for _, b := range meta.Blobs {
		if p.form.Force && !compressedAs(b.MediaType, suffix) {
			continue
		}
		if own := p.img.Manifest.Layers[i]; b.Digest == own.Digest {
			forms = append([]layer.Blob{b}, forms...)
			continue
		}
		forms = append(forms, b)
	}
	return forms
}

// compressedAs reports whether a layer's media type is one of the compression with this suffix. Docker's names have a dot
// for the plus.
func compressedAs(mediaType, suffix string) bool {
	if suffix == "" {
		return strings.HasSuffix(mediaType, ".tar")
	}
	return strings.HasSuffix(mediaType, suffix) || strings.HasSuffix(mediaType, "."+suffix[1:])
}

// mount takes the blob over from another repository of the same registry.
func (p *pusher) mount(ctx context.Context, b layer.Blob) (bool, error) {
	from, err := reference.Parse(b.Source)
	if b.Source == "" || err != nil || from.Domain != p.ref.Domain || from.Path == p.ref.Path {
		return false, nil
	}
	return p.client.MountBlob(ctx, p.ref, from.Path, b.Digest)
}

// madeAs is what layer.Blob says of a form that was compressed here.
func madeAs(compression string, level int) string { return fmt.Sprintf("%s %d", compression, level) }

func describe(b layer.Blob) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: b.MediaType, Digest: b.Digest, Size: b.Size}
}

// config uploads the image's config unless the registry has it.
func (p *pusher) config(ctx context.Context) error {
	task := progress.Begin(p.e.opts.Sink, "config "+p.img.ID.String(), "config "+shortDigest(p.img.ID))
	there, err := p.client.HasBlob(ctx, p.ref, p.img.ID)
	if err == nil && !there {
		raw := p.img.RawConfig
		desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: p.img.ID, Size: int64(len(raw))}
		err = p.client.PutBlob(ctx, p.ref, desc, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil })
	}
	task.End(ctx, there, err)
	return err
}
