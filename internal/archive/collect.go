package archive

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/atomicfile"
	"strata/internal/errdef"
	"strata/internal/oci"
)

// Collection is an archive or an OCI layout that images are written into, byte for byte. Close completes it: before that
// nothing names what was written.
type Collection struct {
	mu       sync.Mutex
	out      output
	dir      string // of a layout in a directory; "" for a tar
	docker   bool
	entries  []ocispec.Descriptor
	images   []dockerManifest
	unlock   func() error
	nameless map[digest.Digest]bool // documents that entries has without a name
}

// NewCollection writes a tar to w: an OCI layout, which is a docker archive too if docker is asked for.
func NewCollection(w io.Writer, docker bool) (*Collection, error) {
	return newCollection(&Collection{out: newTarWriter(w), docker: docker})
}

// OpenCollection adds to the OCI layout in the directory dir, or makes one there. Others wait until it is closed.
func OpenCollection(ctx context.Context, dir string) (*Collection, error) {
	unlock, err := LockLayout(ctx, dir)
	if err != nil {
		return nil, err
	}
	c := &Collection{out: newDirWriter(dir), dir: dir, unlock: unlock}
	if c, err = newCollection(c); err != nil {
		_ = unlock() // the error that matters is known
		return nil, err
	}
	return c, nil
}

const layoutLock = ".strata-lock"

// LockLayout makes the directory dir if need be, waits until nobody else writes into the OCI layout that it is, and refuses one that holds
// something else.
func LockLayout(ctx context.Context, dir string) (unlock func() error, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	name := filepath.Join(dir, layoutLock)
	lock, err := atomicfile.LockExclusive(ctx, name)
	if err != nil {
		return nil, err
	}
	unlock = func() error {
		os.Remove(name)
		return lock.Unlock()
	}
	if err := usableLayout(dir); err != nil { // while nobody is just making it
		_ = unlock() // the error that matters is known
		return nil, err
	}
	return unlock, nil
}

// usableLayout refuses a directory that has something else in it.
func usableLayout(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, layoutName)); err == nil {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != "blobs" && e.Name() != layoutLock {
			return errdef.WithHint(fmt.Errorf("directory %s holds %q and is no OCI layout: %w", dir, e.Name(), errdef.ErrConflict), "name an empty or a new directory")
		}
	}
	return nil
}

