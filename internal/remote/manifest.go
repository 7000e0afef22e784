package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/errdef"
	"strata/internal/oci"
	"strata/internal/reference"
)

// The media types of docker's schema 2.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerSchema1  = "application/vnd.docker.distribution.manifest.v1"
	octets         = "application/octet-stream"
)

func accepted() []string {
	return []string{ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, dockerList, dockerManifest}
}

// anything prefers what is known: some registries answer a mere */* with docker's schema 1.
func anything() []string { return append(accepted(), "*/*;q=0.5") }

// Head asks what a tag or digest stands for without fetching it.
func (c *Client) Head(ctx context.Context, ref reference.Ref) (ocispec.Descriptor, error) {
	ref = ref.Latest()
	return pull(ctx, c, ref, wanted(ref), func(e *endpoint) (ocispec.Descriptor, error) { return e.head(ctx, ref) })
}

// Standing is the digest of what ref's tag stands for, there where a push goes; "" where it stands for nothing or that cannot
// be told.
func (c *Client) Standing(ctx context.Context, ref reference.Ref) digest.Digest {
	e, err := c.forPush(ref)
	if err != nil {
		return ""
	}
	r := manifestRequest(http.MethodHead, ref)
	r.scopes = pushScope(ref)
	resp, err := e.do(ctx, r)
	if err != nil {
		return ""
	}
	resp.Body.Close()
	d, err := oci.ParseDigest(resp.Header.Get("Docker-Content-Digest"))
	if resp.StatusCode != http.StatusOK || err != nil {
		return ""
	}
	return d
}

// Manifest fetches the manifest or index that a tag or digest stands for.
func (c *Client) Manifest(ctx context.Context, ref reference.Ref) (Document, error) {
	ref = ref.Latest()
	return pull(ctx, c, ref, wanted(ref), func(e *endpoint) (Document, error) { return e.manifest(ctx, ref) })
}

// Any is Manifest for a document of whatever media type, for those who only pass it on.
func (c *Client) Any(ctx context.Context, ref reference.Ref) (Document, error) {
	ref = ref.Latest()
	return pull(ctx, c, ref, wanted(ref), func(e *endpoint) (Document, error) { return e.document(ctx, ref, anything, anyType) })
}

// wanted is what an endpoint must be good for to be asked for ref: tags want more trust than digests.
func wanted(ref reference.Ref) capability {
	if ref.Digest != "" {
		return canPull
	}
	return canResolve
}

func manifestPath(ref reference.Ref) string {
	if ref.Digest != "" {
		return ref.Path + "/manifests/" + string(ref.Digest)
	}
	return ref.Path + "/manifests/" + ref.Tag
}

func pullScope(ref reference.Ref) []string {
	return []string{repositoryScope(ref.Path, "pull")}
}

func manifestRequest(method string, ref reference.Ref) request {
	return request{method: method, path: manifestPath(ref), repo: ref.Path, scopes: pullScope(ref), header: http.Header{"Accept": accepted()}, about: manifestOf(ref)}
}

func manifestOf(ref reference.Ref) subject { return pulled("manifest for "+ref.Familiar(), ref) }

// head asks with HEAD, and with GET where a registry does not say all that is needed.
func (e *endpoint) head(ctx context.Context, ref reference.Ref) (ocispec.Descriptor, error) {
	resp, err := e.do(ctx, manifestRequest(http.MethodHead, ref))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		if d, ok := headDescriptor(resp, ref); ok {
			return d, nil
		}
	case http.StatusNotFound:
		return ocispec.Descriptor{}, e.refused(resp, manifestOf(ref))
	}
	if busy(resp.StatusCode) {
		return ocispec.Descriptor{}, e.refused(resp, manifestOf(ref))
	}
	doc, err := e.manifest(ctx, ref) // which has a body that says what is wrong
	return doc.Descriptor, err
}

// headDescriptor reads a descriptor from an answer's header, if all of it is there and can be believed.
func headDescriptor(resp *http.Response, ref reference.Ref) (ocispec.Descriptor, bool) {
	d, err := oci.ParseDigest(resp.Header.Get("Docker-Content-Digest"))
	if err != nil || (ref.Digest != "" && d != ref.Digest) {
		return ocispec.Descriptor{}, false
	}
	mediaType := contentType(resp)
	if !known(mediaType) || resp.ContentLength <= 0 || resp.ContentLength > oci.MaxManifest {
		return ocispec.Descriptor{}, false
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: resp.ContentLength}, true
}

func (e *endpoint) manifest(ctx context.Context, ref reference.Ref) (Document, error) {
	return e.document(ctx, ref, accepted, decideType)
}

// document fetches what accept lists; decide finds its media type.
func (e *endpoint) document(ctx context.Context, ref reference.Ref, accept func() []string, decide func(header string, raw []byte) (string, error)) (Document, error) {
	what := "manifest for " + ref.Familiar()
	r := manifestRequest(http.MethodGet, ref)
	r.header = http.Header{"Accept": accept()}
	resp, err := e.do(ctx, r)
	if err != nil {
		return Document{}, err
	}
	if resp.StatusCode != http.StatusOK {
		return Document{}, e.refused(resp, manifestOf(ref))
	}
	defer resp.Body.Close()
	raw, err := e.readAll(ctx, resp, manifestOf(ref), oci.MaxManifest)
	if err != nil {
		return Document{}, err
	}
	d := digest.FromBytes(raw)
	if ref.Digest != "" && d != ref.Digest {
		return Document{}, fmt.Errorf("%s: %s sent something else, %s: %w", what, e.name(), d, errdef.ErrCorrupt)
	}
	if said, err := oci.ParseDigest(resp.Header.Get("Docker-Content-Digest")); err == nil && said != d {
		return Document{}, fmt.Errorf("%s: %s announced %s and sent %s: %w", what, e.name(), said, d, errdef.ErrCorrupt)
	}
	mediaType, err := decide(contentType(resp), raw)
	if err != nil {
		return Document{}, fmt.Errorf("%s: %s: %w", what, e.name(), err)
	}
	return Document{Descriptor: ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(raw))}, Raw: raw}, nil
}

