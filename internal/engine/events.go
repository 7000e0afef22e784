package engine

import (
	"context"
	"path/filepath"
	"strconv"

	"github.com/opencontainers/go-digest"

	"strata/internal/event"
	"strata/internal/image"
	"strata/internal/reference"
)

func openEvents(root string) *event.Log { return event.Open(filepath.Join(root, "events")) }

// Events gives fn what has happened and what happens, as [event.Log.Read] does.
func (e *Engine) Events(ctx context.Context, q event.Query, fn func(event.Message) error) error {
	return e.events.Read(ctx, q, fn)
}

// emitImage keeps an event of an image: id is its id (of a pull and a push, its name), name how it is called there.
func (e *Engine) emitImage(action, id, name string, labels map[string]string) {
	e.events.Emit(event.New(event.Image, action, id, labels, "name", name))
}

// tagged is [image.Store.Tag] that tells of it: a name that a person gave.
func (e *Engine) tagged(ctx context.Context, name string, img image.Image, cause string) error {
	return e.taggedBuilt(ctx, name, built{main: img}, cause)
}

// taggedBuilt is tagged for what may be an image for several platforms.
func (e *Engine) taggedBuilt(ctx context.Context, name string, b built, cause string) error {
	img, index := b.main, digest.Digest("")
	if b.index != nil {
		index = b.index.Descriptor.Digest
	}
	if _, err := e.images.TagIndex(ctx, name, img.ID, index, cause); err != nil {
		return err
	}
	if full, err := fullName(name); err == nil {
		name = reference.Familiarize(full)
	}
	e.emitImage("tag", img.ID.String(), name, labels(img))
	return nil
}

func labels(img image.Image) map[string]string {
	if img.Config == nil {
		return nil
	}
	return img.Config.Config.Labels
}

// removeImage is [image.Store.Remove] that tells of it.
func (e *Engine) removeImage(ctx context.Context, name string, o image.RemoveOptions) ([]image.Deleted, error) {
	img, err := e.images.Resolve(ctx, name)
	id := img.ID.String()
	if err != nil {
		id = name // what is broken can be removed too
	}
	done, err := e.images.Remove(ctx, name, o)
	for _, d := range done {
		if d.Untagged != "" {
			e.emitImage("untag", id, d.Untagged, labels(img))
		} else {
			e.emitImage("delete", d.Deleted, d.Deleted, nil)
		}
	}
	return done, err
}

// emitPrune tells that a prune of a kind of things is done, and the bytes that it freed.
func (e *Engine) emitPrune(kind string, freed int64) {
	e.events.Emit(event.New(kind, "prune", "", nil, "reclaimed", strconv.FormatInt(freed, 10)))
}
