package ship_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/archive"
	"strata/internal/errdef"
	"strata/internal/oci"
	"strata/internal/reference"
	"strata/internal/remote"
	"strata/internal/ship"
)

// serve starts a registry and gives its host:port. Without referrers it knows no lists of them.
func serve(t *testing.T, referrers bool, wrap ...func(http.Handler) http.Handler) string {
	t.Helper()
	h := registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(referrers))
	for _, w := range wrap {
		h = w(h)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

func client(t *testing.T) *remote.Client {
	t.Helper()
	t.Setenv("HOME", t.TempDir())
	for _, k := range []string{"XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE"} {
		t.Setenv(k, "")
	}
	return remote.New(remote.Options{HostDirs: []string{}, UserAgent: "strata/test"})
}

func parse(t *testing.T, s string) reference.Ref {
	t.Helper()
	ref, err := reference.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// memory is a place in memory: a source of what is put together in it, and a target.
type memory struct {
	root  ocispec.Descriptor
	docs  map[digest.Digest]oci.Document
	blobs map[digest.Digest][]byte
	about map[digest.Digest][]ocispec.Descriptor
}

func newMemory() *memory {
	return &memory{docs: map[digest.Digest]oci.Document{}, blobs: map[digest.Digest][]byte{}, about: map[digest.Digest][]ocispec.Descriptor{}}
}

func (m *memory) Document(_ context.Context, desc ocispec.Descriptor) (oci.Document, error) {
	if desc.Digest == "" {
		desc = m.root
	}
	doc, ok := m.docs[desc.Digest]
	if !ok {
		return doc, fmt.Errorf("manifest %s: %w", desc.Digest, errdef.ErrNotFound)
	}
	return doc, nil
}

func (m *memory) Blob(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	raw, ok := m.blobs[desc.Digest]
	if !ok {
		return nil, fmt.Errorf("blob %s: %w", desc.Digest, errdef.ErrNotFound)
	}
	return io.NopCloser(bytes.NewReader(raw)), nil
}

func (m *memory) Referrers(_ context.Context, d digest.Digest) ([]ocispec.Descriptor, error) {
	return m.about[d], nil
}

func (m *memory) blob(mediaType, text string) ocispec.Descriptor {
	d := digest.FromString(text)
	m.blobs[d] = []byte(text)
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(text))}
}

func (m *memory) document(mediaType string, v any) ocispec.Descriptor {
	raw, err := json.MarshalIndent(v, " ", "   ") // a layout that no encoder of ours would give
	if err != nil {
		panic(err)
	}
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	m.docs[desc.Digest] = oci.Document{Descriptor: desc, Raw: raw}
	return desc
}

func (m *memory) image(mediaType, config, layer, arch string) ocispec.Descriptor {
	return m.document(mediaType, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: mediaType,
		Config: m.blob(config, `{"os":"linux","architecture":"`+arch+`","rootfs":{"type":"layers","diff_ids":[]}}`),
		Layers: []ocispec.Descriptor{m.blob(layer, "layer that all share"), m.blob(layer, "layer of "+arch)},
	})
}

// attach adds an artifact about a document.
func (m *memory) attach(subject ocispec.Descriptor, kind string) ocispec.Descriptor {
	desc := m.document(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: kind,
		Config: m.blob("application/vnd.oci.empty.v1+json", "{}"), Subject: &subject,
		Layers: []ocispec.Descriptor{m.blob("text/plain", kind+" of "+subject.Digest.String())},
	})
	desc.ArtifactType = kind
	m.about[subject.Digest] = append(m.about[subject.Digest], desc)
	return desc
}

