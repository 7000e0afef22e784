package ship_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/errdef"
	"strata/internal/oci"
	"strata/internal/remote"
	"strata/internal/ship"
)

// brokenTarget is a place whose uploads break at each of its cuts, and go on there.
type brokenTarget struct {
	cuts []int64
	got  map[digest.Digest][]byte
}

func (*brokenTarget) HasDocument(context.Context, ocispec.Descriptor) (bool, error) {
	return false, nil
}
func (*brokenTarget) HasBlob(context.Context, ocispec.Descriptor) (bool, error) { return false, nil }
func (*brokenTarget) PutDocument(context.Context, oci.Document, oci.Role) error { return nil }
func (b *brokenTarget) PutBlob(_ context.Context, desc ocispec.Descriptor, open func() (io.ReadCloser, error)) error {
	var got []byte
	for _, cut := range append(b.cuts, desc.Size) {
		r, err := open()
		if err != nil {
			return err
		}
		if len(got) > 0 {
			if err := r.(remote.Skipper).Skip(int64(len(got))); err != nil {
				return errors.Join(err, r.Close())
			}
		}
		more := io.Reader(r) // to its end
		if cut < desc.Size {
			more = io.LimitReader(r, cut-int64(len(got)))
		}
		part, err := io.ReadAll(more)
		if err = errors.Join(err, r.Close()); err != nil {
			return err
		}
		got = append(got, part...)
	}
	b.got[desc.Digest] = got
	return nil
}

// TestUploadThatGoesOn copies to a place where the upload breaks: of the source that is fetched which was not sent yet, and the whole
// is verified all the same.
func TestUploadThatGoesOn(t *testing.T) {
	blob := make([]byte, 12<<20)
	_, _ = rand.NewChaCha8([32]byte{5}).Read(blob)
	var sent atomic.Int64 // of the blob
	var forge atomic.Bool
	host := serve(t, true, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, string(digest.FromBytes(blob))) {
				w = counter{w, &sent}
				if forge.Load() && r.Header.Get("Range") != "bytes=0-1048575" {
					w = forger{w}
				}
			}
			next.ServeHTTP(w, r)
		})
	})
	c := client(t)
	ref := parse(t, host+"/app:1")
	put := func(data []byte, mediaType string) ocispec.Descriptor {
		desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
		if err := c.PutBlob(t.Context(), ref, desc, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }); err != nil {
			t.Fatal(err)
		}
		return desc
	}
	desc := put(blob, "application/vnd.example.data")
	raw, err := oci.Marshal(ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: put([]byte("{}"), "application/vnd.example.config"), Layers: []ocispec.Descriptor{desc}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.PutManifest(t.Context(), ref, ocispec.MediaTypeImageManifest, raw); err != nil {
		t.Fatal(err)
	}

	to := &brokenTarget{cuts: []int64{3<<20 + 5, 3<<20 + 6, 9 << 20}, got: map[digest.Digest][]byte{}}
	if _, err := ship.Copy(t.Context(), ship.NewRepository(c, ref), small{to}, ship.Options{Serial: true}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(to.got[digest.FromBytes(blob)], blob) {
		t.Error("other bytes arrived")
	}
	// Of what had been sent, at most as much as between two places of the hash is fetched again at each cut.
	if n, most := sent.Load(), desc.Size+int64(len(to.cuts))<<20; n < desc.Size || n > most {
		t.Errorf("the source sent %d bytes of %d", n, desc.Size)
	}
	forge.Store(true)
	if _, err := ship.Copy(t.Context(), ship.NewRepository(c, ref), small{to}, ship.Options{Serial: true}); !errors.Is(err, errdef.ErrCorrupt) {
		t.Errorf("other bytes after a break: %v", err)
	}
}

// small is a target where only large blobs break.
type small struct{ *brokenTarget }

func (s small) PutBlob(ctx context.Context, desc ocispec.Descriptor, open func() (io.ReadCloser, error)) error {
	if desc.Size < 1<<20 {
		return (&brokenTarget{got: s.got}).PutBlob(ctx, desc, open)
	}
	return s.brokenTarget.PutBlob(ctx, desc, open)
}

// counter counts what is written.
type counter struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (w counter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.n.Add(int64(n))
	return n, err
}

// forger changes the last byte of each piece.
type forger struct{ http.ResponseWriter }

func (w forger) Write(p []byte) (int, error) {
	return w.ResponseWriter.Write(append(bytes.Clone(p[:len(p)-1]), ^p[len(p)-1]))
}

// deadSource is one whose blobs cannot be had any more.
type deadSource struct {
	*memory
	asked atomic.Int32
}

func (s *deadSource) BlobRange(context.Context, ocispec.Descriptor, int64, int64) (io.ReadCloser, error) {
	s.asked.Add(1)
	return nil, errdef.ErrUnavailable
}

// stubborn is a target that tries an upload again and again.
type stubborn struct{ *brokenTarget }

func (stubborn) PutBlob(_ context.Context, _ ocispec.Descriptor, open func() (io.ReadCloser, error)) (err error) {
	for range 3 {
		var r io.ReadCloser
		if r, err = open(); err == nil {
			_, err = io.ReadAll(r)
			r.Close()
		}
	}
	return err
}

// TestDeadSource holds that a source which has been asked often enough for a blob is not asked again for each try of its upload.
func TestDeadSource(t *testing.T) {
	m := newMemory()
	m.root = m.document(ocispec.MediaTypeImageManifest, ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest, Config: m.blob(ocispec.MediaTypeImageConfig, "{}"), Layers: []ocispec.Descriptor{}})
	from := &deadSource{memory: m}
	if _, err := ship.Copy(t.Context(), from, stubborn{&brokenTarget{}}, ship.Options{}); !errors.Is(err, errdef.ErrUnavailable) {
		t.Error(err)
	}
	if n := from.asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}
