package remote

import (
	"context"
	"net/http"

	"strata/internal/reference"
)

// Remove takes a tag away, or a manifest with all its tags where ref has a digest. errdef.ErrUnsupported from a registry
// that does not do this; many remove manifests only, and no single tag.
func (c *Client) Remove(ctx context.Context, ref reference.Ref) error {
	e, err := c.forPush(ref)
	if err != nil {
		return err
	}
	about := subject{noun: "removal of " + ref.Familiar(), repo: ref.FamiliarName(), push: true}
	resp, err := e.do(ctx, request{
		method: http.MethodDelete, path: manifestPath(ref), repo: ref.Path, about: about,
		scopes: []string{repositoryScope(ref.Path, "delete", "pull", "push")},
	})
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusAccepted || resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusNoContent {
		return resp.Body.Close()
	}
	return e.refused(resp, about)
}

// HasManifest reports whether ref's repository has the manifest with ref's digest, there where a push goes.
func (c *Client) HasManifest(ctx context.Context, ref reference.Ref) (bool, error) {
	e, err := c.forPush(ref)
	if err != nil {
		return false, err
	}
	r := manifestRequest(http.MethodHead, ref)
	r.scopes, r.about, r.header = pushScope(ref), pushed(ref), http.Header{"Accept": anything()}
	resp, err := e.do(ctx, r)
	if err != nil {
		return false, err
	}
	switch resp.StatusCode {
	case http.StatusOK, http.StatusNotFound:
		return resp.StatusCode == http.StatusOK, resp.Body.Close()
	}
	return false, e.refused(resp, pushed(ref))
}