// sample is an index of five platforms, docker's and the OCI's, with an attestation of BuildKit's kind, a document and a
// blob of kinds that nobody knows, referrers of the index and of images, and one of a referrer.
func sample() *memory {
	m := newMemory()
	var all []ocispec.Descriptor
	for _, p := range []oci.Platform{{Architecture: "amd64"}, {Architecture: "arm64", Variant: "v8"}, {Architecture: "arm", Variant: "v7"}, {Architecture: "ppc64le"}, {Architecture: "s390x"}} {
		p.OS = "linux"
		types := []string{ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageLayerGzip}
		if p.Architecture == "arm" {
			types = []string{oci.DockerManifest, oci.DockerConfig, oci.DockerLayer}
		}
		desc := m.image(types[0], types[1], types[2], p.Architecture)
		desc.Platform = &p
		all = append(all, desc)
	}
	attestation := m.image(ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, "application/vnd.in-toto+json", "unknown")
	attestation.Platform = &oci.Platform{OS: "unknown", Architecture: "unknown"}
	attestation.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	thing := m.document("application/vnd.example.thing+json", map[string]any{"mediaType": "application/vnd.example.thing+json", "blobs": []any{m.blob("text/x", "thing")}})
	all = append(all, attestation, thing, m.blob("application/vnd.example.cache", "a blob that an index lists"))
	m.root = m.document(ocispec.MediaTypeImageIndex, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: all})
	m.attach(m.root, "application/x-signature")
	m.attach(m.attach(m.root, "application/x-inventory"), "application/x-signature")
	m.attach(all[1], "application/x-signature")
	return m
}

// same compares all that two places have.
func same(t *testing.T, want *memory, got ship.Source) {
	t.Helper()
	root, err := got.Document(t.Context(), ocispec.Descriptor{})
	if err != nil {
		t.Fatal(err)
	}
	if root.Descriptor.Digest != want.root.Digest || root.Descriptor.MediaType != want.root.MediaType {
		t.Errorf("the name stands for %+v, not for %+v", root.Descriptor, want.root)
	}
	for d, doc := range want.docs {
		there, err := got.Document(t.Context(), doc.Descriptor)
		if err != nil || !bytes.Equal(there.Raw, doc.Raw) || there.Descriptor.MediaType != doc.Descriptor.MediaType {
			t.Errorf("document %s (%s): %v", d, doc.Descriptor.MediaType, err)
		}
		list, err := got.Referrers(t.Context(), d)
		if err != nil || len(list) != len(want.about[d]) {
			t.Errorf("referrers of %s: %d, not %d: %v", d, len(list), len(want.about[d]), err)
		}
	}
	for d, raw := range want.blobs {
		r, err := got.Blob(t.Context(), ocispec.Descriptor{Digest: d, Size: int64(len(raw))})
		if err != nil {
			t.Errorf("blob %s: %v", d, err)
			continue
		}
		if there, err := io.ReadAll(r); err != nil || !bytes.Equal(there, raw) {
			t.Errorf("blob %s: %v", d, err)
		}
		r.Close()
	}
}