func newCollection(c *Collection) (*Collection, error) {
	c.nameless = map[digest.Digest]bool{}
	for _, dir := range []string{"blobs/", "blobs/sha256/"} {
		if err := c.out.dir(dir); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Collected is one image of a collection.
type Collected struct {
	c     *Collection
	names []string // in full
	tag   string   // where there is no full name
}

// Image is the image that gets these names, each in full.
func (c *Collection) Image(names ...string) *Collected { return &Collected{c: c, names: names} }

// Tagged is the image that gets a tag, or any text, for a name; "" is none.
func (c *Collection) Tagged(tag string) *Collected { return &Collected{c: c, tag: tag} }

// HasDocument says no: documents are small, and what they lead to has to be looked at.
func (i *Collected) HasDocument(context.Context, ocispec.Descriptor) (bool, error) { return false, nil }

// HasBlob reports whether the blob is written already.
func (i *Collected) HasBlob(_ context.Context, desc ocispec.Descriptor) (bool, error) {
	i.c.mu.Lock()
	defer i.c.mu.Unlock()
	return i.c.out.has(blobName(desc.Digest), desc.Size), nil
}

// PutBlob writes a blob. In a tar one comes after the other.
func (i *Collected) PutBlob(_ context.Context, desc ocispec.Descriptor, open func() (io.ReadCloser, error)) error {
	if i.c.dir == "" {
		i.c.mu.Lock()
		defer i.c.mu.Unlock()
		if i.c.out.has(blobName(desc.Digest), desc.Size) {
			return nil
		}
	}
	r, err := open()
	if err != nil {
		return err
	}
	defer r.Close()
	return i.c.out.copy(blobName(desc.Digest), desc.Size, r)
}

// PutDocument writes a document, and of the root and of a referrer an entry of index.json.
func (i *Collected) PutDocument(_ context.Context, doc oci.Document, role oci.Role) error {
	c := i.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.out.file(blobName(doc.Descriptor.Digest), doc.Raw); err != nil {
		return err
	}
	if role == oci.Part {
		return nil
	}
	links, err := oci.ParseLinks(doc.Raw)
	if err != nil {
		return err
	}
	desc := ocispec.Descriptor{MediaType: doc.Descriptor.MediaType, Digest: doc.Descriptor.Digest, Size: int64(len(doc.Raw)), ArtifactType: links.ArtifactType}
	if role == oci.Referrer {
		if !c.nameless[desc.Digest] {
			c.nameless[desc.Digest] = true
			c.entries = append(c.entries, desc)
		}
		return nil
	}
	if c.docker {
		if err := i.dockerEntry(doc); err != nil {
			return err
		}
	}
	if i.tag != "" {
		desc.Annotations = map[string]string{ocispec.AnnotationRefName: i.tag}
		c.entries = append(c.entries, desc)
		return nil
	}
	c.entries = append(c.entries, descriptors(desc, i.names)...)
	return nil
}

// dockerEntry adds the image to manifest.json.
func (i *Collected) dockerEntry(doc oci.Document) error {
	if oci.IsIndex(doc.Descriptor.MediaType) {
		return errdef.WithHint(fmt.Errorf("a docker archive holds one platform of an image: %w", errdef.ErrUnsupported), "say which: --platform OS/ARCH")
	}
	m, err := oci.ParseManifest(doc.Raw)
	if err != nil {
		return err
	}
	if err := oci.CheckConfigType(m.Config.MediaType); err != nil {
		return err
	}
	entry := dockerManifest{Config: blobName(m.Config.Digest), RepoTags: i.names, Layers: []string{}}
	for _, l := range m.Layers {
		entry.Layers = append(entry.Layers, blobName(l.Digest))
	}
	i.c.images = append(i.c.images, entry)
	return nil
}

// Close writes what names the images.
func (c *Collection) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.finish()
	if c.unlock != nil {
		if e := c.unlock(); err == nil {
			err = e
		}
	}
	return err
}

// Abandon ends a collection that names nothing new.
func (c *Collection) Abandon() {
	if c.unlock != nil {
		_ = c.unlock() // nothing is lost
	}
}

func (c *Collection) finish() error {
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	if c.dir != "" {
		old, err := c.present()
		if err != nil {
			return err
		}
		if old != nil {
			index.Annotations, index.Manifests = old.Annotations, keep(old.Manifests, c.entries)
		}
	}
	index.Manifests = append(index.Manifests, c.entries...)
	s := saver{out: c.out}
	if err := s.json(indexName, index); err != nil {
		return err
	}
	if c.docker {
		if err := s.json(dockerManifestName, c.images); err != nil {
			return err
		}
	}
	if err := s.json(layoutName, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}); err != nil {
		return err
	}
	return c.out.close()
}

// present is the index.json that the directory has; nil without one.
func (c *Collection) present() (*ocispec.Index, error) {
	root, err := os.OpenRoot(c.dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	src := dirSource{root}
	if !has(src, indexName) {
		return nil, nil
	}
	return readIndex(src, indexName, "")
}

// keep drops of the old entries those that have a name of a new one, or are the same without a name.
func keep(old, fresh []ocispec.Descriptor) []ocispec.Descriptor {
	return slices.DeleteFunc(slices.Clone(old), func(o ocispec.Descriptor) bool {
		return slices.ContainsFunc(fresh, func(f ocispec.Descriptor) bool {
			return entryName(o) == entryName(f) && (entryName(o) != "" || o.Digest == f.Digest)
		})
	})
}