// readAll reads an answer's body of at most limit bytes.
func (e *endpoint) readAll(ctx context.Context, resp *http.Response, about subject, limit int64) ([]byte, error) {
	if resp.ContentLength > limit {
		return nil, fmt.Errorf("%s: %d bytes (at most %d): %w", about.noun, resp.ContentLength, limit, errdef.ErrLimit)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, e.explain(ctx, err, about)
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("%s: more than %d bytes: %w", about.noun, limit, errdef.ErrLimit)
	}
	return raw, nil
}

func contentType(resp *http.Response) string {
	t, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return t
}

func known(mediaType string) bool {
	switch mediaType {
	case ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, dockerList, dockerManifest:
		return true
	}
	return false
}

// decideType finds the media type of a document. The header decides; the document must not contradict it, nor be readable
// as both a manifest and an index. A header that says nothing (application/json) leaves it to the document.
func decideType(header string, raw []byte) (string, error) {
	var doc struct {
		SchemaVersion int             `json:"schemaVersion"`
		MediaType     string          `json:"mediaType"`
		Config        json.RawMessage `json:"config"`
		Layers        json.RawMessage `json:"layers"`
		Manifests     json.RawMessage `json:"manifests"`
		FSLayers      json.RawMessage `json:"fsLayers"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return "", fmt.Errorf("not a JSON document: %w", errdef.ErrInvalid)
	}
	if doc.SchemaVersion == 1 || doc.FSLayers != nil || bytes.HasPrefix([]byte(header), []byte(dockerSchema1)) {
		return "", fmt.Errorf("it has docker's old schema 1, which nothing pushes since 2017: push the image again: %w", errdef.ErrUnsupported)
	}
	isManifest, isIndex := doc.Config != nil || doc.Layers != nil, doc.Manifests != nil
	if isManifest && isIndex {
		return "", fmt.Errorf("it is a manifest and an index at once: %w", errdef.ErrInvalid)
	}
	t := header
	if !known(t) {
		t = doc.MediaType
	}
	switch {
	case t == "" && isIndex:
		t = ocispec.MediaTypeImageIndex
	case t == "" && isManifest:
		t = ocispec.MediaTypeImageManifest
	case !known(t):
		return "", fmt.Errorf("media type %.80q: %w", t, errdef.ErrUnsupported)
	}
	if doc.MediaType != "" && doc.MediaType != t {
		return "", fmt.Errorf("it came as %s and calls itself %.80q: %w", t, doc.MediaType, errdef.ErrInvalid)
	}
	if index := t == ocispec.MediaTypeImageIndex || t == dockerList; index && isManifest || !index && isIndex {
		return "", fmt.Errorf("it is no %s: %w", t, errdef.ErrInvalid)
	}
	return t, nil
}

// anyType is decideType that takes a type that is not known from the header, if the document does not contradict.
func anyType(header string, raw []byte) (string, error) {
	var doc struct {
		MediaType string `json:"mediaType"`
	}
	if header == "" || strings.HasPrefix(header, dockerSchema1) || header == "application/json" || header == octets || known(header) ||
		json.Unmarshal(raw, &doc) != nil {
		return decideType(header, raw)
	}
	if doc.MediaType != "" && doc.MediaType != header {
		return "", fmt.Errorf("it came as %.80s and calls itself %.80q: %w", header, doc.MediaType, errdef.ErrInvalid)
	}
	return header, nil
}

// PutManifest uploads a manifest or index under ref's tag, or its digest when ref has no tag.
func (c *Client) PutManifest(ctx context.Context, ref reference.Ref, mediaType string, raw []byte) (digest.Digest, error) {
	d := digest.FromBytes(raw)
	what := "push of " + ref.Familiar()
	if len(raw) > oci.MaxManifest {
		return "", fmt.Errorf("%s: manifest of %d bytes (at most %d): %w", what, len(raw), oci.MaxManifest, errdef.ErrLimit)
	}
	name := ref.Tag
	if name == "" {
		name = string(d)
	}
	e, err := c.forPush(ref)
	if err != nil {
		return "", err
	}
	resp, err := e.do(ctx, request{
		method: http.MethodPut, path: ref.Path + "/manifests/" + name, repo: ref.Path, scopes: pushScope(ref),
		header: http.Header{"Content-Type": {mediaType}}, size: int64(len(raw)), about: pushed(ref),
		body: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil },
	})
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusCreated {
		return "", e.refused(resp, pushed(ref))
	}
	resp.Body.Close()
	if said, err := oci.ParseDigest(resp.Header.Get("Docker-Content-Digest")); err == nil && said != d {
		return "", fmt.Errorf("%s: %s keeps it as %s, not as %s: %w", what, e.name(), said, d, errdef.ErrCorrupt)
	}
	return d, nil
}