func copyAll(t *testing.T, from ship.Source, to ship.Target) ship.Result {
	t.Helper()
	_, tar := to.(*archive.Collected)
	res, err := ship.Copy(t.Context(), from, to, ship.Options{Referrers: true, Serial: tar})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// An index of five platforms goes from registry to registry, with and without lists of referrers, and keeps every byte.
func TestBetweenRegistries(t *testing.T) {
	for _, lists := range []bool{true, false} {
		t.Run(fmt.Sprintf("lists=%v", lists), func(t *testing.T) {
			c, want := client(t), sample()
			first := ship.NewRepository(c, parse(t, serve(t, true)+"/team/app:1"))
			copyAll(t, want, first)
			same(t, want, first)
			second := ship.NewRepository(c, parse(t, serve(t, lists)+"/other/app:2"))
			res := copyAll(t, first, second)
			same(t, want, second)
			if res.Sent != len(want.blobs) || res.Referrers != 4 {
				t.Errorf("%+v, of %d blobs", res, len(want.blobs))
			}
			if again := copyAll(t, first, second); again.Sent != 0 {
				t.Errorf("again: %+v", again)
			}
			third := ship.NewRepository(c, parse(t, serve(t, !lists)+"/a:b"))
			copyAll(t, second, third)
			same(t, want, third)
		})
	}
}

// The same through an OCI layout, as a directory and as a tar.
func TestThroughLayouts(t *testing.T) {
	c, want, dir := client(t), sample(), t.TempDir()
	layout := filepath.Join(dir, "layout")
	all, err := archive.OpenCollection(t.Context(), layout)
	if err != nil {
		t.Fatal(err)
	}
	copyAll(t, want, all.Tagged("1"))
	if err := all.Close(); err != nil {
		t.Fatal(err)
	}
	var tars [2]bytes.Buffer
	for i := range tars {
		all, err := archive.NewCollection(&tars[i], false)
		if err != nil {
			t.Fatal(err)
		}
		copyAll(t, open(t, layout, "1"), all.Image("docker.io/team/app:1"))
		if err := all.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(tars[0].Bytes(), tars[1].Bytes()) {
		t.Error("two archives of the same image differ")
	}
	tar := filepath.Join(dir, "app.tar")
	if err := os.WriteFile(tar, tars[0].Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "1", "team/app:1", "docker.io/team/app:1"} {
		same(t, want, open(t, tar, name))
	}
	back := ship.NewRepository(c, parse(t, serve(t, true)+"/back:1"))
	copyAll(t, open(t, tar, ""), back)
	same(t, want, back)
}

func open(t *testing.T, path, name string) ship.Source {
	t.Helper()
	p, err := archive.OpenPlace(t.Context(), path, func() (string, error) { return t.TempDir(), nil })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	img, err := p.Layout(name)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestOnePlatform(t *testing.T) {
	c, want := client(t), sample()
	to := ship.NewRepository(c, parse(t, serve(t, true)+"/app:1"))
	arm := oci.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
	res, err := ship.Copy(t.Context(), want, to, ship.Options{Platform: &arm, Strict: true, Referrers: true})
	if err != nil || res.Referrers != 1 || res.Documents != 2 {
		t.Errorf("%+v, %v", res, err)
	}
	doc, err := to.Document(t.Context(), ocispec.Descriptor{})
	if err != nil || doc.Descriptor.MediaType != ocispec.MediaTypeImageManifest || !bytes.Equal(doc.Raw, want.docs[doc.Descriptor.Digest].Raw) {
		t.Errorf("%+v, %v", doc.Descriptor, err)
	}
	// A lone image is none for another platform, if somebody asked for that.
	lone := newMemory()
	lone.root = lone.image(ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageLayerGzip, "s390x")
	if _, err := ship.Copy(t.Context(), lone, to, ship.Options{Platform: &arm, Strict: true}); !errors.Is(err, errdef.ErrUnsupported) {
		t.Errorf("another platform: %v", err)
	}
	if _, err := ship.Copy(t.Context(), lone, to, ship.Options{Platform: &arm}); err != nil {
		t.Errorf("whatever there is: %v", err)
	}
}

// What cannot be copied whole is refused, and nothing is named.
func TestRefused(t *testing.T) {
	foreign := func(d *ocispec.Descriptor) { d.URLs = []string{"https://elsewhere.example/layer"} }
	for name, c := range map[string]struct {
		spoil func(m *memory)
		want  error
	}{
		"layer elsewhere": {func(m *memory) {
			l := m.blob(ocispec.MediaTypeImageLayerGzip, "x")
			foreign(&l)
			m.root = m.document(ocispec.MediaTypeImageManifest, ocispec.Manifest{Config: m.blob(ocispec.MediaTypeImageConfig, "{}"), Layers: []ocispec.Descriptor{l}})
		}, errdef.ErrUnsupported},
		"layer of a foreign type": {func(m *memory) {
			l := m.blob("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "x")
			m.root = m.document(oci.DockerManifest, ocispec.Manifest{Config: m.blob(oci.DockerConfig, "{}"), Layers: []ocispec.Descriptor{l}})
		}, errdef.ErrUnsupported},
		"other bytes":      {func(m *memory) { m.blobs[digest.FromString("layer of arm")] = []byte("layer of arn") }, errdef.ErrCorrupt},
		"too few bytes":    {func(m *memory) { m.blobs[digest.FromString("layer of arm")] = []byte("layer") }, errdef.ErrCorrupt},
		"too many bytes":   {func(m *memory) { m.blobs[digest.FromString("layer of arm")] = []byte("layer of arm and more") }, errdef.ErrCorrupt},
		"a missing blob":   {func(m *memory) { delete(m.blobs, digest.FromString("layer of arm")) }, errdef.ErrNotFound},
		"another document": {func(m *memory) { swap(m) }, errdef.ErrCorrupt},
		"a lying list of referrers": {func(m *memory) {
			for d := range m.docs {
				m.about[d] = append(m.about[d], m.root) // the index is about nothing, and this would be a circle
			}
		}, errdef.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			m := sample()
			c.spoil(m)
			host := serve(t, true)
			to := ship.NewRepository(client(t), parse(t, host+"/app:1"))
			if _, err := ship.Copy(t.Context(), m, to, ship.Options{Referrers: true}); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if doc, err := to.Document(t.Context(), ocispec.Descriptor{}); !errors.Is(err, errdef.ErrNotFound) {
				t.Errorf("the name stands for %+v, %v", doc.Descriptor, err)
			}
		})
	}
}

// swap gives one document's bytes for another's digest.
func swap(m *memory) {
	var last oci.Document
	for d, doc := range m.docs {
		if last.Raw != nil && d != m.root.Digest {
			m.docs[d] = oci.Document{Descriptor: doc.Descriptor, Raw: last.Raw}
			if doc.Descriptor.MediaType == last.Descriptor.MediaType {
				return
			}
		}
		if d != m.root.Digest {
			last = doc
		}
	}
}

// In one registry a blob of another repository is taken over, not sent.
func TestMounted(t *testing.T) {
	var sent atomic.Int32
	counting := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/blobs/uploads/") || r.Method == http.MethodPatch {
				sent.Add(1)
			}
			next.ServeHTTP(w, r)
		})
	}
	c, want, host := client(t), sample(), serve(t, true, counting)
	first := ship.NewRepository(c, parse(t, host+"/a:1"))
	copyAll(t, want, first)
	before := sent.Load()
	second := ship.NewRepository(c, parse(t, host+"/b:1")).Near(parse(t, host+"/a:1"))
	copyAll(t, first, second)
	same(t, want, second)
	if after := sent.Load(); after != before {
		t.Errorf("%d blobs were sent", after-before)
	}
}

