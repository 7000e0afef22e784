package remote

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/errdef"
	"strata/internal/reference"
)

func versioned() specs.Versioned { return specs.Versioned{SchemaVersion: 2} }

// suite is what every registry must be able to do for a client that may push.
func suite(t *testing.T, c *Client, host string) {
	t.Helper()
	ctx := context.Background()
	ref := parse(t, host+"/team/app:1")
	raw := push(t, c, ref)
	layer := bytes.Repeat([]byte("layer "), 1<<18)

	d, n, err := c.StreamBlob(ctx, ref, func(w io.Writer) error { _, err := io.Copy(w, bytes.NewReader(layer)); return err })
	if err != nil || d != descriptor(layer).Digest || n != int64(len(layer)) {
		t.Fatalf("stream: %s, %d, %v", d, n, err)
	}
	if err := c.PutBlob(ctx, ref, descriptor(nil), opener(nil)); err != nil {
		t.Errorf("empty blob: %v", err)
	}
	for _, offset := range []int64{0, 7, n} {
		rc, err := c.BlobRange(ctx, ref, descriptor(layer), offset, n)
		if err != nil {
			t.Fatalf("blob from %d on: %v", offset, err)
		}
		got, err := io.ReadAll(rc)
		rc.Close()
		if err != nil || !bytes.Equal(got, layer[offset:]) {
			t.Errorf("blob from %d on: %d bytes, %v", offset, len(got), err)
		}
	}
	for blob, want := range map[string]bool{string(layer): true, "nobody has this": false} {
		if got, err := c.HasBlob(ctx, ref, descriptor([]byte(blob)).Digest); got != want || err != nil {
			t.Errorf("has %.10s…: %v, %v", blob, got, err)
		}
	}
	other := parse(t, host+"/team/other:2")
	if _, err := c.MountBlob(ctx, other, ref.Path, d); err != nil {
		t.Errorf("mount: %v", err)
	}
	if mounted, err := c.MountBlob(ctx, other, "team/nothing", descriptor([]byte("unheard of")).Digest); mounted || err != nil {
		t.Errorf("mount of nothing: %v, %v", mounted, err)
	}
	push(t, c, other)
	readSuite(t, c, ref, raw)
}

// readSuite reads the image of push.
func readSuite(t *testing.T, c *Client, ref reference.Ref, raw []byte) {
	t.Helper()
	ctx := context.Background()
	want := descriptor(raw)
	want.MediaType = ocispec.MediaTypeImageManifest
	for _, r := range []reference.Ref{ref, ref.WithDigest(want.Digest)} {
		got, err := c.Head(ctx, r)
		if err != nil || got.Digest != want.Digest || got.MediaType != want.MediaType || got.Size != want.Size {
			t.Errorf("head %s: %v, %v", r, got, err)
		}
		doc, err := c.Manifest(ctx, r)
		if err != nil || !bytes.Equal(doc.Raw, raw) || doc.Descriptor.Digest != want.Digest {
			t.Errorf("manifest %s: %v, %v", r, doc.Descriptor, err)
		}
	}
	second, err := ref.WithTag("second")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.PutManifest(ctx, second, want.MediaType, raw); err == nil {
		if tags, err := c.Tags(ctx, ref, 0); err != nil || !slices.Contains(tags, "second") {
			t.Errorf("tags: %v, %v", tags, err)
		}
		if tags, err := c.Tags(ctx, ref, 1); err != nil || len(tags) != 1 {
			t.Errorf("one tag: %v, %v", tags, err)
		}
	}
	missing := ref
	missing.Tag = "missing"
	if _, err := c.Manifest(ctx, missing); !errors.Is(err, errdef.ErrNotFound) || !strings.HasPrefix(err.Error(), "manifest for "+missing.Familiar()) {
		t.Errorf("missing: %v", err)
	}
	if _, err := c.Head(ctx, missing); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("head missing: %v", err)
	}
	if _, err := c.Blob(ctx, ref, descriptor([]byte("nobody has this"))); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("missing blob: %v", err)
	}
}

// TestPlain is a registry on loopback without TLS and without login.
func TestPlain(t *testing.T) {
	suite(t, newClient(t), serve(t, plainRegistry()))
}

// TestUserAgent holds that every request carries it.
func TestUserAgent(t *testing.T) {
	next := plainRegistry()
	host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("User-Agent"); got != "strata/test" {
			t.Errorf("%s %s: User-Agent %q", r.Method, r.URL, got)
		}
		next.ServeHTTP(w, r)
	}))
	push(t, newClient(t), parse(t, host+"/app:1"))
}

// TestUploadTakesTheOfferedSession holds that a refused mount's session is used for the upload.
func TestUploadTakesTheOfferedSession(t *testing.T) {
	posts, next := 0, plainRegistry()
	host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			posts++
		}
		next.ServeHTTP(w, r)
	}))
	c, ref, blob := newClient(t), parse(t, host+"/app:1"), []byte("blob")
	if mounted, err := c.MountBlob(context.Background(), ref, "base", descriptor(blob).Digest); mounted || err != nil {
		t.Fatal(mounted, err)
	}
	if err := c.PutBlob(context.Background(), ref, descriptor(blob), opener(blob)); err != nil || posts != 1 {
		t.Errorf("%d sessions, %v", posts, err)
	}
}

// TestForeignLayer holds that a layer that lies elsewhere is refused.
func TestForeignLayer(t *testing.T) {
	d := descriptor([]byte("x"))
	d.URLs = []string{"https://elsewhere.example/x"}
	if _, err := newClient(t).Blob(context.Background(), parse(t, "localhost/x"), d); !errors.Is(err, errdef.ErrUnsupported) {
		t.Error(err)
	}
}
