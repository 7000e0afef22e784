package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/errdef"
	"strata/internal/oci"
	"strata/internal/reference"
)

// listingRegistry is one that lists referrers by itself.
func listingRegistry() http.Handler {
	return registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true))
}

// attach pushes an artifact about subject and has it listed.
func attach(t *testing.T, c *Client, ref reference.Ref, subject ocispec.Descriptor, kind string) ocispec.Descriptor {
	t.Helper()
	config := []byte(`{}`)
	if err := c.PutBlob(t.Context(), ref, descriptor(config), opener(config)); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(ocispec.Manifest{
		Versioned: versioned(), MediaType: ocispec.MediaTypeImageManifest, ArtifactType: kind,
		Config: descriptor(config), Layers: []ocispec.Descriptor{}, Subject: &subject,
	})
	if err != nil {
		t.Fatal(err)
	}
	d, err := c.PutManifest(t.Context(), ref.Repository(), ocispec.MediaTypeImageManifest, raw)
	if err != nil {
		t.Fatal(err)
	}
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: int64(len(raw)), ArtifactType: kind}
	if err := c.Attach(t.Context(), ref, subject.Digest, desc); err != nil {
		t.Fatal(err)
	}
	return desc
}

func TestReferrers(t *testing.T) {
	for name, h := range map[string]http.Handler{"listing": listingRegistry(), "fallback tag": plainRegistry()} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t)
			ref := parse(t, serve(t, h)+"/team/app:1")
			raw := push(t, c, ref)
			subject := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
			if list, err := c.Referrers(t.Context(), ref, subject.Digest); err != nil || len(list) != 0 {
				t.Fatalf("before there are any: %v, %v", list, err)
			}
			want := map[digest.Digest]bool{}
			for n := range 3 {
				want[attach(t, c, ref, subject, fmt.Sprintf("application/x-%d", n)).Digest] = true
			}
			list, err := c.Referrers(t.Context(), ref, subject.Digest)
			if err != nil || len(list) != len(want) {
				t.Fatalf("%v, %v", list, err)
			}
			for _, d := range list {
				if !want[d.Digest] {
					t.Errorf("%s is none", d.Digest)
				}
			}
			again := attach(t, c, ref, subject, "application/x-0")
			if list, err = c.Referrers(t.Context(), ref, subject.Digest); err != nil || len(list) != len(want) {
				t.Fatalf("%s attached again: %v, %v", again.Digest, list, err)
			}
		})
	}
}

// A list that cannot be had is no empty list.
func TestReferrersFail(t *testing.T) {
	answers := map[string]struct {
		h    http.HandlerFunc
		want error
	}{
		"server error": {func(w http.ResponseWriter, _ *http.Request) { refuse(w, 500, "", "oops") }, errdef.ErrUnavailable},
		"denied":       {func(w http.ResponseWriter, _ *http.Request) { refuse(w, 403, "DENIED", "no") }, errdef.ErrDenied},
		"nonsense": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			_, _ = io.WriteString(w, `{"manifests":[{"digest":"sha256:short"}]}`)
		}, errdef.ErrInvalid},
		"a list that is none": {func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/referrers/") {
				refuse(w, 404, "", "page not found")
				return
			}
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			_, _ = w.Write(manifestFor([]byte(`{}`)))
		}, errdef.ErrInvalid},
		"tag that cannot be read": {func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/referrers/") {
				refuse(w, 404, "", "page not found")
				return
			}
			refuse(w, 502, "", "bad gateway")
		}, errdef.ErrUnavailable},
	}
	for name, a := range answers {
		t.Run(name, func(t *testing.T) {
			c := newClient(t)
			ref := parse(t, serve(t, a.h)+"/team/app:1")
			if list, err := c.Referrers(t.Context(), ref, digest.FromString("x")); !errors.Is(err, a.want) {
				t.Errorf("%v, %v", list, err)
			}
		})
	}
}

func TestReferrersPages(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		page := r.URL.Query().Get("page")
		if page == "" {
			w.Header().Set("Link", `</v2/team/app/referrers/x?page=2>; rel="next"`)
		}
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		raw, _ := oci.Marshal(ocispec.Index{Versioned: versioned(), Manifests: []ocispec.Descriptor{descriptor([]byte("page" + page))}})
		_, _ = w.Write(raw)
	}
	c := newClient(t)
	ref := parse(t, serve(t, http.HandlerFunc(h))+"/team/app:1")
	if list, err := c.Referrers(t.Context(), ref, digest.FromString("x")); err != nil || len(list) != 2 {
		t.Errorf("%v, %v", list, err)
	}
}

func TestRemove(t *testing.T) {
	c := newClient(t)
	ref := parse(t, serve(t, plainRegistry())+"/team/app:1")
	push(t, c, ref)
	if err := c.Remove(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Manifest(t.Context(), ref); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("the tag is still there: %v", err)
	}
	if err := c.Remove(t.Context(), ref); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
	stubborn := func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, 405, "UNSUPPORTED", "The operation is unsupported.")
	}
	if err := c.Remove(t.Context(), parse(t, serve(t, http.HandlerFunc(stubborn))+"/team/app:1")); !errors.Is(err, errdef.ErrUnsupported) {
		t.Errorf("a registry that removes nothing: %v", err)
	}
}

// Documents of kinds that nobody here knows are passed on.
func TestAny(t *testing.T) {
	const kind = "application/vnd.example.thing+json"
	raw := []byte(`{"mediaType":"` + kind + `","thing":1}`)
	h := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", kind)
		if strings.HasSuffix(r.URL.Path, "/contradicts") {
			w.Header().Set("Content-Type", "application/vnd.example.other+json")
		}
		_, _ = w.Write(raw)
	}
	c := newClient(t)
	host := serve(t, http.HandlerFunc(h))
	doc, err := c.Any(context.Background(), parse(t, host+"/a:1"))
	if err != nil || doc.Descriptor.MediaType != kind || string(doc.Raw) != string(raw) {
		t.Errorf("%+v, %v", doc.Descriptor, err)
	}
	if _, err := c.Manifest(context.Background(), parse(t, host+"/a:1")); !errors.Is(err, errdef.ErrUnsupported) {
		t.Errorf("as an image: %v", err)
	}
	if _, err := c.Any(context.Background(), parse(t, host+"/a:contradicts")); !errors.Is(err, errdef.ErrInvalid) {
		t.Errorf("a contradiction: %v", err)
	}
}
