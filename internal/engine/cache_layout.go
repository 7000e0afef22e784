package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/archive"
	"strata/internal/atomicfile"
	"strata/internal/layer"
	"strata/internal/oci"
)

// layoutCache is a cache in an OCI layout, a directory. Blobs of caches that were there before stay.
type layoutCache struct{ dir, tag string }

// openLayout makes the directory an OCI layout unless it is one. It refuses one that holds something else.
func openLayout(ctx context.Context, dir, tag string) (*layoutCache, error) {
	if tag == "" {
		tag = defaultCacheTag
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	l := &layoutCache{dir, tag}
	return l, l.locked(ctx, func() error {
		if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
			return err
		}
		text := fmt.Sprintf("{\"imageLayoutVersion\":%q}\n", ocispec.ImageLayoutVersion)
		return atomicfile.Write(filepath.Join(dir, ocispec.ImageLayoutFile), []byte(text), 0o644)
	})
}

// locked runs fn while nobody else changes what the layout names.
func (l *layoutCache) locked(ctx context.Context, fn func() error) error {
	unlock, err := archive.LockLayout(ctx, l.dir)
	if err != nil {
		return err
	}
	return errors.Join(fn(), unlock())
}

func (l *layoutCache) has(_ context.Context, b layer.Blob) (bool, error) {
	st, err := os.Lstat(blobFile(l.dir, b.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && st.Mode().IsRegular() && st.Size() == b.Size, err
}

func (l *layoutCache) stream(_ context.Context, write func(io.Writer) error) (d digest.Digest, size int64, err error) {
	f, err := os.CreateTemp(filepath.Join(l.dir, "blobs"), ".ingest-*")
	if err != nil {
		return "", 0, err
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	sum := &sumWriter{to: f, hash: digest.SHA256.Hash()}
	if err := write(sum); err != nil {
		return "", 0, err
	}
	d = digest.NewDigest(digest.SHA256, sum.hash)
	err = errors.Join(f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), blobFile(l.dir, d))
	}
	return d, sum.size, err
}

// sumWriter hashes and counts what passes.
type sumWriter struct {
	to   io.Writer
	hash hash.Hash
	size int64
}

func (w *sumWriter) Write(p []byte) (int, error) {
	n, err := w.to.Write(p)
	w.hash.Write(p[:n])
	w.size += int64(n)
	return n, err
}

func (l *layoutCache) put(_ context.Context, desc ocispec.Descriptor, raw []byte) error {
	return atomicfile.Write(blobFile(l.dir, desc.Digest), raw, 0o644)
}

// publish lists the manifest in the index under the tag, in the place of the one that had it.
func (l *layoutCache) publish(ctx context.Context, raw []byte) error {
	desc := ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(raw), Size: int64(len(raw)),
		Annotations: map[string]string{ocispec.AnnotationRefName: l.tag},
	}
	if err := l.put(ctx, desc, raw); err != nil {
		return err
	}
	return l.locked(ctx, func() error { return l.list(desc) })
}

// list puts the manifest into the index.
func (l *layoutCache) list(desc ocispec.Descriptor) error {
	index, err := readLayoutIndex(l.dir)
	if errors.Is(err, fs.ErrNotExist) {
		index, err = &ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}, nil
	}
	if err != nil {
		return err
	}
	index.Manifests = slices.DeleteFunc(index.Manifests, func(d ocispec.Descriptor) bool {
		return d.Annotations[ocispec.AnnotationRefName] == l.tag
	})
	index.Manifests = append(index.Manifests, desc)
	text, err := oci.Marshal(index)
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(l.dir, layoutIndex), text, 0o644)
}

func (l *layoutCache) source() string { return "" }

func readCloser(raw []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(raw)) }