// What is about an image cannot have the image as a part: neither could be there first. Nor do two images, each with the other in what
// is about it, wait for each other.
func TestReferrerHoldsItsSubject(t *testing.T) {
	about := func(m *memory, subject ocispec.Descriptor, parts ...ocispec.Descriptor) {
		m.about[subject.Digest] = append(m.about[subject.Digest], m.document(ocispec.MediaTypeImageIndex, ocispec.Index{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, ArtifactType: "application/x", Manifests: parts, Subject: &subject,
		}))
	}
	for name, build := range map[string]func(m *memory, one, two ocispec.Descriptor){
		"the root":   func(m *memory, one, _ ocispec.Descriptor) { m.root = one; about(m, one, one) },
		"each other": func(m *memory, one, two ocispec.Descriptor) { about(m, one, two); about(m, two, one) },
		"itself":     func(m *memory, one, _ ocispec.Descriptor) { about(m, one, one) },
	} {
		m := newMemory()
		one := m.image(ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageLayer, "amd64")
		two := m.image(ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageLayer, "arm64")
		m.root = m.document(ocispec.MediaTypeImageIndex, ocispec.Index{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{one, two},
		})
		build(m, one, two)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		_, err := ship.Copy(ctx, m, ship.NewRepository(client(t), parse(t, serve(t, true)+"/app:1")), ship.Options{Referrers: true})
		cancel()
		if !errors.Is(err, errdef.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Indexes that list each other many times are looked at once.
func TestManyPaths(t *testing.T) {
	m := newMemory()
	m.root = m.image(ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageLayer, "amd64")
	for range 4 {
		list := make([]ocispec.Descriptor, 500)
		for i := range list {
			list[i] = m.root
		}
		m.root = m.document(ocispec.MediaTypeImageIndex, ocispec.Index{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: list,
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	result, err := ship.Copy(ctx, m, ship.NewRepository(client(t), parse(t, serve(t, true)+"/app:1")), ship.Options{})
	if err != nil || result.Documents != 5 {
		t.Errorf("%d documents, %v", result.Documents, err)
	}
}
