package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/errdef"
	"strata/internal/oci"
	"strata/internal/reference"
)

// maxReferrers bounds the referrers of one manifest.
const maxReferrers = 10_000

// errNoReferrers: the registry does not list referrers; there may be a list under the fallback tag.
var errNoReferrers = errors.New("lists no referrers")

// Referrers lists the manifests of ref's repository that are about the one with digest d: from the registry's own list,
// else from the one that clients keep under a tag where the registry has none. See distribution-spec, "Listing Referrers".
// None is an empty list; a list that cannot be had is an error.
func (c *Client) Referrers(ctx context.Context, ref reference.Ref, d digest.Digest) ([]ocispec.Descriptor, error) {
	ref = ref.WithDigest(d)
	return pull(ctx, c, ref, canRefer, func(e *endpoint) ([]ocispec.Descriptor, error) {
		list, err := e.referrers(ctx, ref)
		if errors.Is(err, errNoReferrers) {
			list, _, err = e.fallbackList(ctx, ref)
			if e.mirror && err == nil && len(list) == 0 {
				// A mirror that knows nothing of referrers says nothing about whether there are some.
				return nil, fmt.Errorf("referrers of %s: %s: %w", ref.Familiar(), e.name(), errdef.ErrNotFound)
			}
		}
		return list, err
	})
}

// referrers asks for the registry's own list.
func (e *endpoint) referrers(ctx context.Context, ref reference.Ref) ([]ocispec.Descriptor, error) {
	about := pulled("referrers of "+ref.Familiar(), ref)
	r := request{method: http.MethodGet, path: ref.Path + "/referrers/" + string(ref.Digest), repo: ref.Path, scopes: pullScope(ref),
		header: http.Header{"Accept": {ocispec.MediaTypeImageIndex}}, about: about, check: listsReferrers}
	var list []ocispec.Descriptor
	var wrong error
	err := e.pages(ctx, r, func(raw []byte) (bool, error) {
		x, err := oci.ParseIndex(raw)
		if err != nil {
			return false, err
		}
		list = append(list, x.Manifests...)
		if len(list) > maxReferrers {
			wrong = fmt.Errorf("%s: more than %d: %w", about.noun, maxReferrers, errdef.ErrLimit)
		}
		return wrong == nil, nil
	})
	if errors.Is(err, errdef.ErrUnsupported) {
		err = errNoReferrers
	}
	return list, errors.Join(err, wrong)
}

// listsReferrers tells from an answer whether a registry has lists of referrers at all. Those that have none answer as they
// do for any page that is not there.
func listsReferrers(resp *http.Response) error {
	switch resp.StatusCode {
	case http.StatusOK:
		if contentType(resp) == ocispec.MediaTypeImageIndex {
			return nil
		}
		return errNoReferrers
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return errNoReferrers
	}
	return nil
}

// fallbackTag is the tag under which clients keep the list: distribution-spec, "Referrers Tag Schema".
func fallbackTag(d digest.Digest) string { return d.Algorithm().String() + "-" + d.Encoded() }

// fallbackList reads it. Without the tag the list is empty.
func (e *endpoint) fallbackList(ctx context.Context, ref reference.Ref) ([]ocispec.Descriptor, *ocispec.Index, error) {
	tagged, err := ref.WithTag(fallbackTag(ref.Digest))
	if err != nil {
		return nil, nil, err
	}
	doc, err := e.manifest(ctx, tagged)
	if errors.Is(err, errdef.ErrNotFound) {
		return nil, nil, nil
	}
	if err == nil && !oci.IsIndex(doc.Descriptor.MediaType) {
		err = fmt.Errorf("referrers of %s: tag %s is no list of them but a %.80s: %w", ref.Familiar(), tagged.Tag, doc.Descriptor.MediaType, errdef.ErrInvalid)
	}
	if err != nil {
		return nil, nil, err
	}
	x, err := oci.ParseIndex(doc.Raw)
	if err != nil {
		return nil, nil, err
	}
	return x.Manifests, x, nil
}

// Attach sees that the registry lists the manifest desc, which ref's repository has, among the referrers of subject: where
// the registry does not do that by itself, in the list under the fallback tag. Two clients that do so at the same time can
// lose an entry; no registry offers more.
func (c *Client) Attach(ctx context.Context, ref reference.Ref, subject digest.Digest, desc ocispec.Descriptor) error {
	ref = ref.WithDigest(subject)
	e, err := c.forPush(ref)
	if err != nil {
		return err
	}
	if _, err := e.referrers(ctx, ref); !errors.Is(err, errNoReferrers) {
		return err
	}
	list, x, err := e.fallbackList(ctx, ref)
	if err != nil {
		return err
	}
	for _, d := range list {
		if d.Digest == desc.Digest {
			return nil
		}
	}
	if x == nil {
		x = &ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	}
	x.Manifests = append(x.Manifests, desc)
	raw, err := oci.Marshal(x)
	if err != nil {
		return err
	}
	tagged, err := ref.WithTag(fallbackTag(subject))
	if err != nil {
		return err
	}
	_, err = c.PutManifest(ctx, tagged, ocispec.MediaTypeImageIndex, raw)
	return err
}
