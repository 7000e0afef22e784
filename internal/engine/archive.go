package engine

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"strata/internal/archive"
	"strata/internal/fetch"
	"strata/internal/image"
	"strata/internal/layer"
	"strata/internal/oci"
	"strata/internal/reference"
)

// Load takes the images of an archive into the store, those for a platform; the zero Platform is this machine's, or whatever
// there is. Nothing is tagged unless all of it is whole.
func (e *Engine) Load(ctx context.Context, r io.Reader, p oci.Platform) ([]archive.Loaded, error) {
	d := e.archiveDeps()
	d.Platform = p
	all, err := archive.Load(ctx, r, d, e.opts.Sink)
	return e.loaded(ctx, all, err)
}

// LoadDir is [Engine.Load] for an OCI layout in a directory.
func (e *Engine) LoadDir(ctx context.Context, dir string, p oci.Platform) ([]archive.Loaded, error) {
	d := e.archiveDeps()
	d.Platform = p
	all, err := archive.LoadDir(ctx, dir, d, e.opts.Sink)
	return e.loaded(ctx, all, err)
}

// loaded ends a load: its events, and the bound on the blobs that it brought.
func (e *Engine) loaded(ctx context.Context, all []archive.Loaded, err error) ([]archive.Loaded, error) {
	for _, l := range all {
		name := l.ID.String()
		if len(l.Names) > 0 {
			name = reference.Familiarize(l.Names[0])
		}
		e.emitImage("load", l.ID.String(), name, nil)
	}
	if err != nil {
		return all, err
	}
	return all, e.capBlobs(ctx)
}

func (e *Engine) archiveDeps() archive.Deps {
	return archive.Deps{Layers: e.keeping(), Images: e.images, Hold: e.hold, TempDir: e.tempDir}
}

// SaveOptions are those of save.
type SaveOptions struct {
	archive.SaveOptions
	// Platform saves the image for it alone of a name that is for several; the zero Platform saves all.
	Platform oci.Platform
	// AllTags takes names for repositories, of which all tags are saved, and for nothing else.
	AllTags bool
}

// Save writes images as one archive. Names that are tags or repositories stand in it; ids are written without names.
func (e *Engine) Save(ctx context.Context, w io.Writer, names []string, o SaveOptions) error {
	o.TempDir = e.tempDir
	var items []archive.Item
	for _, name := range names {
		more, err := e.saved(ctx, name, o)
		if err != nil {
			return err
		}
		items = append(items, more...)
	}
	if err := archive.Save(ctx, w, items, e.layers, o.SaveOptions); err != nil {
		return err
	}
	for _, item := range items {
		name := item.Image.ID.String()
		if len(item.Names) > 0 {
			name = reference.Familiarize(item.Names[0])
		}
		e.emitImage("save", item.Image.ID.String(), name, labels(item.Image))
	}
	return nil
}

// saved gives what one argument of save stands for. Docker's rule: a name without a tag means all tags of the repository.
func (e *Engine) saved(ctx context.Context, name string, o SaveOptions) ([]archive.Item, error) {
	if o.AllTags {
		tags, err := e.TagsIn(name)
		if err != nil {
			return nil, err
		}
		var items []archive.Item
		for _, t := range tags {
			item, err := e.savedOne(ctx, t.Name, o.Platform)
			if err != nil {
				return nil, err
			}
			items = append(items, item)
		}
		return items, nil
	}
	if ref, err := reference.Parse(name); err == nil && ref.Tag == "" && ref.Digest == "" && o.Platform.OS == "" {
		tags, err := e.tagsOf(ctx, ref)
		if err != nil || len(tags) > 0 {
			return tags, err
		}
	}
	item, err := e.savedOne(ctx, name, o.Platform)
	return []archive.Item{item}, err
}

func (e *Engine) savedOne(ctx context.Context, name string, p oci.Platform) (archive.Item, error) {
	b, err := e.fromStore(ctx, name, p)
	if err != nil {
		return archive.Item{}, err
	}
	item := archive.Item{Image: b.main, Index: b.index}
	if ref, err := reference.Parse(name); err == nil && ref.Digest == "" && !strings.HasPrefix(b.main.ID.Encoded(), strings.TrimPrefix(name, "sha256:")) {
		item.Names = []string{ref.Latest().String()}
	}
	return item, nil
}

func (e *Engine) tagsOf(ctx context.Context, repository reference.Ref) ([]archive.Item, error) {
	keys, err := e.images.List(ctx)
	if err != nil {
		return nil, err
	}
	var items []archive.Item
	for _, img := range keys {
		for _, tag := range img.Tags {
			ref, err := reference.Parse(tag)
			if err != nil || ref.Name() != repository.Name() {
				continue
			}
			held, err := e.images.Pin(ctx, tag)
			if err != nil {
				return nil, err
			}
			b, err := e.withIndex(ctx, tag, held)
			if err != nil {
				return nil, err
			}
			items = append(items, archive.Item{Image: held, Index: b.index, Names: []string{tag}})
		}
	}
	return items, nil
}

// ImportOptions say what image a root file system becomes.
type ImportOptions struct {
	Name, Message string
	Changes       []string
	Platform      oci.Platform
}

// Import makes an image of one layer from a root file system's tar, compressed or not.
func (e *Engine) Import(ctx context.Context, r io.Reader, o ImportOptions) (image.Image, error) {
	cfg, _, err := archive.Import(ctx, r, e.layers, archive.ImportOptions{Message: o.Message, Platform: o.Platform, Now: time.Now().UTC()})
	if err != nil {
		return image.Image{}, err
	}
	if err := applyChanges(ctx, cfg, o.Changes); err != nil {
		return image.Image{}, err
	}
	img, err := e.images.Put(ctx, cfg, image.PutOptions{})
	if err != nil {
		return img, err
	}
	e.emitImage("import", img.ID.String(), img.ID.String(), labels(img))
	if o.Name != "" {
		err = e.tagged(ctx, o.Name, img, "import")
	}
	return img, err
}

// ImportURL is [Engine.Import] of a file that is fetched.
func (e *Engine) ImportURL(ctx context.Context, source string, o ImportOptions) (image.Image, error) {
	f, err := e.fetcher(BuildOptions{}).File(ctx, source, "")
	if err != nil {
		return image.Image{}, fmt.Errorf("import: %w", err)
	}
	defer f.Close()
	o.Message = cmp.Or(o.Message, "Imported from "+fetch.Redact(source))
	return e.Import(ctx, f.F, o)
}

// Export writes a container's whole tree, as its processes see it, as a tar.
func (e *Engine) Export(ctx context.Context, ref string, w io.Writer) error {
	s, err := e.Containers()
	if err != nil {
		return err
	}
	rec, err := s.Lookup(ctx, ref)
	if err != nil {
		return err
	}
	dir, err := e.treeDir(ctx)
	if err != nil {
		return err
	}
	if err := s.MountTree(rec, dir, func(dir string) error { return layer.WriteTree(ctx, w, dir) }); err != nil {
		return fmt.Errorf("export %q: %w", rec.Name, err)
	}
	s.Emit(rec, "export")
	return nil
}
